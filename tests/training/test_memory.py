"""The estimate of a worker's memory against tensors that a real step makes."""

import pytest
import torch

from unite.config.finetune import as_trained, finetune_recipe
from unite.config.recipes import recipe
from unite.config.serialise import replace
from unite.domains import build_domain
from unite.training import memory
from unite.training.memory import machine_memory, worker_memory
from unite.training.objective import MicroBatch
from unite.training.schedule import Plan
from unite.training.setup import build_model, build_objective
from unite.training.step import Address, TrainingStep

SMOKE = replace(recipe("smoke"), {"cluster.num_workers": 1, "training.accumulation": 1})


def config_of(images: int):
    return replace(SMOKE, {"training.batch_size": images})


def test_the_step_is_that_of_real_tensors() -> None:
    """The same count on the CPU, where attention keeps less: close, and never more."""
    images, alive = 64, memory._Alive()
    model = build_model(SMOKE)
    domain = SMOKE.domain
    sample = torch.zeros(images, domain.channels, domain.size, domain.size)
    rows_B = torch.arange(images)
    step = TrainingStep(model, SMOKE, None)
    with alive:
        address = Address(seed=0, epochs_B=torch.zeros_like(rows_B), rows_B=rows_B)
        step.backward(sample, torch.zeros_like(rows_B), address, flow_weight=1.0)
    expected = worker_memory(config_of(images)).step
    assert 0.8 * expected < alive.peak <= 1.05 * expected


def test_activations_grow_with_the_micro_batch() -> None:
    small, large = (worker_memory(config_of(n)).step for n in (64, 128))
    assert 1.8 < large / small < 2.1
    halved = replace(config_of(128), {"training.accumulation": 2})
    assert worker_memory(halved).step == small
    assert worker_memory(replace(config_of(128), {"cluster.num_workers": 2})).step == small


@pytest.mark.parametrize(
    "changes", [{"training.gradient_checkpointing": True}, {"training.precision": "bfloat16"}]
)
def test_what_saves_memory_is_counted(changes) -> None:
    plain = worker_memory(config_of(64)).step
    assert worker_memory(replace(config_of(64), changes)).step < 0.8 * plain


@pytest.mark.parametrize("name", ["qm9-tiny", "mp20"])
def test_samples_of_any_domain_are_counted(name) -> None:
    """Half the micro-batch, half the activations; no numbers are made, so a large run is fine."""
    changes = {"cluster.num_workers": 1, "training.accumulation": 1, "training.batch_size": 16}
    one = replace(recipe(name), changes)
    two = worker_memory(replace(one, {"training.batch_size": 32}))
    assert two.state == worker_memory(one).state
    assert worker_memory(one).step < two.step < 2.1 * worker_memory(one).step


def test_the_state_is_weights_average_and_moments() -> None:
    model = build_model(SMOKE)
    weights = sum(tensor.numel() for tensor in model.state_dict().values())
    adamw = replace(SMOKE, {"optim.muon": False})
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert worker_memory(adamw).state == 4 * (2 * weights + 2 * trained)
    muon = replace(SMOKE, {"optim.muon": True})
    assert worker_memory(muon).state < worker_memory(adamw).state


TUNED = finetune_recipe("small", SMOKE)


def test_the_step_of_a_fine_tuning_is_that_of_real_tensors() -> None:
    """Both players' turns on the CPU, counted alike: close, and never more."""
    images, alive = TUNED.finetune.batch_size, memory._Alive()
    config = as_trained(TUNED)
    stage = build_objective(build_model(config), config, None, Plan.of(config, 1500))
    rows_B = torch.arange(images)
    address = Address(seed=0, epochs_B=torch.zeros_like(rows_B), rows_B=rows_B)
    batch = MicroBatch(torch.zeros(images, 1, 8, 8), torch.zeros_like(rows_B), address)
    with alive:
        for player in stage.turns(stage.plan.total_images):
            player.zero_grad()
            player.backward(batch, stage.plan.total_images, 1.0)
            player.combine()
            player.stepped(torch.zeros((), dtype=torch.bool))
    expected = worker_memory(TUNED).step
    assert 0.8 * expected < alive.peak <= 1.05 * expected


@pytest.mark.parametrize(
    "changes",
    [
        {"adversarial.weight": 0.0},
        {"discriminator.trunk": "frozen"},
        {"finetune.precision": "bfloat16"},
        {"finetune.accumulation": 2},
        {"training.gradient_checkpointing": True},
    ],
)
def test_what_a_fine_tuning_needs_less_is_counted(changes) -> None:
    less = replace(TUNED, changes)
    assert worker_memory(less).step < 0.75 * worker_memory(TUNED).step


def test_a_frozen_trunk_recomputes_as_the_models_own_encoder_does() -> None:
    frozen = replace(TUNED, {"discriminator.trunk": "frozen"})
    recomputed = replace(frozen, {"training.gradient_checkpointing": True})
    assert worker_memory(recomputed).step < 0.8 * worker_memory(frozen).step


def test_the_state_of_a_fine_tuning_is_both_players() -> None:
    model = build_model(SMOKE)
    weights = sum(tensor.numel() for tensor in model.state_dict().values())
    decoder = sum(p.numel() for p in model.decoder.parameters() if p.requires_grad)
    control = worker_memory(replace(TUNED, {"adversarial.weight": 0.0}))
    assert control.state == 4 * (2 * weights + 2 * decoder)
    frozen = worker_memory(replace(TUNED, {"discriminator.trunk": "frozen"}))
    trunk = sum(tensor.numel() for tensor in model.tokenizer.state_dict().values())
    # A trunk of its own, and its moments; the copies of the decoder are in both.
    assert worker_memory(TUNED).state - frozen.state > 4 * trunk
    assert frozen.state > control.state + 4 * 3 * decoder


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch) -> None:
    file = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "CGROUP_FILES", (str(file),))
    file.write_text("max\n")
    whole = machine_memory()
    file.write_text("1048576\n")
    assert machine_memory() == 1048576 < whole


def test_lpips_is_counted_beside_the_decoders_own_graph() -> None:
    config = replace(recipe("smoke"), {"domain.size": 32, "domain.patch": 8})
    with_it = replace(config, {"loss.perceptual.weight": 1.0})
    kept = memory._perceptual_bytes(with_it, 4)
    assert memory._perceptual_bytes(config, 4) == 0
    side = build_domain(config.domain).perceptual_side
    assert kept == 4 * 4 * sum(2 * c * (side >> h) ** 2 for _, c, h in memory.VGG_CONVOLUTIONS)
    half = replace(with_it, {"training.precision": "bfloat16"})
    assert memory._perceptual_bytes(half, 4) == kept // 2


def test_lpips_of_a_fine_tuning_is_counted_beside_the_decoders_turn() -> None:
    """The discriminator's turn, in which there is none, may need more."""
    large = replace(recipe("smoke"), {"domain.size": 32, "domain.patch": 8})
    tuned = replace(finetune_recipe("small", large), {"loss.perceptual.weight": 1.0})
    trained = as_trained(tuned)
    kept = memory._perceptual_bytes(trained, memory.largest_micro_batch(trained))
    control = replace(tuned, {"adversarial.weight": 0.0})
    both, decoder = (
        worker_memory(replace(each, {"loss.perceptual.weight": 0.0})).step
        for each in (tuned, control)
    )
    assert worker_memory(control).step == decoder + kept > decoder
    assert worker_memory(tuned).step == max(both, decoder + kept)
