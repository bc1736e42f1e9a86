"""Options of `jobs/generate.py`."""

from __future__ import annotations

from dataclasses import dataclass

from unite.config.schema import Precision, Solver


@dataclass(frozen=True, kw_only=True)
class GenerateArguments:
    """Draw samples of a run's model and write them as PNGs, samples.npz and a grid."""

    run: str = "latest"
    """latest, a run's name or MLflow id, or a path or s3:// URI of a run, a checkpoint, an export
    or one of the authors' checkpoints."""
    labels: str = ""
    """Classes, such as 0-9 or 3,5,7 or 0-4,8; empty = all. They are drawn in turn."""
    sizes: str = ""
    """Sizes of samples that have one, and how many of each, such as 9x20,18x80 (20 molecules of 9
    atoms, 80 of 18); empty = drawn as often as the training set has them."""
    num: int = 100
    """Total number of samples; with `sizes`, those tell it."""
    out: str = "samples"
    """Folder or s3:// URI for the PNGs and samples.npz. FID tools can read it as it is: it holds no
    other images, and the grid is written beside it, as OUT-grid.png."""
    replace: bool = False
    """Delete samples of another call that OUT holds; without this option they are an error. An
    interrupted call is continued by the same command."""
    storage: str = ""
    """Folder or s3:// URI of the runs; empty = UNITE_STORAGE, else ./runs."""
    solver: Solver | None = None
    """Solver of the flow; here and in the next three, None takes the run's own setting."""
    num_steps: int | None = None
    """Steps of heun, midpoint and euler."""
    cfg_scale: float | None = None
    """Guidance scale; 1 = none."""
    cfg_interval: tuple[float, float] | None = None
    """Interval of t, both ends excluded, in which guidance acts."""
    seed: int = 0
    """Seed of the set of samples: each has its own stream, whatever the batch size."""
    batch_size: int = 0
    """Samples drawn at once; 0 = 64 on a CPU, on a GPU by its memory."""
    precision: Precision | None = None
    """Arithmetic of the model: bfloat16 = autocast; None = bfloat16 on a GPU, else float32."""
    ema: bool = True
    """Use the averaged weights; false takes those of the last step."""
    device: str = ""
    """cpu, cuda, cuda:1, ...; empty = an accelerator when there is one."""


def check(arguments: GenerateArguments) -> None:
    """ValueError for numbers that no call can have."""
    if arguments.num < 1:
        raise ValueError("--num must be at least 1")
    if arguments.batch_size < 0:
        raise ValueError("--batch-size must not be negative (0 = by the device)")
