"""The discriminator that is made of the Generative Encoder."""

from __future__ import annotations

import pytest
import torch

from unite.config.finetune import DiscriminatorConfig
from unite.config.recipes import recipe
from unite.domains import build_domain
from unite.models.discriminator import Discriminator, SpectralLinear
from unite.models.unite import UNITE

K = 16


@pytest.fixture
def model() -> UNITE:
    """A small model whose modulation layers are drawn, as those of a trained one are not zero."""
    torch.manual_seed(0)
    config = recipe("smoke")
    built = UNITE(config.model, build_domain(config.domain), config.flow)
    for block in built.tokenizer.blocks:
        torch.nn.init.normal_(block.modulation.weight, std=0.1)
    return built


def images(count: int = 5) -> torch.Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def activations(model: UNITE, sample: torch.Tensor) -> list[torch.Tensor]:
    """Registers of every block of the model's own tokenization pass, noise and time zero."""
    found: list[torch.Tensor] = []
    zeros = torch.zeros(len(sample), *model.noise_shape)
    model.tokenize(sample, zeros, torch.zeros(len(sample)), activations=found)
    return found


@pytest.mark.parametrize("trunk", ["trained", "frozen"])
def test_features_at_the_start_are_the_encoders_own_activations(model, trunk):
    discriminator = Discriminator(model, DiscriminatorConfig(trunk=trunk, taps=(0, 1)))
    expected = activations(model, images())
    for ours, theirs in zip(discriminator.features(images()), expected, strict=True):
        assert torch.equal(ours, theirs)


def test_token_features_follow_the_registers_in_the_same_pass(model):
    both, tokens, registers = (
        Discriminator(model, DiscriminatorConfig(features=kind)).features(images())
        for kind in ("both", "tokens", "registers")
    )
    for whole, second, first in zip(both, tokens, registers, strict=True):
        assert torch.equal(whole, torch.cat([first, second], dim=1))
        assert first.shape[1] == second.shape[1] == K


def test_a_verdict_does_not_depend_on_the_batch_or_on_passes_before(model):
    discriminator = Discriminator(model, DiscriminatorConfig(features="both"))
    together = discriminator(images())
    alone = torch.cat([discriminator(image[None]) for image in images()])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert torch.equal(discriminator(images()), together)


def test_a_verdict_per_head_and_position(model):
    verdicts = Discriminator(model, DiscriminatorConfig(taps=(0, 1), features="both"))(images(3))
    assert verdicts.shape == (3, 2 * 2 * K) and verdicts.dtype == torch.float32


def test_a_frozen_trunk_is_the_models_own_and_is_not_stored_again(model):
    discriminator = Discriminator(model, DiscriminatorConfig(trunk="frozen"))
    assert discriminator.trunk.encoder is model.tokenizer
    assert all(name.startswith("heads.") for name in discriminator.state_dict())
    discriminator(images()).sum().backward()
    assert all(p.grad is None for p in model.parameters())
    assert all(p.grad is not None for p in discriminator.parameters())


def test_a_trained_trunk_is_a_copy_that_learns(model):
    discriminator = Discriminator(model, DiscriminatorConfig())
    theirs = {id(p) for p in model.parameters()}
    assert not any(id(p) in theirs for p in discriminator.parameters())
    discriminator(images()).sum().backward()
    trained = dict(discriminator.trunk.named_parameters())
    assert trained["encoder.blocks.0.attention.qkv.weight"].grad.abs().sum() > 0
    assert trained["embedder.projection.weight"].grad.abs().sum() > 0
    assert not trained["encoder.final.out.weight"].requires_grad


def test_a_trunk_of_a_frozen_model_learns_all_the_same(model):
    model.requires_grad_(False)
    discriminator = Discriminator(model, DiscriminatorConfig())
    assert discriminator.trunk.encoder.registers.requires_grad


def test_fresh_registers_depend_on_the_image(model):
    """Zero modulation, with which a Generative Encoder starts, would make the adversary blind."""
    torch.manual_seed(3)
    fresh = Discriminator(model, DiscriminatorConfig(init="random"))
    sample = images().requires_grad_()
    fresh(sample).mean().backward()
    assert sample.grad.abs().max() > 0
    first, second = fresh(images())[:2]
    assert not torch.allclose(first, second, atol=1e-6)


def test_spectral_layers_have_a_largest_singular_value_of_one():
    torch.manual_seed(0)
    layer = SpectralLinear(24, 12)
    with torch.no_grad():
        layer.weight *= torch.linspace(1.0, 9.0, 24)
        layer.normalise(60)
    matrix = (layer(torch.eye(24)) - layer.bias).detach()
    assert float(torch.linalg.matrix_norm(matrix, 2)) == pytest.approx(1.0, abs=1e-4)


def test_normalise_follows_an_update_of_the_weights(model):
    discriminator = Discriminator(model, DiscriminatorConfig())
    layer = discriminator.heads[0][1]
    before = layer.left.clone()
    with torch.no_grad():
        layer.weight += torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(0))
    discriminator.normalise()
    assert not torch.equal(layer.left, before)
