"""Fine-tune the decoder of a run with an adversary made of its Generative Encoder (Appendix A).

    python jobs/finetune_decoder.py --run RUN                          16 epochs with the adversary
    python jobs/finetune_decoder.py small --run RUN                    for runs of laptop size
    python jobs/finetune_decoder.py rae --run RUN --finetune.epochs 12 the adversary comes late
    python jobs/finetune_decoder.py --run RUN --adversarial.weight 0   the control: no adversary
    python jobs/evaluate.py compare RUN RUN-gan-DIGEST                 before and after
    python ablations/sweep_decoder_gan.py --run RUN                    is it the adversary?

The Generative Encoder stays as it is. The result is a run of its own beside RUN, whose checkpoints
are whole models: generate, evaluate, export and serve take it like any other. No figure of this
stage means much without the control of equal steps. The same command again continues.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from unite.entry import run


def main() -> int:
    """Parse, prepare, train, show; 0 when done, 2 when it cannot run, 130 when stopped."""
    from unite.training.finetune_arguments import read_request
    from unite.training.finished import find_finished, report_lines

    request = read_request(sys.argv[1:], __doc__)
    how = {"resume": request.arguments.resume, "allow_changes": False}
    finished = find_finished(request.config, **how)
    if finished:
        print(f"{finished[0].folder} is finished; nothing to do")
        print("\n".join(report_lines(*finished)))
        return 0
    from unite.cluster.connect import prepare_environment

    prepare_environment()
    from unite.drivers.command import carry_out
    from unite.drivers.finetune import notes, prepare

    planned = prepare(request)
    return carry_out(planned, dry=request.arguments.dry_run, notes=notes(request, planned))


if __name__ == "__main__":
    sys.exit(
        run(main, stopped="ended at once; the same command continues from the last checkpoint")
    )
