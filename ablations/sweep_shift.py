"""Table 6, bottom: at which noise levels should the denoiser be trained?

    python ablations/sweep_shift.py                         digits: alpha = 0, 0.5, 0.75
    python ablations/sweep_shift.py --seeds 3               more seeds: only what is new is trained
    python ablations/sweep_shift.py --dry-run               what would be trained, and for how long
    python ablations/sweep_shift.py --scale gpu --data DIR  CIFAR-10

Drawn times t are shifted by t <- alpha t / (1 + (alpha - 1) t): alpha under 1 moves them towards
noise (t = 0), where a sample's content is decided; alpha = 0 means no shift. Sampling uses the same
map for its grid. --help says what the paper finds.

The same command again finishes an interrupted sweep and trains nothing twice.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from unite.entry import run


def main() -> int:
    """Run the sweep; 0 when done, 1 when trials failed, 2 when it cannot run, 130 on Ctrl-C."""
    from unite.commands import sweep

    return sweep.main("shift", __doc__)


if __name__ == "__main__":
    sys.exit(run(main, stopped="stopped at once; the same command goes on from here"))
