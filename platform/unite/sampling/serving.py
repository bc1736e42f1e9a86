"""An exported model behind MLflow's pyfunc interface: classes in, images out; or images in, their
reconstructions out.

MLflow loads it by this module's name and `_load_pyfunc`, so the registered model is an export and
source code, and nothing of it is pickled. One table goes in, with one of two columns:

    label   classes, 0 .. num_classes - 1          -> one sample of each
    image   bytes of image files (PNG, JPEG, ...)  -> what the decoder makes of their latents

Out come uint8 images (N, H, W, C). Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unite.checkpoints.load import load
from unite.config.effects import override
from unite.config.schema import SamplingConfig
from unite.flow.random import Purpose, normal, stream_keys, uniform
from unite.models.unite import UNITE
from unite.runs import read_run_config
from unite.sampling.generator import generate_batches
from unite.sampling.seeds import sample_seeds

LABEL, IMAGE = "label", "image"
BATCH = 64
"""Images that are computed at once."""


class ServedModel:
    """Model object that MLflow calls."""

    def __init__(self, model: UNITE, sampling: SamplingConfig) -> None:
        self._model, self._sampling = model, sampling

    def predict(
        self, model_input: Mapping[str, Sequence[Any]], params: Mapping[str, Any] | None = None
    ) -> np.ndarray:
        """Images for a table (a DataFrame, or sequences by name), uint8 (N, H, W, C).

        `params`: those of `default_params`. The same seed and row give the same image, whatever
        else is in the table. ValueError names the column, row or parameter that cannot be used.
        """
        columns = {str(name): list(model_input[name]) for name in model_input}
        given = [name for name in (LABEL, IMAGE) if name in columns]
        if len(given) != 1:
            raise ValueError(
                f"give one of the columns {LABEL!r} (classes, to draw samples) and {IMAGE!r} "
                f"(bytes of image files, to reconstruct them), not {', '.join(columns) or 'none'}; "
                f"an array of classes goes in as {{{LABEL!r}: array}}"
            )
        chosen = {**default_params(self._sampling), **(params or {})}
        seed = int(chosen.pop("seed"))
        rows = columns[given[0]]
        if not rows:
            raise ValueError(f"the column {given[0]!r} has no rows")
        if given[0] == IMAGE:
            return self._reconstruct(rows, seed)
        return self._draw(rows, seed, settings_of(self._sampling, chosen))

    def _draw(self, rows: Sequence[Any], seed: int, settings: SamplingConfig) -> np.ndarray:
        labels = torch.tensor(_checked_labels(rows, self._model.domain.num_classes))
        seeds = sample_seeds(seed, torch.arange(len(labels)))
        batches = generate_batches(self._model, labels, seeds, BATCH, settings)
        return self._rendered([samples.reconstruction for samples in batches])

    def _reconstruct(self, rows: Sequence[Any], seed: int) -> np.ndarray:
        fields, bad = self._model.domain.decode_rows({IMAGE: rows, LABEL: [0] * len(rows)})
        if bad:
            raise ValueError(f"{IMAGE} in row {bad[0][0]}: {bad[0][1]}")
        device = next(self._model.parameters()).device
        tensors = {name: torch.from_numpy(array).to(device) for name, array in fields.items()}
        sample, _ = self._model.domain.to_sample(tensors)
        indices = torch.arange(len(rows)).split(BATCH)
        return self._rendered([self._pass(sample[part], part, seed) for part in indices])

    @torch.inference_mode()
    def _pass(self, sample: Tensor, rows_B: Tensor, seed: int) -> Tensor:
        """D(GE(x)) on tokenization noise that is addressed by seed and row."""
        device, model = sample.device, self._model
        noise_keys_B = stream_keys(seed, int(Purpose.TOKENIZE_NOISE), rows_B)
        noise_BKD = normal(noise_keys_B, model.noise_shape).to(device)
        t_B = uniform(stream_keys(seed, int(Purpose.TOKENIZE_T), rows_B)).to(device)
        t_B = t_B * model.config.encoder.tokenize_t_max
        return model.decode(model.tokenize(sample, noise_BKD, t_B))

    def _rendered(self, batches: Sequence[Any]) -> np.ndarray:
        images = [self._model.domain.render(batch).cpu().numpy() for batch in batches]
        return np.concatenate(images)


def default_params(sampling: SamplingConfig) -> dict[str, Any]:
    """Parameters of `predict` by name, with the run's own settings as their defaults."""
    return {
        "cfg_scale": float(sampling.cfg_scale),
        "num_steps": int(sampling.num_steps),
        "solver": str(sampling.solver),
        "seed": 0,
    }


def settings_of(sampling: SamplingConfig, params: Mapping[str, Any]) -> SamplingConfig:
    """The run's sampling settings with parameters in place.

    MLflow fills in the defaults, so what equals one was not asked for. ValueError for values out of
    range and for parameters that would do nothing.
    """
    unknown = sorted(set(params) - set(default_params(sampling)))
    if unknown:
        names = ", ".join(default_params(sampling))
        raise ValueError(f"there is no parameter {unknown[0]!r}; there are {names}")
    own = default_params(sampling)
    return override(sampling, {name: params[name] for name in params if params[name] != own[name]})


def _checked_labels(rows: Sequence[Any], num_classes: int) -> list[int]:
    for row, label in enumerate(rows):
        whole = isinstance(label, int | np.integer) and not isinstance(label, bool)
        if not whole or not 0 <= label < num_classes:
            raise ValueError(
                f"{LABEL} {label!r} in row {row}: the model has {num_classes} classes, "
                f"0 to {num_classes - 1}"
            )
    return [int(label) for label in rows]


def _load_pyfunc(data_path: str) -> ServedModel:
    """The model of an export folder, on an accelerator when there is one; MLflow calls it."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = read_run_config(data_path)
    sampling = SamplingConfig() if config is None else config.sampling
    return ServedModel(load(data_path, map_location=device), sampling)
