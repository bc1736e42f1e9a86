"""Evaluate a checkpoint: fidelity, reconstruction, alignment, trajectory, entropy, probe, compute.

    python jobs/evaluate.py                                 the latest run, every suite
    python jobs/evaluate.py --run RUN --suite generation    one suite of one run or checkpoint
    python jobs/evaluate.py --recipe unite-b                what needs no training: entropy, compute
    python jobs/evaluate.py --cfg-adaptive                  find the best guidance scale first
    python jobs/evaluate.py fit-extractor --data DIR        fit the feature extractor of a data set
    python jobs/evaluate.py reference --data DIR            build its reference statistics
    python jobs/evaluate.py compare RUN RUN                 two runs, or results.json, in pairs
    python jobs/evaluate.py table4 --run RUN                Table 4: both solvers, both samplings
    python jobs/evaluate.py curve --run RUN                 Fig. 4 with FID at every checkpoint
    python jobs/evaluate.py --push FILE                     send what MLflow did not take

The same command again finishes what was interrupted. Results go to RUN/evaluations/ and into the
training run in MLflow, at the step of the checkpoint. Every number has a card with its protocol.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from unite.entry import run


def main() -> int:
    """Parse and run; 0 on success, 1 when MLflow took nothing, 2 for bad input, 130 on Ctrl-C."""
    from unite.config.flags import parse
    from unite.evaluation import arguments as kinds
    from unite.evaluation.finished import record_of, settle
    from unite.runs import default_storage

    commands = {
        "fit-extractor": kinds.FitArguments,
        "reference": kinds.ReferenceArguments,
        "compare": kinds.CompareArguments,
        "table4": kinds.Table4Arguments,
        "curve": kinds.CurveArguments,
    }
    words = sys.argv[1:]
    kind = commands.get(words[0]) if words else None
    arguments = parse(
        kind or kinds.EvaluateArguments, args=words[1:] if kind else words, description=__doc__
    )
    arguments = settle(arguments, default_storage())
    record = record_of(arguments)
    if lines := record and record.lines():
        print("\n".join(lines))
        return 0
    # Imported here so that help, typing errors and finished work answer at once.
    from unite.drivers import curve, evaluate, features, table4

    if isinstance(arguments, kinds.FitArguments):
        features.fit_extractor(arguments, default_storage())
    elif isinstance(arguments, kinds.ReferenceArguments):
        features.make_reference(arguments, default_storage())
    elif isinstance(arguments, kinds.CompareArguments):
        evaluate.compare(arguments)
    elif isinstance(arguments, kinds.Table4Arguments):
        return table4.main(arguments, default_storage())
    elif isinstance(arguments, kinds.CurveArguments):
        return curve.main(arguments, default_storage())
    else:
        return evaluate.main(arguments, default_storage())
    return 0


if __name__ == "__main__":
    sys.exit(run(main, stopped="the same command goes on from what is finished"))
