"""The weight average: values, separation from the model, exact resume."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from unite.config.recipes import recipe
from unite.domains import build_domain
from unite.models.unite import UNITE
from unite.training.ema import Ema


class Tiny(nn.Module):
    """Two parameters and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.register_buffer("table", torch.zeros(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) + self.table[:2]


def disturb(model: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.copy_(torch.randn(tensor.shape, generator=generator))


def test_follows_the_textbook_recursion() -> None:
    model = Tiny()
    ema = Ema(model, 0.9)
    expected = model.linear.weight.detach().clone()
    for step in range(20):
        disturb(model, step)
        ema.update()
        expected = 0.9 * expected + 0.1 * model.linear.weight.detach()
    torch.testing.assert_close(ema.module().linear.weight, expected)
    assert torch.equal(ema.module().table, model.table)


def test_hand_value() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    ema = Ema(model, 0.75)
    nn.init.constant_(model.weight, 5.0)
    ema.update()
    assert ema.module().weight.item() == 2.0


def test_average_shares_nothing_with_the_model() -> None:
    model = Tiny()
    ema = Ema(model, 0.9)
    before = {key: value.clone() for key, value in ema.state_tensors().items()}
    disturb(model, 0)
    assert all(torch.equal(value, before[key]) for key, value in ema.state_tensors().items())
    assert not any(p.requires_grad for p in ema.module().parameters())
    assert not ema.module().training and model.training
    assert all(p.requires_grad for p in model.parameters())


def test_weights_that_are_not_float32_are_refused() -> None:
    with pytest.raises(ValueError, match="float32"):
        Ema(Tiny().bfloat16(), 0.999)


def test_evaluation_output_changes_with_the_average() -> None:
    config = recipe("smoke")
    torch.manual_seed(0)
    model = UNITE(config.model, build_domain(config.domain), config.flow)
    ema = Ema(model, 0.5)
    z_BKD = torch.randn(2, *model.noise_shape)
    with torch.no_grad():
        first = ema.module().decode(z_BKD)
        disturb(model.decoder, 0)
        assert torch.equal(ema.module().decode(z_BKD), first)
        ema.update()
        assert not torch.allclose(ema.module().decode(z_BKD), first)


def test_averages_a_compiled_model_without_its_compiled_code() -> None:
    model = Tiny()
    model.compile(backend="eager")
    ema = Ema(model, 0.5)
    x = torch.ones(1, 3)
    disturb(model, 0)
    ema.update()
    weight, bias = ema.module().linear.weight, ema.module().linear.bias
    torch.testing.assert_close(ema.module()(x), x @ weight.T + bias + model.table[:2])


def test_keys_are_those_of_the_model() -> None:
    model = Tiny()
    assert list(Ema(model, 0.9).state_tensors()) == list(model.state_dict())


def test_resume_is_exact() -> None:
    straight = Tiny()
    ema = Ema(straight, 0.97)
    for step in range(3):
        disturb(straight, step)
        ema.update()
    file = save(ema.state_tensors())
    resumed = Tiny()
    restored = Ema(resumed, 0.97)
    restored.load_state_tensors(load(file))
    for step in range(3, 6):
        for model, average in ((straight, ema), (resumed, restored)):
            disturb(model, step)
            average.update()
    other = restored.state_tensors()
    assert all(torch.equal(value, other[key]) for key, value in ema.state_tensors().items())


def test_state_of_another_model_is_refused_by_key() -> None:
    with pytest.raises(ValueError, match=r"(?s)another model.*linear\.weight"):
        Ema(Tiny(), 0.9).load_state_tensors({"table": torch.zeros(4)})


@pytest.mark.parametrize("decay", [-0.1, 1.5])
def test_decay_outside_its_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=r"optim\.ema_decay"):
        Ema(Tiny(), decay)
