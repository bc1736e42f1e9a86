"""Table 2 and Section 4: one network that tokenizes and denoises, or two?

    python ablations/sweep_weight_sharing.py                 digits: shared, separate
    python ablations/sweep_weight_sharing.py --seeds 3       more seeds: only what is new is trained
    python ablations/sweep_weight_sharing.py --dry-run       what would be trained, and how long
    python ablations/sweep_weight_sharing.py --scale gpu --data DIR      CIFAR-10

Separate weights keep everything else, the stop-gradient included, and give the denoiser a second
encoder. A small model may find the opposite of the paper, since two small networks hold more than
one: sweep_flow_ratio.py has an arm with equal parameters for that question. --help ends with what
the paper finds.

The same command again finishes an interrupted sweep and trains nothing twice.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from unite.entry import run


def main() -> int:
    """Run the sweep; 0 when done, 1 when trials failed, 2 when it cannot run, 130 on Ctrl-C."""
    from unite.commands import sweep

    return sweep.main("weight_sharing", __doc__)


if __name__ == "__main__":
    sys.exit(run(main, stopped="stopped at once; the same command goes on from here"))
