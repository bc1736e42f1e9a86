"""A sampled and counted evaluation against METHOD 4 and 5 written down once more.

`draw_plainly` shares the networks and addressed randomness with the suite, nothing else. Samples
must be the same images but for a pixel here and there that rounding tips over a level; labels, cost
and the moments of what was counted must be exact, the distance as good as its traces.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from unite.checkpoints.load import load
from unite.config.recipes import recipe
from unite.config.schema import SamplingConfig
from unite.evaluation.drawing import Cost
from unite.evaluation.images.reference import Origin, Reference
from unite.evaluation.images.sources import ExtractorSource
from unite.evaluation.instruments import Instruments
from unite.evaluation.suites.images_generation import Generation
from unite.evaluation.target import Subject
from unite.flow.random import Purpose, normal, stream_keys, uniform

NUM, SEED, CLASSES = 90, 5, 10
EULER = SamplingConfig(solver="euler", num_steps=6, cfg_scale=2.5, cfg_interval=(0.2, 0.8))
HEUN = SamplingConfig(solver="heun", num_steps=3, cfg_scale=1.0)
SHARE_TIPPED = 1e-3
"""Pixels that may differ by one level: float32 rounding (1e-7) before a truncation to 256 levels
tips one of 40,000; another order of sums is a few times that."""


def draw_plainly(model, settings, labels, seed=SEED, shift=0.5):
    """uint8 images (N, 8, 8), the evaluations and the passes of each sample."""
    index = torch.arange(NUM)
    if labels == "balanced":
        y = torch.tensor([i % CLASSES for i in range(NUM)])
    else:
        y = (CLASSES * uniform(stream_keys(seed, int(Purpose.SAMPLE_LABEL), index))).long()
    seeds = stream_keys(seed, int(Purpose.SAMPLE), index)
    z = normal(stream_keys(0, int(Purpose.SAMPLE), seeds), model.noise_shape).double()
    times = [i / settings.num_steps for i in range(settings.num_steps + 1)]
    times = [shift * t / (1 + (shift - 1) * t) for t in times]
    cost = np.zeros(2)
    low, high = settings.cfg_interval

    def slope(z, t):
        t_B = torch.full((NUM,), t)
        predicted = model.denoise(z.float(), t_B, y).double()
        guided = settings.cfg_scale != 1 and low < t < high
        if guided:
            unconditional = model.denoise(z.float(), t_B, None).double()
            predicted = unconditional + settings.cfg_scale * (predicted - unconditional)
        cost[:] += 1, 1 + guided
        return (predicted - z) / max(1 - t, 0.05)

    for t, after in zip(times[:-1], times[1:], strict=True):
        first = slope(z, t)
        if settings.solver == "heun":
            second = slope(z + (after - t) * first, after)
            first = (first + second) / 2
        z = z + (after - t) * first
    images = model.decode(z.float())[:, 0].numpy()
    return (np.clip(images, 0, 1) * 255).astype(np.uint8), *cost


@pytest.fixture
def make_suite(random_export, tmp_path):
    """The suite on an export of random weights, compared with random images."""
    config = recipe("smoke")
    source = ExtractorSource.open("pixels", config.domain)
    real = np.random.default_rng(1).random((200, 64))
    moments = {"mu_F": real.mean(0), "sigma_FF": np.cov(real.T)}
    place = str(tmp_path / "reference.npz")
    Reference(**moments, num=200, extractor=source.id, made=Origin(), kept_rows=np.arange(200),
              kept_features=real.astype(np.float32)).save(place)  # fmt: skip
    subject = Subject(digest="0", uri=random_export, home=str(tmp_path), config=config)

    def make(settings, labels):
        return Generation(
            total=NUM, home=str(tmp_path), subject=subject, sampling=settings, labels=labels,
            seed=SEED, sources=(source,), references=(place,),
        )  # fmt: skip

    make.model = load(random_export)
    make.reference = moments
    return make


@pytest.mark.parametrize(("settings", "labels"), [(EULER, "balanced"), (HEUN, "uniform")])
@torch.inference_mode()
def test_a_counted_evaluation_is_that_of_a_plain_sampler(make_suite, settings, labels):
    suite = make_suite(settings, labels)
    chunks = [suite.measure(Instruments(batch_size=20), chunk) for chunk in suite.chunks()]
    assert len(chunks) == 2
    images, nfe, passes = draw_plainly(make_suite.model, settings, labels)
    features = np.concatenate([chunk["fake/0/kept/features"] for chunk in chunks])
    found = np.round(features.astype(float) * 255).reshape(images.shape)
    assert agree(found, images)
    shown = np.concatenate([chunk["shown"] for chunk in chunks])
    assert np.array_equal(shown[..., 0], found[: len(shown)]) and len(shown) == NUM

    x = features.astype(np.float64)
    counted = [sum(c[f"fake/0/moments/{name}"] for c in chunks) for name in ("num", "sum", "outer")]
    for ours, expected in zip(counted, (NUM, x.sum(0), x.T @ x), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-12)
    values = {row.card.metric: row.card.value for row in suite.combine(chunks).rows}
    assert (values["nfe"], values["passes"]) == (nfe, passes)
    mu, sigma = make_suite.reference.values()
    ours = np.cov(x.T)
    roots = np.sqrt(np.linalg.eigvals(sigma @ ours).real.clip(min=0))
    traces = np.trace(sigma) + np.trace(ours)
    distance = ((mu - x.mean(0)) ** 2).sum() + traces - 2 * roots.sum()
    assert values["fd-pixels"] == pytest.approx(distance, abs=1e-6 * traces)


@pytest.mark.parametrize(
    ("solver", "num_steps", "paper"), [("dopri5", 7, 108), ("heun", 50, 100), ("heun", 7, None)]
)
def test_the_cost_stands_beside_that_of_the_same_protocol(make_suite, solver, num_steps, paper):
    suite = make_suite(SamplingConfig(solver=solver, num_steps=num_steps), "balanced")
    row = suite.cost_rows(Cost(), 5.0, 6.0)[0]
    assert (row.card.metric, row.card.value) == ("nfe", 5.0)
    assert (None if row.paper is None else row.paper.value) == paper


def agree(found, images):
    levels = np.abs(found - images.astype(float))
    return levels.max() <= 1 and (levels > 0).mean() <= SHARE_TIPPED


@torch.inference_mode()
def test_labels_seeds_guidance_and_shift_all_act(make_suite):
    model = make_suite.model
    images, *_ = draw_plainly(model, EULER, "balanced")
    without = {
        "balance": draw_plainly(model, EULER, "uniform"),
        "the seed": draw_plainly(model, EULER, "balanced", seed=SEED + 1),
        "guidance": draw_plainly(model, replace(EULER, cfg_scale=1.0), "balanced"),
        "its interval": draw_plainly(model, replace(EULER, cfg_interval=(0.0, 1.0)), "balanced"),
        "the solver": draw_plainly(model, replace(EULER, solver="heun"), "balanced"),
        "the shift": draw_plainly(model, EULER, "balanced", shift=1.0),
    }
    for name, (other, *_) in without.items():
        assert not agree(other, images), f"{name} did not act"
