"""Build the report of an experiment: one HTML page that needs no network and no other file.

    python dashboards/build.py                                          experiment unite, in ./runs
    python dashboards/build.py --experiment NAME --out report.html
    python dashboards/build.py --storage s3://bucket/runs --uri http://mlflow:5000 --out s3://...

The page has every run with its numbers beside the paper's, training dynamics (Fig. 4), ablations
(Fig. 5) with their verdicts, the paper's Tables 1, 2 and 6 with ours below, alignment (Fig. 6),
trajectories (Fig. 7), weight entropy, and samples at fixed seeds. A click on a number shows its
metric card. Numbers whose cards differ are never put side by side in silence: the fields that
differ are named.

Runs and curves come from MLflow; evaluations from the runs' folders, or from MLflow where these are
out of reach. Nothing is changed there. What is unfinished or unreadable is named and shown as such.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from unite.entry import run


def main() -> None:
    """Parse and build; the exit code is 0 on success, 2 for bad input, 130 on Ctrl-C."""
    from unite.config.flags import parse
    from unite.reporting.options import ReportOptions

    options = parse(ReportOptions, description=__doc__)
    # Imported here so that help and typing errors answer at once.
    from unite.reporting.build import build
    from unite.runs import default_storage

    print("\n".join(build(options, default_storage(), Path(__file__).parent)))


if __name__ == "__main__":
    sys.exit(run(main))
