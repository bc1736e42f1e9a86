"""Draw samples from a trained model: PNGs, samples.npz and a grid, in one process.

    python jobs/generate.py --labels 0-9 --num 100 --out DIR              the latest run
    python jobs/generate.py --run RUN --labels 3,5,7 --cfg-scale 2 --out DIR

RUN is a run's name or MLflow id, or a path or s3:// URI of a run, a checkpoint, an export or one
of the authors' checkpoints. Sampling settings default to the run's own. DIR holds the samples and
no other images, so that FID tools can read it; the grid is DIR-grid.png.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from unite.entry import run


def main() -> None:
    """Parse and generate; the exit code is 0 on success, 2 for bad input, 130 on Ctrl-C."""
    from unite.config.flags import parse
    from unite.runs import default_storage
    from unite.sampling.arguments import GenerateArguments
    from unite.sampling.finished import record_of, settle

    arguments = settle(parse(GenerateArguments, description=__doc__), default_storage())
    if told := record_of(arguments).lines():
        print("\n".join(told))
        return
    # Imported here so that help, typing errors and finished work answer at once.
    from unite.sampling.generate_job import generate

    generate(arguments, default_storage())


if __name__ == "__main__":
    sys.exit(run(main, stopped="stopped; the same command draws what --out lacks"))
