"""Served images: classes in and images out, or image files in and their reconstructions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from unite.config.schema import ImagesConfig
from unite.domains.base import Domain
from unite.models.unite import UNITE
from unite.sampling.seeds import Conditions, conditions
from unite.sampling.served import Served, is_whole
from unite.words import count

LABEL, IMAGE = "label", "image"


class ServedImages(Served):
    """Columns `label` and `image`; uint8 images (N, H, W, C) come out."""

    inputs = {LABEL: "long", IMAGE: "binary"}
    condition, stored = LABEL, (IMAGE,)
    question = (
        f"give one of the columns {LABEL!r} (classes, to draw samples) and {IMAGE!r} (bytes of "
        "image files, to reconstruct them)"
    )
    hint = f"; an array of classes goes in as {{{LABEL!r}: array}}"

    def __init__(self, config: ImagesConfig) -> None:
        self.outputs = (config.size, config.size, config.channels)
        colour = "grey" if config.channels == 1 else "RGB"
        classes = count(config.num_classes, "class", "classes")
        self.about = (
            f"It draws {config.size} x {config.size} {colour}\nimages of {classes}, and turns such "
            "images into latents and back."
        )
        self.example = (
            "Registered in MLflow, a table goes in and uint8 images (N, H, W, C) come out. It has "
            f"the column\n`label` (classes 0 to {config.num_classes - 1}: samples are drawn) or "
            "`image` (bytes of image files: they are\nreconstructed).\n\n"
            "```python\n"
            'model = mlflow.pyfunc.load_model("models:/NAME@champion")\n'
            'model.predict({"label": labels}, params={"seed": 1})\n'
            'model.predict(pandas.DataFrame({"image": [png_bytes]}))\n```'
        )
        self.limits = (
            f"It knows the {classes} of its training data at {config.size} pixels, and nothing "
            "else."
        )

    def conditions(self, cells: Sequence[Any], model: UNITE, seeds_B: Tensor) -> Conditions:
        """One class a row."""
        num_classes = model.domain.num_classes
        for row, label in enumerate(cells):
            if not is_whole(label) or not 0 <= label < num_classes:
                raise ValueError(
                    f"{LABEL} {label!r} in row {row}: the model has {num_classes} classes, "
                    f"0 to {num_classes - 1}"
                )
        return conditions(model, seeds_B, labels_B=[int(label) for label in cells])

    def rows(self, columns: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
        """The files, with a class that nothing asks for."""
        return {IMAGE: columns[IMAGE], LABEL: [0] * len(columns[IMAGE])}

    def result(self, domain: Domain, batches: Sequence[tuple[Any, Tensor | None]]) -> np.ndarray:
        """uint8 (N, H, W, C)."""
        return np.concatenate([domain.render(images).cpu().numpy() for images, _ in batches])
