"""Muon against torch.optim.Muon, and the optimiser pair's state."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from unite.config.recipes import recipe
from unite.config.schema import OptimConfig
from unite.domains import build_domain
from unite.models.unite import UNITE
from unite.training.muon import AdamW, Muon, Optimizers, build_optimizers, orthogonalize

SHAPES = [(8, 24), (24, 8), (8, 24), (16, 16), (1, 12), (12, 1), (24, 8), (1, 1)]


def parameters(seed: int = 0) -> list[nn.Parameter]:
    """Tall, wide, square and single-row matrices; the last is the transpose of a buffer."""
    generator = torch.Generator().manual_seed(seed)
    values = [torch.randn(shape, generator=generator) for shape in SHAPES]
    values.append(torch.randn(24, 8, generator=generator).T)
    assert not values[-1].is_contiguous()
    return [nn.Parameter(value) for value in values]


def set_gradients(params: list[nn.Parameter], step: int, *, strided: bool = False) -> None:
    generator = torch.Generator().manual_seed(1000 + step)
    for parameter in params:
        gradient = torch.randn(parameter.shape, generator=generator)
        # Same values, other memory layout.
        parameter.grad = gradient.T.contiguous().T if strided else gradient


WITHOUT_COMPILER = """
import sys
import torch
from unite.config.schema import OptimConfig
from unite.training.muon import build_optimizers
model = torch.nn.Linear(4, 4)
both = build_optimizers(model, OptimConfig())
assert set(both.members) == {"muon", "adamw"}
model(torch.ones(1, 4)).sum().backward()
both.step()
both.load_state_tensors(both.state_tensors())
both.zero_grad()
print("torch._dynamo" in sys.modules)
"""


def test_no_step_imports_the_compiler():
    """Its two seconds are a third of what a worker takes to start."""
    words = [sys.executable, "-c", WITHOUT_COMPILER]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_step_of_adamw_records_no_gradient():
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    AdamW([weight], fused=True).step()
    assert weight.is_leaf and weight.grad_fn is None


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("strided", [False, True])
def test_agrees_with_torch_muon_over_many_steps(weight_decay: float, strided: bool) -> None:
    ours, theirs = parameters(), parameters()
    muon = Muon(ours, lr=0.02, momentum=0.95, weight_decay=weight_decay)
    oracle = torch.optim.Muon(
        theirs,
        lr=0.02,
        momentum=0.95,
        weight_decay=weight_decay,
        nesterov=True,
        adjust_lr_fn="match_rms_adamw",
    )
    for step in range(40):
        set_gradients(ours, step, strided=strided)
        set_gradients(theirs, step)
        muon.step()
        oracle.step()
    # Both orthogonalise in bfloat16, and a CPU with bfloat16 units rounds a batched product in
    # other places than a single one: per step by its epsilon, over the steps as a random walk.
    drift = 40**0.5 * 0.02 * torch.finfo(torch.bfloat16).eps
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=drift)
        torch.testing.assert_close(
            muon.state[a]["momentum_buffer"], oracle.state[b]["momentum_buffer"]
        )


def test_eps_bounds_the_norm_that_updates_are_divided_by_as_in_torch() -> None:
    """An update of norm 1e-10 is small beside either eps, and shrinks with it."""
    smaller = {}
    for eps in (1e-7, 1e-6):
        ours, theirs = (nn.Parameter(torch.zeros(4, 6)) for _ in range(2))
        muon = build_optimizers(nn.ParameterDict({"hidden": ours}), OptimConfig(muon_eps=eps))
        oracle = torch.optim.Muon(
            [theirs], lr=1.0, momentum=0.95, weight_decay=0, eps=eps, adjust_lr_fn="match_rms_adamw"
        )
        for parameter in (ours, theirs):
            parameter.grad = torch.eye(4, 6) * 5e-10
        muon.set_lr(1.0)
        muon.step()
        oracle.step()
        torch.testing.assert_close(ours, theirs, rtol=4 * torch.finfo(torch.bfloat16).eps, atol=0)
        smaller[eps] = ours.norm().item()
    assert smaller[1e-6] == pytest.approx(smaller[1e-7] / 10, rel=0.05)


def test_parameters_without_gradient_stay() -> None:
    params = parameters()
    muon = Muon(params, lr=0.1)
    set_gradients(params, 0)
    params[2].grad = None
    before = params[2].detach().clone()
    muon.step()
    assert torch.equal(params[2], before)
    assert params[2] not in muon.state


def test_zero_gradient_gives_no_update_and_no_nan() -> None:
    (parameter,) = params = [nn.Parameter(torch.ones(3, 5))]
    parameter.grad = torch.zeros(3, 5)
    Muon(params, lr=0.1).step()
    assert torch.equal(parameter, torch.ones(3, 5))


def test_orthogonalize_brings_singular_values_near_one() -> None:
    stack = torch.randn(3, 8, 24, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalize(stack).float())
    assert values.min() > 0.5 and values.max() < 1.4


def test_refuses_what_is_not_a_matrix() -> None:
    with pytest.raises(ValueError, match=r"matrices only .*\(3,\)"):
        Muon([nn.Parameter(torch.zeros(3))])


def test_closure_is_evaluated_with_gradients() -> None:
    (parameter,) = params = [nn.Parameter(torch.ones(2, 2))]

    def closure() -> torch.Tensor:
        loss = parameter.square().sum()
        loss.backward()
        return loss

    assert Muon(params, lr=0.1).step(closure).item() == 4.0
    assert not torch.equal(parameter, torch.ones(2, 2))


def small_model() -> UNITE:
    config = recipe("smoke")
    torch.manual_seed(0)
    return UNITE(config.model, build_domain(config.domain), config.flow)


def train(model: UNITE, optimizers: Optimizers, steps: range) -> None:
    """Steps with gradients that depend on the step alone."""
    for step in steps:
        optimizers.zero_grad()
        generator = torch.Generator().manual_seed(step)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizers.set_lr(1e-2 / (1 + step))
        optimizers.step()


def test_groups_cover_every_parameter_once() -> None:
    model = small_model()
    optimizers = build_optimizers(model, OptimConfig())
    names = [name for group in optimizers.names.values() for name in group]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    shapes = {name: p.ndim for name, p in model.named_parameters()}
    assert all(shapes[name] == 2 for name in optimizers.names["muon"])
    assert any("qkv" in name for name in optimizers.names["muon"])
    assert all("embedder" not in name for name in optimizers.names["muon"])


def test_without_muon_adamw_trains_everything() -> None:
    model = small_model()
    optimizers = build_optimizers(model, OptimConfig(muon=False))
    assert list(optimizers.members) == ["adamw"]
    assert len(optimizers.names["adamw"]) == len(list(model.parameters()))


def test_adamw_hyperparameters_reach_torch() -> None:
    config = OptimConfig(betas=(0.8, 0.99), eps=1e-5, weight_decay=0.3)
    group = build_optimizers(small_model(), config).members["adamw"].param_groups[0]
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.8, 0.99), 1e-5, 0.3)


def test_frozen_parameters_are_left_out() -> None:
    model = small_model()
    model.decoder.requires_grad_(False)
    optimizers = build_optimizers(model, OptimConfig())
    assert not any("decoder" in n for group in optimizers.names.values() for n in group)


def test_training_from_restored_state_equals_training_straight() -> None:
    straight = small_model()
    optimizers = build_optimizers(straight, OptimConfig())
    train(straight, optimizers, range(3))
    weights = {name: value.clone() for name, value in straight.state_dict().items()}
    file = save({k: v.contiguous() for k, v in optimizers.state_tensors().items()})
    train(straight, optimizers, range(3, 6))

    resumed = small_model()
    resumed.load_state_dict(weights)
    restored = build_optimizers(resumed, OptimConfig())
    restored.load_state_tensors(load(file))
    train(resumed, restored, range(3, 6))
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    ours, theirs = restored.state_tensors(), optimizers.state_tensors()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_state_is_keyed_by_parameter_name() -> None:
    model = small_model()
    optimizers = build_optimizers(model, OptimConfig())
    assert optimizers.state_tensors() == {}
    train(model, optimizers, range(1))
    keys = set(optimizers.state_tensors())
    expected = {f"muon.momentum_buffer.{name}" for name in optimizers.names["muon"]}
    for entry in ("step", "exp_avg", "exp_avg_sq"):
        expected |= {f"adamw.{entry}.{name}" for name in optimizers.names["adamw"]}
    assert keys == expected


def test_loaded_state_is_a_copy() -> None:
    model = small_model()
    optimizers = build_optimizers(model, OptimConfig())
    train(model, optimizers, range(1))
    saved = {key: value.clone() for key, value in optimizers.state_tensors().items()}
    kept = {key: value.clone() for key, value in saved.items()}
    optimizers.load_state_tensors(saved)
    train(model, optimizers, range(1, 2))
    assert all(torch.equal(saved[key], kept[key]) for key in saved)


@pytest.mark.parametrize(
    "key", ["muon.momentum_buffer.no.such", "sgd.momentum.x", "adamw.exp_avg", "nonsense"]
)
def test_unknown_state_is_refused_by_name(key: str) -> None:
    optimizers = build_optimizers(small_model(), OptimConfig())
    with pytest.raises(ValueError, match=f"'{key}' belongs to no parameter"):
        optimizers.load_state_tensors({key: torch.zeros(2)})


def test_state_of_a_parameter_in_the_other_group_is_refused() -> None:
    model = small_model()
    optimizers = build_optimizers(model, OptimConfig())
    train(model, optimizers, range(1))
    saved = optimizers.state_tensors()
    with pytest.raises(ValueError, match=r"optim\.muon"):
        build_optimizers(model, OptimConfig(muon=False)).load_state_tensors(saved)


def test_state_of_another_shape_is_refused() -> None:
    optimizers = build_optimizers(small_model(), OptimConfig())
    name = optimizers.names["muon"][0]
    with pytest.raises(ValueError, match=r"has shape \(2, 2\)"):
        optimizers.load_state_tensors({f"muon.momentum_buffer.{name}": torch.zeros(2, 2)})


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_a_skipped_step_changes_nothing_even_with_nan(weight_decay: float) -> None:
    model = small_model()
    optimizers = build_optimizers(model, OptimConfig(weight_decay=weight_decay))
    train(model, optimizers, range(2))
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    state = {key: value.clone() for key, value in optimizers.state_tensors().items()}
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, torch.nan)
    optimizers.step(skip=torch.tensor(True))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in weights.items())
    assert all(torch.equal(v, optimizers.state_tensors()[key]) for key, v in state.items())


def test_a_step_that_is_not_skipped_equals_a_plain_one() -> None:
    models = [small_model(), small_model()]
    for model, skip in zip(models, (None, torch.tensor(False)), strict=True):
        optimizers = build_optimizers(model, OptimConfig(weight_decay=0.1))
        train(model, optimizers, range(1))
        optimizers.step(skip=skip)
    pairs = zip(models[0].parameters(), models[1].parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
