"""Prepare data: parquet shards of images (crops; JPEG to train on, lossless to measure on) or of
atoms, and a manifest. The first word names the kind of source; without one it is images.

    python jobs/prepare_data.py DIR --out shards             a tree of class folders (ImageNet)
    python jobs/prepare_data.py DIR --split eval --out shards   held-out images, which a run needs
    python jobs/prepare_data.py train.tar --out shards       a tar of one, or of a tar per class
    python jobs/prepare_data.py val.tar --labels LOC_val_solution.csv --split eval --out shards
    python jobs/prepare_data.py PARQUET_DIR --out shards     Hugging Face style parquet
    python jobs/prepare_data.py builtin:digits --out digits  scikit-learn's handwritten digits
    python jobs/prepare_data.py qm9 qm9pack-1.0.3-py3-none-any.whl --out shards/qm9
    python jobs/prepare_data.py mp20 DIR_WITH_CDVAE_CSVS --out shards/mp20

qm9 also takes parquet, dsgdb9nsd.xyz.tar.bz2 and gdb9.sdf; mp20 and perov5 take folders of CIF and
parquet. KIND --help shows the options of a kind. SOURCE and --out are local paths or s3:// URIs.
It runs as a Ray Data job, one task per shard (also by `ray job submit`). The same command again
keeps finished shards and writes the rest.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from unite.entry import run


def main() -> None:
    """Parse, plan, write, show; the exit code is 0 on success, 2 for bad input, 130 on Ctrl-C."""
    from unite.data.ingest.arguments import check_digits, parse_arguments
    from unite.data.ingest.digits import BUILTIN_DIGITS, prepare_digits
    from unite.data.ingest.finished import describe_manifest, is_complete, record_of
    from unite.data.ingest.prepare import describe_plan, plan
    from unite.storage import Store
    from unite.terminal import tell

    arguments = parse_arguments(sys.argv[1:], __doc__)
    ingest = arguments.ingest
    if ingest.source == BUILTIN_DIGITS:
        check_digits(arguments)
        if arguments.dry_run:
            print("1,797 digits: 1,500 to train on, 297 held out, under 1 MiB")
            return
        if not prepare_digits(store := Store.open(ingest.out)):
            print("finished; nothing to do")
        print(describe_manifest(store))
        return
    record = record_of(ingest)
    if told := record and not arguments.dry_run and record.lines():
        print("\n".join(told))
        return
    planned = plan(ingest)
    print(lines := describe_plan(planned, every=arguments.dry_run, tell=tell))
    if arguments.dry_run:
        return
    if is_complete(planned):
        print("finished; nothing to do")
    else:
        # Imported here so that a dry run and finished work need no Ray.
        from unite.drivers.prepare import prepare

        prepare(planned, num_cpus=arguments.num_cpus)
    print(holds := describe_manifest(planned.store))
    if record:
        record.keep([*lines.splitlines(), *holds.splitlines()], [planned.store], planned.store)


if __name__ == "__main__":
    sys.exit(run(main, stopped="stopped; the same command keeps finished shards and goes on"))
