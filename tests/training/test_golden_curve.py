"""The loss curve of 40 steps of the recipe `smoke`, every term, against the stored one.

A change of the method, of an address or of a default shows here whichever part it is in. The stored
curve changes only on purpose: UNITE_UPDATE_GOLDEN=1 writes it anew, and the commit says why.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from unite.config.serialise import replace

GOLDEN = Path(__file__).parents[1] / "golden" / "smoke_curve.json"
STEPS = 40
BATCH = 32
LR = 4e-4
"""A tenth of the recipe's own, at which Muon lets a rounding grow by a third in every step."""


def rounding(step: int) -> float:
    """Relative difference that other processors' instructions may make: 6e-8 of one operation,
    seen to grow to 1e-4 (5e-4 where a pixel's error changes its sign) in 40 steps."""
    return 2e-6 * 1.22**step


def curve(trainer) -> dict[str, list[float]]:
    """The values of every step by name, and the evaluations before the first and after the last.

    The weights are moved from their start, where the zero output before the final LayerNorm
    makes roundings a million times as large (the gradient's norm is 6,619 there).
    """
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=noise)
    trainer.run()
    values: dict[str, list[float]] = {}
    for entry in trainer.history:
        for name, value in entry.items():
            values.setdefault(name, []).append(float(f"{value:.8g}"))
    return values


def test_the_curve_is_the_stored_one(smoke, make_trainer):
    changes = {
        "training.epochs": STEPS * BATCH / 1500,
        "training.log_every_steps": 1,
        "optim.lr": LR,
    }
    now = curve(make_trainer(replace(smoke, changes)))
    if os.environ.get("UNITE_UPDATE_GOLDEN"):
        lines = (f"{json.dumps(name)}: {json.dumps(each)}" for name, each in now.items())
        GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    golden = json.loads(GOLDEN.read_text())
    assert now.keys() == golden.keys()
    assert len(golden["loss/total"]) == STEPS and len(golden["eval/psnr"]) == 2
    for name, values in golden.items():
        for step, value in enumerate(values):
            tolerance = rounding(step if len(values) == STEPS else STEPS)
            assert now[name][step] == pytest.approx(value, rel=tolerance), f"{name}, step {step}"
