"""Appendix A: does an adversary made of the Generative Encoder make a better decoder?

    python ablations/sweep_decoder_gan.py                     blurred digits, 2 parents, 3 seeds
    python ablations/sweep_decoder_gan.py --run RUN --seeds 3 a run that is there
    python ablations/sweep_decoder_gan.py --dry-run           what would be trained
    python ablations/sweep_decoder_gan.py --scale cifar10 --data DIR   one epoch of cifar10-small
    python ablations/sweep_decoder_gan.py --scale gpu --data DIR       the recipe cifar10-gpu

The paper fine-tunes the decoder for 16 epochs with an adversary and finds rFID 1.01 -> 0.51 and
gFID unchanged. Is it the adversary, its initialisation, or 16 more epochs? Arms: a control of the
same steps without an adversary; the discriminator from the encoder, trained or frozen; a fresh one;
a small weight; no noise on latents. Differences are paired with the control of the same parent and
seed. The same command again finishes what was interrupted.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from unite.entry import run


def main() -> int:
    """Run the sweep; 0 when done, 2 when it cannot run, 130 on Ctrl-C."""
    from unite.ablation.decoder_gan_options import GanSweepOptions, settle
    from unite.config.flags import parse

    options = settle(parse(GanSweepOptions, description=__doc__))
    from unite.cluster.connect import prepare_environment

    prepare_environment()
    from unite.drivers.decoder_gan import main as run_sweep

    return run_sweep(options)


if __name__ == "__main__":
    sys.exit(run(main, stopped="stopped at once; the same command goes on from here"))
