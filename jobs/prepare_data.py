"""Prepare images for training: parquet shards of cropped JPEGs, and a manifest.

    python jobs/prepare_data.py DIR --out shards             a tree of class folders (ImageNet)
    python jobs/prepare_data.py train.tar --out shards       a tar of one, or of a tar per class
    python jobs/prepare_data.py val.tar --labels LOC_val_solution.csv --split eval --out shards
    python jobs/prepare_data.py PARQUET_DIR --out shards     Hugging Face style parquet
    python jobs/prepare_data.py builtin:digits --out digits  scikit-learn's handwritten digits

SOURCE and --out are local paths or s3:// URIs. It runs as a Ray Data job, one task per shard (also
by `ray job submit`). The same command again keeps finished shards and writes the rest.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import tyro

from unite.data.ingest.digits import BUILTIN_DIGITS, prepare_digits
from unite.data.ingest.prepare import PrepareConfig, describe_manifest, describe_plan, plan
from unite.storage import Store


@dataclass(frozen=True, kw_only=True)
class Arguments(PrepareConfig):
    """Prepare images for training."""

    source: Annotated[str, tyro.conf.Positional]
    """Tree of class folders, .tar, folder of parquet, or builtin:digits."""
    num_cpus: float = 0
    """CPUs at work at once; 0 = all of the cluster."""
    dry_run: bool = False
    """Print counts and the estimated size, write nothing."""


def main() -> int:
    """Parse, plan, write, show; 0 on success, 2 when the input cannot be used."""
    arguments = tyro.cli(Arguments, description=__doc__)
    try:
        digits = arguments.source == BUILTIN_DIGITS
        _prepare_digits(arguments) if digits else _prepare_images(arguments)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _prepare_digits(arguments: Arguments) -> None:
    if arguments.dry_run:
        print("1,797 digits: 1,500 to train on, 297 held out, under 1 MiB")
        return
    store = Store.open(arguments.out)
    prepare_digits(store)
    print(describe_manifest(store))


def _prepare_images(arguments: Arguments) -> None:
    planned = plan(arguments)
    print(describe_plan(planned))
    if arguments.dry_run:
        return
    # Imported here so that a dry run needs no Ray.
    from unite.cluster.prepare import prepare

    prepare(planned, num_cpus=arguments.num_cpus)
    print(describe_manifest(planned.store))


if __name__ == "__main__":
    sys.exit(main())
