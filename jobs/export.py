"""Export a model: safetensors, config, model card and metric cards; register it in MLflow.

    python jobs/export.py                                        the latest run, as a folder
    python jobs/export.py --run RUN --register NAME              and as a version of NAME in MLflow
    python jobs/export.py --run RUN --register NAME --champion psnr
                                       which becomes the champion when its PSNR is higher

RUN is a run's name or MLflow id, or a path or s3:// URI of a run, a checkpoint, an export or one
of the authors' checkpoints. `unite.load` and jobs/generate.py read the folder. The registered
model takes classes and gives images, or takes images and gives their reconstructions.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from unite.entry import run


def main() -> None:
    """Parse and export; the exit code is 0 on success, 2 for bad input, 130 on Ctrl-C."""
    from unite.commands.export_request import ExportArguments, record_of, settle
    from unite.config.flags import parse
    from unite.runs import default_storage

    arguments = settle(parse(ExportArguments, description=__doc__), default_storage())
    if told := record_of(arguments).lines():
        print("\n".join(told))
        return
    # Imported here so that help, typing errors and finished work answer at once.
    from unite.commands.export import export

    export(arguments, default_storage())


if __name__ == "__main__":
    sys.exit(run(main))
