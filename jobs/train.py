"""Train UNITE: one command on a laptop, the same command on a cluster.

    python jobs/train.py                                   digits, a few minutes on 2 CPU cores
    python jobs/train.py cifar10 --data.train DIR          parquet shards (jobs/prepare_data.py)
    python jobs/train.py unite-b --data.train s3://...     ImageNet-256
    python jobs/train.py --config run.yaml                 a recipe in a file, and changes to it
    ray job submit --working-dir . -- python jobs/train.py     on a cluster (docs/cluster.md)

The first word is a recipe (`unite recipes` lists them); every field of it is a flag. The same
command again continues an interrupted run. Ctrl-C saves a checkpoint and ends.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from unite.entry import run


def main() -> int:
    """Parse, prepare, train, show; 0 when done, 2 when it cannot run, 130 when stopped."""
    from unite.config.effects import require_effect
    from unite.config.files import starting_config
    from unite.config.flags import parse
    from unite.config.recipes import recipe
    from unite.training.arguments import TrainArguments
    from unite.training.finished import find_finished, finished_lines

    config, words = starting_config(sys.argv[1:])
    default = TrainArguments(config=config)
    arguments = parse(TrainArguments, default=default, args=words, description=__doc__)
    require_effect(arguments.config, recipe(config.recipe))
    how = {"resume": arguments.resume, "allow_changes": arguments.allow_changes}
    finished = find_finished(arguments.config, **how)
    if finished:
        print("\n".join(finished_lines(*finished, sys.argv[1:])))
        return 0
    # What is heavy is imported now: finished work, help and typing errors answer at once.
    from unite.cluster.connect import prepare_environment

    prepare_environment()
    from unite.drivers.command import carry_out
    from unite.drivers.train import prepare

    return carry_out(prepare(arguments.config, **how), dry=arguments.dry_run)


if __name__ == "__main__":
    sys.exit(
        run(main, stopped="ended at once; the same command continues from the last checkpoint")
    )
