"""By what does a register find its atom? Pair bias, rotary positions, or the index table alone.

    python ablations/sweep_pairing.py --scale molecules             QM9, on 2 CPU cores
    python ablations/sweep_pairing.py --scale molecules --dry-run   what would be trained

UNITE-S has one register for each atom, and the paper does not say how they are paired. Recipes of
molecules and crystals add a learned bias to the attention between the two (docs/METHOD.md 7).

The same command again finishes an interrupted sweep and trains nothing twice.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from unite.entry import run


def main() -> int:
    """Run the sweep; 0 when done, 1 when trials failed, 2 when it cannot run, 130 on Ctrl-C."""
    from unite.commands import sweep

    return sweep.main("pairing", __doc__)


if __name__ == "__main__":
    sys.exit(run(main, stopped="stopped at once; the same command goes on from here"))
