"""An exported model behind MLflow's pyfunc interface: a table of conditions or of samples in.

MLflow loads it by this module's name and `_load_pyfunc`, so the registered model is an export and
source code, and nothing of it is pickled. One table goes in, of conditions (classes, sizes), from
which samples are drawn, or of stored samples, which are reconstructed: `serving_for` has the
columns of each domain. Shapes: B batch, K registers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from unite.checkpoints.load import load
from unite.config.domains import CrystalsConfig, JointConfig, MoleculesConfig
from unite.config.effects import override
from unite.config.schema import DomainConfig, ImagesConfig, SamplingConfig
from unite.models.unite import UNITE
from unite.runs import read_run_config
from unite.sampling.atoms_served import ServedAtoms, ServedJoint
from unite.sampling.generator import generate_batches
from unite.sampling.images_served import ServedImages
from unite.sampling.passes import tokenize_rows
from unite.sampling.seeds import sample_seeds
from unite.sampling.served import Served

BATCH = 64
"""Samples that are computed at once."""


@singledispatch
def serving_for(config: DomainConfig) -> Served:
    """The tables of a domain's served models; TypeError for a config of no known domain.

    A further domain registers its class for its config here.
    """
    raise TypeError(f"models of a domain with a {type(config).__name__} cannot be served")


serving_for.register(ImagesConfig, ServedImages)
serving_for.register(MoleculesConfig, ServedAtoms)
serving_for.register(CrystalsConfig, ServedAtoms)
serving_for.register(JointConfig, ServedJoint)


class ServedModel:
    """Model object that MLflow calls."""

    def __init__(self, model: UNITE, sampling: SamplingConfig) -> None:
        self._model, self._sampling = model, sampling
        self._served = serving_for(model.domain.config)

    def predict(
        self, model_input: Mapping[str, Sequence[Any]], params: Mapping[str, Any] | None = None
    ) -> Any:
        """Samples for a table (a DataFrame, or sequences by name), in the form of `serving_for`.

        `params`: those of `default_params`. The same seed and row give the same sample, whatever
        else is in the table. ValueError names the column, row or parameter that cannot be used.
        """
        columns = {str(name): list(model_input[name]) for name in model_input}
        served = self._served
        given = [name for name in (served.condition, served.stored[0]) if name in columns]
        missing = [name for name in served.stored if name not in columns]
        if len(given) != 1 or (given[0] == served.stored[0] and missing):
            raise ValueError(f"{served.question}, not {', '.join(columns) or 'none'}{served.hint}")
        chosen = {**default_params(self._sampling), **(params or {})}
        seed = int(chosen.pop("seed"))
        if not columns[given[0]]:
            raise ValueError(f"the column {given[0]!r} has no rows")
        if given[0] != served.condition:
            return self._reconstruct(columns, seed)
        settings = settings_of(self._sampling, chosen, self._model.domain.num_classes)
        return self._draw(columns[given[0]], seed, settings)

    def _draw(self, cells: Sequence[Any], seed: int, settings: SamplingConfig) -> Any:
        seeds = sample_seeds(seed, torch.arange(len(cells)))
        wanted = self._served.conditions(cells, self._model, seeds)
        batches = generate_batches(
            self._model, wanted.labels_B, seeds, BATCH, settings, mask=wanted.mask_BK
        )
        masks = _masks(wanted.mask_BK, len(cells))
        parts = [(drawn.reconstruction, mask) for drawn, mask in zip(batches, masks, strict=True)]
        return self._served.result(self._model.domain, parts)

    def _reconstruct(self, columns: Mapping[str, Sequence[Any]], seed: int) -> Any:
        domain, rows = self._model.domain, self._served.rows(columns)
        fields, bad = domain.decode_rows(rows)
        if bad := bad or self._served.refused(fields, self._model):
            raise ValueError(f"{self._served.stored[0]} in row {bad[0][0]}: {bad[0][1]}")
        device = next(self._model.parameters()).device
        tensors = {name: torch.from_numpy(array).to(device) for name, array in fields.items()}
        sample, _ = domain.to_sample(tensors)
        indices = torch.arange(len(next(iter(rows.values())))).split(BATCH)
        batches = [self._pass(domain.take(sample, part), part, seed) for part in indices]
        return self._served.result(domain, batches)

    @torch.inference_mode()
    def _pass(self, sample: Any, rows_B: Tensor, seed: int) -> tuple[Any, Tensor | None]:
        """D(GE(x)) of rows of the table, as an evaluation computes them, and the mask."""
        model = self._model
        rows_B = rows_B.to(next(model.parameters()).device)
        mask_BK = model.domain.register_mask(sample)
        return model.decode(tokenize_rows(model, sample, rows_B, seed=seed), mask_BK), mask_BK


def _masks(mask: Tensor | None, num: int) -> Sequence[Tensor | None]:
    """The mask of each batch."""
    return [None] * -(-num // BATCH) if mask is None else mask.split(BATCH)


def default_params(sampling: SamplingConfig) -> dict[str, Any]:
    """Parameters of `predict` by name, with the run's own settings as their defaults."""
    return {
        "cfg_scale": float(sampling.cfg_scale),
        "num_steps": int(sampling.num_steps),
        "solver": str(sampling.solver),
        "seed": 0,
    }


def settings_of(
    sampling: SamplingConfig, params: Mapping[str, Any], num_classes: int
) -> SamplingConfig:
    """The run's sampling settings with parameters in place.

    MLflow fills in the defaults, so what equals one was not asked for. ValueError for values out of
    range and for parameters that would do nothing.
    """
    unknown = sorted(set(params) - set(default_params(sampling)))
    if unknown:
        names = ", ".join(default_params(sampling))
        raise ValueError(f"there is no parameter {unknown[0]!r}; there are {names}")
    own = default_params(sampling)
    given = {name: params[name] for name in params if params[name] != own[name]}
    return override(sampling, given, num_classes=num_classes)


def _load_pyfunc(data_path: str) -> ServedModel:
    """The model of an export folder, on an accelerator when there is one; MLflow calls it."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = read_run_config(data_path)
    sampling = SamplingConfig() if config is None else config.sampling
    return ServedModel(load(data_path, map_location=device), sampling)
