"""Draw samples from a trained model: PNGs, grid.png and samples.npz, in one process.

    python jobs/generate.py --labels 0-9 --num 100 --out DIR              the latest run
    python jobs/generate.py --run RUN --labels 3,5,7 --cfg-scale 2 --out DIR

RUN is a run's name or MLflow id, or a path or s3:// URI of a run, a checkpoint, an export or one
of the authors' checkpoints. Sampling settings default to the run's own.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import tyro

from unite.sampling.generate_job import GenerateArguments, generate
from unite.training.runs import default_storage


def main() -> int:
    """Parse and generate; 0 on success, 2 when the input cannot be used."""
    arguments = tyro.cli(GenerateArguments, description=__doc__)
    try:
        generate(arguments, default_storage())
    except KeyboardInterrupt:
        print(f"\ninterrupted; the PNGs drawn so far are in {arguments.out}", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
