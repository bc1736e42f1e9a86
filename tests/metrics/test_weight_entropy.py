"""Histogram entropy against known distributions, the groups, and the paper's random encoder."""

import math

import numpy as np
import pytest
import torch

from unite.config.recipes import recipe
from unite.domains import build_domain
from unite.metrics.weight_entropy import (
    PAPER_BINS,
    group_of,
    histogram_bits,
    random_state,
    weight_entropy,
)
from unite.models.unite import UNITE
from unite.paper import counterpart


def build(name="smoke"):
    config = recipe(name)
    return UNITE(config.model, build_domain(config.domain), config.flow)


def test_bits_of_known_distributions():
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(1_000_000, generator=generator)
    assert histogram_bits(uniform, 256) == pytest.approx(8.0, abs=1e-3)
    assert histogram_bits(uniform, 2048) == pytest.approx(11.0, abs=5e-3)
    normal = torch.randn(1_000_000, generator=generator)
    width = float(normal.max() - normal.min()) / 256
    exact = 0.5 * math.log2(2 * math.pi * math.e) - math.log2(width)
    assert histogram_bits(normal, 256) == pytest.approx(exact, abs=5e-3)
    coin = torch.tensor([0.0, 1.0, 1.0, 0.0])
    assert histogram_bits(coin, 256) == pytest.approx(1.0)
    assert histogram_bits(torch.arange(8.0), 256) == pytest.approx(3.0)


def test_bits_equal_numpy():
    values = torch.randn(777, generator=torch.Generator().manual_seed(1))
    counts = np.histogram(values.double().numpy(), bins=32)[0]
    shares = counts[counts > 0] / 777
    assert histogram_bits(values, 32) == pytest.approx(-(shares * np.log2(shares)).sum())


def test_scale_and_shift_do_not_matter():
    values = torch.randn(5000, generator=torch.Generator().manual_seed(2)).double()
    assert histogram_bits(4 * values, 64) == histogram_bits(values, 64)
    assert histogram_bits(values * 8 + 16, 64) == pytest.approx(
        histogram_bits(values, 64), abs=1e-2
    )


def test_constant_is_zero_and_not_finite_is_refused():
    assert histogram_bits(torch.full((10, 3), 0.3), 256) == 0.0
    assert histogram_bits(torch.ones(1), 256) == 0.0
    with pytest.raises(ValueError, match="a.b: its values are not finite"):
        weight_entropy({"a.b": torch.tensor([1.0, float("nan")])})
    with pytest.raises(ValueError, match="bins: 1"):
        weight_entropy({}, bins=1)


@pytest.mark.parametrize(
    "name, group",
    [
        ("tokenizer.blocks.0.norm3.weight", "norm"),
        ("tokenizer.blocks.0.attention.q_norm.weight", "norm"),
        ("tokenizer.blocks.0.modulation.weight", "norm"),
        ("tokenizer.final.modulation.bias", "norm"),
        ("tokenizer.final.norm.weight", "norm"),
        ("tokenizer.norm.bias", "norm"),
        ("decoder.norm.weight", "norm"),
        ("tokenizer.blocks.0.attention.qkv.weight", "functional"),
        ("tokenizer.blocks.11.mlp.out.bias", "functional"),
        ("decoder.blocks.0.up.weight", "functional"),
        ("tokenizer.registers", "other"),
        ("tokenizer.final.out.weight", "other"),
        ("tokenizer.classes.weight", "other"),
        ("embedder.projection.weight", "other"),
        ("decoder.head.out.weight", "other"),
    ],
)
def test_groups(name, group):
    assert group_of(name) == group


def test_every_norm_and_only_norms_of_the_model_are_norm():
    model = build()
    norms = {
        name
        for name, module in model.named_modules()
        if "Norm" in type(module).__name__ or name.endswith("modulation")
    }
    for name, _ in model.named_parameters():
        assert (group_of(name) == "norm") == (name.rpartition(".")[0] in norms), name


def test_megabytes_add_up():
    entropy = weight_entropy(random_state(build, seed=0), bins=256)
    sizes = entropy.megabytes()
    total = sum(t.bits * t.num_elements for t in entropy.tensors) / 8 / 1e6
    assert sizes["total"] == pytest.approx(total)
    assert sizes["total"] == pytest.approx(sizes["norm"] + sizes["functional"] + sizes["other"])
    encoder = entropy.part("tokenizer").megabytes()["total"]
    assert 0 < encoder < total
    assert encoder + entropy.part("embedder", "decoder").megabytes()["total"] == pytest.approx(
        total
    )
    with pytest.raises(ValueError, match="separate_denoiser"):
        entropy.part("separate_denoiser")


def test_random_state_leaves_cards_alone(monkeypatch):
    """torch's fork of random states would start every GPU of a machine, and warn of it."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert random_state(build, seed=0)


def test_random_state_depends_on_config_and_seed_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, second = random_state(build, seed=0), random_state(build, seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = random_state(build, seed=1)
    name = "tokenizer.blocks.0.modulation.weight"
    assert first[name].std() > 0 and not torch.equal(first[name], other[name])
    assert not first["tokenizer.blocks.0.modulation.bias"].any()


@pytest.mark.slow
def test_the_random_base_encoder_comes_to_the_papers_figures():
    """Section 4: 60.0 MB norm, 119.2 MB functional, 179.2 MB in total, with 2048 bins."""
    state = random_state(lambda: build("unite-b").tokenizer, seed=0)
    encoder = {f"tokenizer.{name}": tensor for name, tensor in state.items()}
    sizes = weight_entropy(encoder, bins=PAPER_BINS).megabytes()

    def paper(metric):
        figure = counterpart(metric, suite="entropy", row="separate encoder at random init")
        return figure.value

    assert sizes["norm"] == pytest.approx(paper("norm"), abs=0.05)
    assert sizes["functional"] + sizes["other"] == pytest.approx(paper("functional"), abs=0.1)
    assert sizes["total"] == pytest.approx(paper("total"), abs=0.1)
