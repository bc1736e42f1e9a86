"""Reconstructions of a model that has diverged are an error with words, not of a solver."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from unite.config.recipes import recipe
from unite.config.serialise import replace
from unite.domains import build_domain
from unite.evaluation.atoms.decoded import Decoded
from unite.metrics.errors import MetricError
from unite.models.unite import UNITE


def test_a_reconstruction_that_is_not_finite_is_named():
    config = replace(recipe("qm9-tiny"), {"model.encoder.depth": 1, "model.decoder.depth": 1})
    domain = build_domain(config.domain)
    model = UNITE(config.model, domain, config.flow)
    model.decoder.head.coordinates.weight.data.fill_(torch.nan)
    fields = domain.example_fields(2, np.random.default_rng(0))
    sample, _ = domain.to_sample({name: torch.from_numpy(v) for name, v in fields.items()})
    rows = SimpleNamespace(sample=sample, rows_B=torch.tensor([7, 8]), mask_BK=sample["mask"])
    instruments = SimpleNamespace(rows=lambda *_: [rows], autocast=lambda _: nullcontext())
    suite = SimpleNamespace(
        model=lambda _: model,
        domain=lambda _: domain,
        data=None,
        subject=SimpleNamespace(config=config),
        precision="float32",
        seed=0,
    )
    with pytest.raises(MetricError, match="reconstruction of row 7 is not finite: training has"):
        Decoded.count(suite, {}, instruments, None)
