"""Section 4: should the flow loss reach the tokenizer through its latent? Two by two with sharing.

    python ablations/sweep_stop_grad.py                     digits: all four
    python ablations/sweep_stop_grad.py --values "shared, stop-grad" "shared, no stop-grad"
    python ablations/sweep_stop_grad.py --dry-run           what would be trained, and for how long
    python ablations/sweep_stop_grad.py --scale gpu --data DIR      CIFAR-10

The flow loss asks the denoiser to predict the clean latent. Without stop-gradient the latent also
moves towards what is easy to predict. That may help, and it is one step from collapse (a constant
latent is easiest), so latent/std stands beside the distances. Shared weights are coupled already.
--help says what the paper finds.

The same command again finishes an interrupted sweep and trains nothing twice.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from unite.entry import run


def main() -> int:
    """Run the sweep; 0 when done, 1 when trials failed, 2 when it cannot run, 130 on Ctrl-C."""
    from unite.commands import sweep

    return sweep.main("stop_grad", __doc__)


if __name__ == "__main__":
    sys.exit(run(main, stopped="stopped at once; the same command goes on from here"))
