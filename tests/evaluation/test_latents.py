"""Latents that are drawn once: the same samples to the bit, for models of one flow alone."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from unite.config.recipes import recipe
from unite.config.schema import SamplingConfig
from unite.drivers.session import session
from unite.evaluation.instruments import Instruments
from unite.evaluation.latents import decoded_once, flow_digest
from unite.sampling.generator import draw
from unite.storage import Store
from unite.training.setup import build_model

EULER = SamplingConfig(solver="euler", num_steps=2)
SEEDS = torch.arange(16)


def moved(name: str):
    """A model of the smoke recipe whose parameters below `name` are moved."""
    model = build_model(recipe("smoke"))
    draws = torch.Generator().manual_seed(0)
    for parameter in model.get_submodule(name).parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=draws)
    return model


def test_the_digest_of_a_flow_is_that_of_everything_but_the_decoder():
    model = build_model(recipe("smoke"))
    assert flow_digest(model) == flow_digest(moved("decoder")) != flow_digest(moved("tokenizer"))
    model.flow = replace(model.flow, shift=0.9)
    assert flow_digest(model) != flow_digest(moved("decoder"))


def test_another_decoder_decodes_what_was_drawn_to_the_bit(tmp_path):
    models = [build_model(recipe("smoke")), moved("decoder")]
    drawn = []

    def samples(model, seed):
        def make():
            drawn.append(seed)
            return draw(model, SEEDS % 10, EULER, seeds_B=SEEDS + seed)

        return decoded_once(Store.open(tmp_path), {"seed": seed}, model, make)

    found = [samples(model, seed) for seed in (0, 100) for model in models]
    assert drawn == [0, 100]
    for (model, seed), ours in zip([(m, s) for s in (0, 100) for m in models], found, strict=True):
        again = draw(model, SEEDS % 10, EULER, seeds_B=SEEDS + seed)
        for name, tensor in vars(again).items():
            assert (tensor is None) == (getattr(ours, name) is None)
            assert tensor is None or torch.equal(tensor, getattr(ours, name)), name


@pytest.mark.parametrize("damage", [b"", b"<html>502</html>", None])
def test_damaged_latents_are_told_and_drawn_again(tmp_path, caplog, damage):
    model = build_model(recipe("smoke"))

    def samples():
        make = lambda: draw(model, SEEDS % 10, EULER, seeds_B=SEEDS)
        return decoded_once(Store.open(tmp_path), {"seed": 0}, model, make)

    first = samples()
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(samples().z_BKD, first.z_BKD)
    assert f"{file}: " in caplog.text and "drawn again" in caplog.text
    caplog.clear()
    assert torch.equal(samples().z_BKD, first.z_BKD) and not caplog.text


@pytest.fixture
def suite(request_of):
    evaluation = request_of(suite=("generation",), num_samples=40)
    with session(evaluation.arguments) as run:
        return evaluation.suites[0].prepared(run)


def test_a_suite_counts_the_same_and_tells_no_rate(suite, tmp_path):
    shared = replace(suite, latents=str(tmp_path))
    assert shared.digest == suite.digest
    (chunk,) = suite.chunks()
    plain = suite.measure(Instruments(), chunk)
    for _ in range(2):  # drawn, then kept
        kept = shared.measure(Instruments(), chunk)
        assert plain.keys() == kept.keys()
        for name in plain.keys() - {"cost/seconds", "seconds"}:
            assert np.array_equal(plain[name], kept[name]), name
    assert len(Store.open(tmp_path).list()) >= 1
    rows = [{row.card.metric for row in s.combine([plain]).rows} for s in (suite, shared)]
    assert rows[0] - rows[1] == {"images_per_s"} and not rows[1] - rows[0]


def test_other_seeds_and_protocols_draw_anew(suite, tmp_path):
    others = [
        suite,
        replace(suite, seed=1),
        suite.at_scale(3.0),
        replace(suite, labels="uniform"),
    ]
    (chunk,) = suite.chunks()
    for number, other in enumerate(others):
        replace(other, latents=str(tmp_path)).measure(Instruments(), chunk)
        assert len(Store.open(tmp_path).list()) == number + 1
