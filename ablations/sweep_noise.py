"""Table 6, top: how much noise should the decoder learn to live with?

    python ablations/sweep_noise.py                         digits: sigma = 0.0, 0.6, 0.7, 0.8, 1.0
    python ablations/sweep_noise.py --values 0.7 1.0        two of them
    python ablations/sweep_noise.py --dry-run               what would be trained, and for how long
    python ablations/sweep_noise.py --scale gpu --data DIR  CIFAR-10

In training, half of the latents reach the decoder as t z + (1 - t) eps with t drawn from
[sigma, 1]: sigma = 1 is no noise at all, sigma = 0 is anything up to pure noise. Samples are never
as clean as encodings, so a decoder that has only seen encodings draws them badly. Too much noise
costs reconstruction. --help says what the paper finds.

The same command again finishes an interrupted sweep and trains nothing twice.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from unite.entry import run


def main() -> int:
    """Run the sweep; 0 when done, 1 when trials failed, 2 when it cannot run, 130 on Ctrl-C."""
    from unite.commands import sweep

    return sweep.main("noise", __doc__)


if __name__ == "__main__":
    sys.exit(run(main, stopped="stopped at once; the same command goes on from here"))
