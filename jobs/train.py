"""Train UNITE: one command on a laptop, the same command on a cluster.

    python jobs/train.py                                   digits, a few minutes on 2 CPU cores
    python jobs/train.py cifar10 --data.train DIR          parquet shards (jobs/prepare_data.py)
    python jobs/train.py unite-b --data.train s3://...     ImageNet-256
    ray job submit --working-dir . -- python jobs/train.py on a running cluster

The first word is a recipe (`unite recipes` lists them); every field of it is a flag. The same
command again continues an interrupted run. Ctrl-C saves a checkpoint and ends.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import tyro

from unite.cluster.connect import prepare_environment
from unite.config.recipes import recipe
from unite.config.schema import RunConfig

STOPPED = 130  # as a shell reports Ctrl-C


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Train UNITE (METHOD 3) from a named recipe; flags override its fields."""

    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    resume: str = "auto"
    """auto: continue this config's run when it exists. never: a new run. Or a run folder."""
    allow_changes: bool = False
    """Continue a run although the config changed."""
    dry_run: bool = False
    """Check everything, print the plan (length, parameters, FLOPs), start nothing."""


def main() -> int:
    """Parse, prepare, train, show; 0 when done, 2 when it cannot run, 130 when stopped."""
    prepare_environment()
    from unite.cluster.console import print_plan, print_report
    from unite.cluster.launch import launch, prepare
    from unite.training.report import build_report

    arguments = sys.argv[1:]
    name = arguments.pop(0) if arguments and not arguments[0].startswith("-") else "digits"
    try:
        default = Arguments(config=recipe(name))
        chosen = tyro.cli(Arguments, default=default, args=arguments, description=__doc__)
        run = prepare(chosen.config, resume=chosen.resume, allow_changes=chosen.allow_changes)
        print_plan(run)
        if chosen.dry_run:
            return 0
        summary = launch(run)
        if summary["stopped"]:
            print(f"stopped after {summary['images']:,} images; the same command continues")
            return STOPPED
        report = build_report(run)
    except KeyboardInterrupt:
        print("ended at once; the same command continues from the last checkpoint")
        return STOPPED
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print_report(run, report, summary["seconds"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
