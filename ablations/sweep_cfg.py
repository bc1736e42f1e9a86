"""The scale of classifier-free guidance: how hard should samples be pushed towards their class?

    python ablations/sweep_cfg.py                           digits: w from 1 to 4 on one run a seed
    python ablations/sweep_cfg.py --values 1.0 1.2 1.4 1.6  a finer look
    python ablations/sweep_cfg.py --scale paper --data s3://...     ImageNet: 1.0 to 4.0 by 0.2

Sampling follows u + w (c - u), where c is the prediction for the class and u the one without it, at
times inside (0.1, 1). w = 1 is no guidance; more gives clearer and less varied samples, so the
distance has a minimum. Nothing but sampling varies: every value is measured on the same run, with
the same seeds. The paper reports the best of 16 scales for each model.

The same command again finishes an interrupted sweep and trains nothing twice.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from unite.entry import run


def main() -> int:
    """Run the sweep; 0 when done, 1 when trials failed, 2 when it cannot run, 130 on Ctrl-C."""
    from unite.commands import sweep

    return sweep.main("cfg", __doc__)


if __name__ == "__main__":
    sys.exit(run(main, stopped="stopped at once; the same command goes on from here"))
