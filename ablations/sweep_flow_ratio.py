"""Fig. 5: how many flow steps F is a reconstruction step worth, and should weights be shared?

    python ablations/sweep_flow_ratio.py                    digits: F = 1, 4, 14, on 2 CPU cores
    python ablations/sweep_flow_ratio.py --dry-run          what would be trained, and for how long
    python ablations/sweep_flow_ratio.py --seeds 3          more seeds: only what is new is trained
    python ablations/sweep_flow_ratio.py --equal compute    equal training FLOPs instead of images
    python ablations/sweep_flow_ratio.py --scale paper --data s3://...      ImageNet, on a cluster

Each training step encodes a batch of images once and noises its latents F times. The second arm
trains two encoders, so it also has more parameters; the third widens the shared encoder until the
counts meet. --help says what the paper finds.

The same command again finishes an interrupted sweep and trains nothing twice.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from unite.entry import run


def main() -> int:
    """Run the sweep; 0 when done, 1 when trials failed, 2 when it cannot run, 130 on Ctrl-C."""
    from unite.commands import sweep

    return sweep.main("flow_ratio", __doc__)


if __name__ == "__main__":
    sys.exit(run(main, stopped="stopped at once; the same command goes on from here"))
