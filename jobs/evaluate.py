"""Evaluate a checkpoint: fidelity, reconstruction, alignment, trajectory, entropy, probe, compute.

    python jobs/evaluate.py                                 the latest run, every suite
    python jobs/evaluate.py --run RUN --suite generation    one suite of one run or checkpoint
    python jobs/evaluate.py --cfg-adaptive                  find the best guidance scale first
    python jobs/evaluate.py fit-extractor --data DIR        fit the feature extractor of a data set
    python jobs/evaluate.py reference --data DIR            build its reference statistics
    python jobs/evaluate.py compare A.json B.json           two evaluations side by side
    python jobs/evaluate.py --push FILE                     send what MLflow did not take

The same command again finishes what was interrupted. Results go to RUN/evaluations/ and into the
training run in MLflow, at the step of the checkpoint. Every number has a card with its protocol.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import tyro
from rich.console import Console

from unite.evaluation.arguments import (
    CompareArguments,
    EvaluateArguments,
    FitArguments,
    ReferenceArguments,
)

COMMANDS = {
    "fit-extractor": FitArguments,
    "reference": ReferenceArguments,
    "compare": CompareArguments,
}


def main() -> int:
    """Parse and run; 0 on success, 1 when MLflow took nothing, 2 for bad input, 130 on Ctrl-C."""
    words = sys.argv[1:]
    kind = COMMANDS.get(words[0], EvaluateArguments) if words else EvaluateArguments
    arguments = tyro.cli(
        kind, args=words[1:] if kind is not EvaluateArguments else words, description=__doc__
    )
    # Imported here so that help and typing errors answer at once.
    from unite.cluster import evaluate, features
    from unite.training.runs import default_storage

    console = Console(highlight=False)
    try:
        if isinstance(arguments, FitArguments):
            features.fit_extractor(arguments, default_storage(), console)
        elif isinstance(arguments, ReferenceArguments):
            features.make_reference(arguments, default_storage(), console)
        elif isinstance(arguments, CompareArguments):
            evaluate.compare(arguments, console)
        else:
            return evaluate.main(arguments, default_storage(), console)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
