"""Pictures as PNG bytes."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from unite.domains.image_files import open_image
from unite.evaluation.sweep import Sweep


def png(image_HWC: np.ndarray) -> bytes:
    """A uint8 picture, grey (C = 1) or RGB (C = 3)."""
    pixels = image_HWC[..., 0] if image_HWC.shape[-1] == 1 else image_HWC
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def read_png(data: bytes) -> np.ndarray:
    """Pixels uint8 (H, W, C) of a file that `png` or a plot wrote."""
    with open_image(data, formats=("PNG",)) as image:
        pixels = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def plot_sweep(sweep: Sweep, metric: str) -> bytes:
    """Distance against guidance scale; scales seen on a part of the samples are hollow."""
    # Here, because matplotlib takes a second to import and workers do not need it.
    from matplotlib.figure import Figure

    from unite.metrics.plots import COLORS

    figure = Figure(figsize=(4.8, 3.2), layout="constrained")
    axes = figure.subplots()
    for index, value in sweep.distances.items():
        full = sweep.shares[index] == max(sweep.shares.values())
        face = COLORS[0] if full else "white"
        axes.plot(sweep.scales[index], value, "o", color=COLORS[0], markerfacecolor=face)
    axes.axvline(sweep.scales[sweep.best], color=COLORS[1], linewidth=1)
    axes.set(
        xlabel="guidance scale",
        ylabel=metric.upper(),
        title=f"best at {sweep.scales[sweep.best]:g} (hollow: a part of the samples)",
    )
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
    return file.getvalue()
