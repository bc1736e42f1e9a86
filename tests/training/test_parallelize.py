"""What `parallelize` promises: real bf16, recompute, compiled blocks, one exchange per step."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from trainers import trainer_of
from unite.config.recipes import recipe
from unite.config.schema import RunConfig
from unite.config.serialise import replace as change
from unite.models.unite import UNITE
from unite.training import parallelize as module
from unite.training.parallelize import World, check_replicas, parallelize
from unite.training.setup import build_model
from unite.training.step import Address, TrainingStep

CPU = torch.device("cpu")
BATCH = 4


def config(**training: object) -> RunConfig:
    base = change(recipe("smoke"), {"model.encoder.depth": 1, "model.decoder.depth": 1})
    base = change(base, {"model.encoder.in_context_start": 0, "flow.steps": 2})
    return replace(base, training=replace(base.training, **training))


def model_of(settings: RunConfig) -> UNITE:
    """Initialised alike for any settings, and away from zero, where gates hide most gradients."""
    model = build_model(settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return parallelize(model, settings.training, CPU)


def step(model: UNITE, settings: RunConfig) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss and the gradients of one step on fixed images."""
    images = torch.rand(BATCH, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    zeros = torch.zeros(BATCH, dtype=torch.int64)
    address = Address(seed=0, epochs_B=zeros, rows_B=torch.arange(BATCH))
    losses = TrainingStep(model, settings, None).backward(images, zeros, address, flow_weight=1.0)
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return float(losses.terms["loss/total"]), gradients


def close(ours: dict, theirs: dict, tolerance: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        scale = gradient.abs().max().clamp(min=1e-6)
        assert (ours[name] - gradient).abs().max() <= tolerance * scale, name


def test_bfloat16_is_in_the_products_and_nowhere_else():
    settings = config(precision="bfloat16")
    model = model_of(settings)
    seen: dict[str, set[torch.dtype]] = {"products": set(), "norms": set(), "latents": set()}

    def watch(kind):
        return lambda module, args, out: seen[kind].add(out.dtype)

    block = model.tokenizer.blocks[0]
    block.attention.qkv.register_forward_hook(watch("products"))
    block.mlp.out.register_forward_hook(watch("products"))
    model.decoder.blocks[0].up.register_forward_hook(watch("products"))
    block.register_forward_hook(watch("norms"))
    model.tokenizer.register_forward_hook(watch("latents"))
    low, gradients = step(model, settings)
    assert seen == {
        "products": {torch.bfloat16},
        "norms": {torch.float32},
        "latents": {torch.float32},
    }
    assert {g.dtype for g in gradients.values()} == {torch.float32}
    full, _ = step(model_of(config()), config())
    assert low != full and low == pytest.approx(full, rel=0.02)


def test_recomputed_blocks_run_twice_and_give_the_same_gradients():
    counts = {}
    results = {}
    for recompute in (False, True):
        settings = config(gradient_checkpointing=recompute)
        model = model_of(settings)
        counts[recompute] = 0

        def count(*_, key=recompute):
            counts[key] += 1

        model.tokenizer.blocks[0].register_forward_pre_hook(count)
        results[recompute] = step(model, settings)
    assert counts == {False: 2, True: 4}, "tokenization and one batch of noisings"
    assert results[True][0] == results[False][0]
    close(results[True][1], results[False][1], 1e-6)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="inductor needs a C++ compiler")
def test_compiled_blocks_are_full_graphs_with_the_same_gradients():
    plain = step(model_of(config()), config())
    settings = config(compile=True)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = step(model_of(settings), settings)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 2
    assert not torch._dynamo.utils.counters["graph_break"]
    assert compiled[0] == pytest.approx(plain[0], rel=1e-5)
    close(compiled[1], plain[1], 1e-3)


@pytest.fixture
def two_ranks(monkeypatch) -> list[int]:
    """Plays a second rank that holds what this one holds; returns the sizes of exchanges."""
    sizes: list[int] = []

    def all_reduce(values, async_op=False):
        sizes.append(values.numel())
        values.mul_(2)
        return SimpleNamespace(wait=lambda: None)

    def all_gather_into_tensor(gathered, value):
        gathered.copy_(value.repeat(len(gathered) // len(value)))

    def all_gather_object(gathered, value):
        gathered[:] = [value] * len(gathered)

    monkeypatch.setattr(module.dist, "all_reduce", all_reduce)
    monkeypatch.setattr(module.dist, "all_gather_object", all_gather_object)
    monkeypatch.setattr(module.dist, "all_gather_into_tensor", all_gather_into_tensor)
    return sizes


@pytest.mark.parametrize("accumulation", [1, 4])
def test_gradients_are_exchanged_once_per_optimiser_step(smoke, two_ranks, accumulation):
    changes = {"training.accumulation": accumulation, "flow.steps": 4, "flow.chunk": 2}
    trainer = trainer_of(change(smoke, changes), World(rank=0, size=2))
    for count in (1, 2):
        trainer.train_step(next(trainer.stream))
        trainer.images += trainer.plan.batch_size
        assert len(two_ranks) == 2 * count
    trainer.stream.close()
    trained = sum(p.numel() for p in trainer.model.parameters() if p.grad is not None)
    assert two_ranks[0] == trained and two_ranks[1] < 32, "gradients, then the step's numbers"


def test_the_mean_over_ranks_is_taken_in_place_and_in_buckets(two_ranks, monkeypatch):
    monkeypatch.setattr(module, "BUCKET_BYTES", 28)
    tensors = [torch.arange(6.0).view(2, 3), torch.ones(1), torch.full((9,), 2.0)]
    expected = [tensor.clone() for tensor in tensors]
    World(rank=0, size=2).average_(tensors)
    assert two_ranks == [7, 9]
    for ours, theirs in zip(tensors, expected, strict=True):
        assert torch.equal(ours, theirs)
    World().average_(tensors)
    assert len(two_ranks) == 2, "a world of one exchanges nothing"


def test_ranks_with_other_weights_are_found(two_ranks, monkeypatch):
    linear = torch.nn.Linear(3, 3)
    check_replicas(linear, World(rank=0, size=2))

    def another(gathered, value):
        gathered[:] = [value, "of other weights"]

    monkeypatch.setattr(module.dist, "all_gather_object", another)
    with pytest.raises(RuntimeError, match="ranks hold different weights"):
        check_replicas(linear, World(rank=0, size=2))
    check_replicas(linear, World())


def test_compiled_code_is_kept_where_the_variable_says(tmp_path, monkeypatch):
    for name in module.CACHES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(module.COMPILE_CACHE, str(tmp_path / "here"))
    monkeypatch.setenv("TRITON_CACHE_DIR", "mine")
    module.keep_compiled()
    assert module.os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "here" / "inductor")
    assert module.os.environ["TRITON_CACHE_DIR"] == "mine"


def test_a_folder_that_cannot_be_made_leaves_torchs_own(tmp_path, monkeypatch, caplog):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(module.COMPILE_CACHE, str(tmp_path / "file" / "below"))
    module.keep_compiled()
    assert "TORCHINDUCTOR_CACHE_DIR" not in module.os.environ
    assert "compiled code is not kept in" in caplog.text
