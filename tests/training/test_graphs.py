"""CUDA graphs of steps: recorded late, judged by the plain step, given up where they differ.

A stand-in records on a CPU: it keeps the body, and a replay runs it on the places of the recording.
"""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainers import straight_and_continued
from unite.config.recipes import recipe
from unite.config.serialise import replace as change
from unite.domains import build_domain
from unite.flow import random
from unite.models.unite import UNITE
from unite.training import exchange, joint
from unite.training.graphs import (
    CHECKS,
    MOST_SHAPES,
    WARM_UP,
    CudaRecorder,
    GraphedStep,
    is_small,
    rebuilt,
    suits,
    tensors_of,
)
from unite.training.memory import worker_memory
from unite.training.objective import MicroBatch
from unite.training.parallelize import World
from unite.training.setup import build_model
from unite.training.step import Address, TrainingStep

READY = WARM_UP + CHECKS + 1
"""Micro-batches of a shape after which a graph is replayed: the first one finds the gradients."""


class StandIn:
    """Records as a card does: nothing runs at once, a replay writes into the same places."""

    def __init__(self, *, stale: bool = False, error: str = "", factor: float = 1.0) -> None:
        self.stale, self.error, self.factor = stale, error, factor
        self.graphed: Any = None
        self.replays = 0

    def __call__(self, body):
        if self.error:
            raise RuntimeError(self.error)
        buffers = list(self.graphed.buffers.values())
        before = [buffer.clone() for buffer in buffers]
        losses = body()
        added = [buffer - old for buffer, old in zip(buffers, before, strict=True)]
        torch._foreach_copy_(buffers, before)

        def replay():
            self.replays += 1
            if self.stale:
                torch._foreach_add_(buffers, added)
                return
            new = body()
            torch._foreach_mul_(buffers, self.factor)
            for name, value in new.terms.items():
                losses.terms[name].copy_(value)
            losses.latent_BKD.copy_(new.latent_BKD)

        return losses, replay


def make(name="smoke", **changes) -> TrainingStep:
    config = change(recipe(name), changes)
    model = build_model(config)
    torch.manual_seed(1)
    with torch.no_grad():  # leave the zero-initialised start, where many gradients vanish
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return TrainingStep(model, config, None)


def graphed(step: TrainingStep, recorder: StandIn) -> GraphedStep:
    recorder.graphed = GraphedStep(step, list(step.model.parameters()), recorder)
    return recorder.graphed


def inputs(number: int, size: int = 4, name: str = "smoke") -> tuple[Any, torch.Tensor, Address]:
    """The sample, labels and address of a micro-batch."""
    domain = build_domain(recipe(name).domain)
    arrays = domain.example_fields(size, np.random.default_rng(number))
    sample, labels_B = domain.to_sample({k: torch.from_numpy(v) for k, v in arrays.items()})
    rows_B = torch.arange(size) + size * number
    return (
        sample,
        labels_B,
        Address(seed=7, epochs_B=torch.full_like(rows_B, number), rows_B=rows_B),
    )


def trained(step: TrainingStep, backward: Any, zero_grad: Any, count: int = 12) -> list[Any]:
    """Gradients and terms of steps of two micro-batches, of two shapes in turn, each followed by a
    small change of the weights."""
    found = []
    for number in range(count):
        zero_grad()
        size = 4 if number % 3 else 3
        for part in (2 * number, 2 * number + 1):
            losses = backward(*inputs(part, size), flow_weight=0.1 * number, scale=0.5)
            found.append({name: float(value) for name, value in losses.terms.items()})
        parameters = dict(step.model.named_parameters())
        found.append({k: p.grad.clone() for k, p in parameters.items() if p.grad is not None})
        with torch.no_grad():
            for parameter in parameters.values():
                if parameter.grad is not None:
                    parameter.sub_(0.01 * parameter.grad)
    return found


def close(ours: list[Any], theirs: list[Any]) -> None:
    """Equal up to the roundings of the flow's weight, which is a float32 tensor in a graph."""
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-5)


def test_training_with_graphs_is_training_without():
    plain, recorder = make(), StandIn()
    expected = trained(plain, plain.backward, lambda: plain.model.zero_grad(set_to_none=True))
    step = make()
    ours = graphed(step, recorder)
    found = trained(step, ours.backward, ours.zero_grad)
    close(found, expected)
    assert not ours.off and len(ours.shapes) == 2
    assert recorder.replays > 2 * CHECKS, "graphs were replayed by themselves, too"


def test_replays_are_to_the_bit_what_the_same_step_gives_without_a_recorder():
    """So a resumed run, whose first steps run without, is the run without interruption."""
    found = []
    for recorder in (StandIn(), StandIn(error="cannot")):
        step = make()
        ours = graphed(step, recorder)
        found.append(trained(step, ours.backward, ours.zero_grad))
    for one, other in zip(*found, strict=True):
        for name in one:
            assert torch.equal(torch.as_tensor(one[name]), torch.as_tensor(other[name])), name


def run(ours: GraphedStep, count: int, name: str = "smoke", first: int = 0) -> None:
    for number in range(first, first + count):
        ours.zero_grad()
        ours.backward(*inputs(number, name=name), flow_weight=1.0)


@pytest.mark.parametrize(
    ("recorder", "reason"),
    [
        (StandIn(stale=True), "not those of the plain step"),
        (StandIn(factor=1.0001), "not those of the plain step"),
        (StandIn(error="operation not permitted\nwhen stream is capturing"), "not permitted$"),
    ],
    ids=["a constant is recorded", "another rounding", "cannot be recorded"],
)
def test_a_graph_that_differs_is_given_up_before_it_counts(recorder, reason, caplog):
    with caplog.at_level(logging.WARNING):
        ours, plain = graphed(make(), recorder), make()
        for number in range(READY + 2):
            ours.zero_grad()
            plain.model.zero_grad(set_to_none=True)
            ours.backward(*inputs(number), flow_weight=1.0)
            plain.backward(*inputs(number), flow_weight=1.0)
            for one, other in zip(
                ours.step.model.parameters(), plain.model.parameters(), strict=True
            ):
                assert (one.grad is None) == (other.grad is None)
                if one.grad is not None:
                    torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)
    assert re.search(reason, ours.off)
    (line,) = [each.message for each in caplog.records]
    assert "without CUDA graphs" in line and "--training.graphs off" in line


def test_where_the_plain_step_does_not_repeat_itself_a_graph_may_differ_by_rounding():
    for size, accepted in ((1e-7, True), (1e-1, False)):
        step = make()
        usual, generator = step.backward, torch.Generator().manual_seed(0)

        def unsteady(*given, usual=usual, size=size, step=step, generator=generator, **named):
            losses = usual(*given, **named)
            for p in step.model.parameters():
                if p.grad is not None:
                    noise = torch.randn(p.shape, generator=generator)
                    p.grad.add_(size * noise * p.grad.abs().max())
            return losses

        step.backward = unsteady
        ours = graphed(step, StandIn())
        run(ours, READY + 1)
        assert (not ours.off) is accepted


def test_a_step_that_is_not_finite_is_no_proof():
    step, recorder = make(), StandIn()
    ours = graphed(step, recorder)
    run(ours, WARM_UP + 1)
    (weight, *_) = step.model.parameters()
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(torch.nan)
    run(ours, 2, first=10)
    (shape,) = ours.shapes.values()
    assert shape.checks == 0 and not ours.off
    with torch.no_grad():
        weight.copy_(kept)
    run(ours, CHECKS + 1, first=20)
    assert shape.checks == CHECKS and not ours.off
    assert all(torch.isfinite(p.grad).all() for p in step.model.parameters() if p.grad is not None)


def test_molecules_are_recorded_by_their_shape():
    step = make("qm9-tiny")
    recorder = StandIn()
    ours = graphed(step, recorder)
    run(ours, READY + 2, "qm9-tiny")
    assert not ours.off and recorder.replays == CHECKS + 2


def test_a_parameter_without_a_gradient_has_none_and_one_that_comes_later_is_told(caplog):
    step, recorder = make(), StandIn()
    spare = torch.nn.Parameter(torch.zeros(3))
    ours = GraphedStep(step, [*step.model.parameters(), spare], recorder)
    recorder.graphed = ours
    run(ours, WARM_UP + 1)
    assert spare.grad is None and spare not in ours.buffers
    usual = step.backward

    def touching(*given, **named):
        spare.grad = torch.ones(3)
        return usual(*given, **named)

    step.backward = touching
    with caplog.at_level(logging.WARNING):
        run(ours, 1, first=9)
    assert "had not in the steps before" in ours.off
    assert torch.equal(spare.grad, torch.ones(3))


def test_more_shapes_than_are_kept_run_without_a_graph():
    ours = graphed(make(), StandIn())
    run(ours, 1)
    for size in range(1, MOST_SHAPES + 3):
        ours.zero_grad()
        ours.backward(*inputs(0, size), flow_weight=1.0)
    assert len(ours.shapes) == MOST_SHAPES and not ours.off


def test_a_sample_of_another_make_is_named():
    sample = {"a": torch.zeros(2), "b": {"c": torch.ones(3)}}
    flat = tensors_of(sample)
    assert [tuple(t.shape) for t in flat] == [(2,), (3,)]
    again = rebuilt(sample, iter([t + 1 for t in flat]))
    assert torch.equal(again["b"]["c"], torch.full((3,), 2.0))
    ours = graphed(make(), StandIn())
    ours._shape((), [torch.zeros(2)], (), lambda *_: None)
    assert "not list" in ours.off


@pytest.mark.parametrize(
    ("name", "gib", "recorded"),
    [
        ("cifar10", 24, False),
        ("cifar10", 40, True),
        ("digits", 24, True),
        ("qm9", 80, True),
        ("unite-b", 141, False),
    ],
)
def test_small_steps_are_recorded_and_large_ones_are_not(name, gib, recorded):
    config = recipe(name)
    step = worker_memory(config).step
    assert is_small(config.training, step, gib * 2**30) is recorded
    for field in ({"graphs": "off"}, {"gradient_checkpointing": True}):
        assert not is_small(replace(config.training, **field), step, gib * 2**30)


@pytest.fixture
def recorders(monkeypatch) -> list[StandIn]:
    """Joint training records here as on a card; the recorders that it made."""
    made: list[StandIn] = []

    def stand_in(step, parameters, _):
        made.append(StandIn())
        made[-1].graphed = GraphedStep(step, parameters, made[-1])
        return made[-1].graphed

    monkeypatch.setattr(joint, "suits", lambda config, device: True)
    monkeypatch.setattr(joint, "CudaRecorder", StandIn)
    monkeypatch.setattr(joint, "GraphedStep", stand_in)
    return made


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_run_of_recorded_steps_goes_on_to_the_bit(smoke, recorders, accumulation):
    """The resumed part records anew, at another step than the run without interruption."""
    changes = {"training.epochs": 12 * 32 / 1500, "training.accumulation": accumulation}
    straight_and_continued(change(smoke, changes), stop=4 * 32)
    assert len(recorders) == 3 and not any(each.graphed.off for each in recorders)
    whole, _, rest = (each.replays for each in recorders)
    assert whole > rest > CHECKS


def test_recorded_gradients_are_averaged_over_ranks(recorders, monkeypatch):
    """They leave after the replay: a graph has no moment before the last pass."""

    def both(flat, async_op):  # the other rank has the same gradients
        flat.mul_(2)

    monkeypatch.setattr(exchange.dist, "all_reduce", both)
    found = []
    for recorded in (True, False):
        monkeypatch.setattr(joint, "suits", lambda config, device, recorded=recorded: recorded)
        step = make()
        ours = joint.JointObjective(step.model, step.config, None, 1000, World(size=2))
        for number in range(READY + 2):
            ours.zero_grad()
            ours.backward(MicroBatch(*inputs(number)), number, 1.0)
            ours.averaged()
        found.append(ours.combine()[0])
    assert len(recorders) == 1 and recorders[0].replays == CHECKS + 2
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


class Moves(TorchDispatchMode):
    """Operations that read the host's memory for a card, or the card's for the host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, torch.Tensor)]
        # torch before 2.15 brings a number that is assigned by index from the host.
        number = func is torch.ops.aten.index_put_.default and not args[2].dim()
        reads = func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        if len({tensor.device.type for tensor in tensors}) > 1 or number or reads:
            self.found.add(str(func))
        return result


@pytest.mark.parametrize("name", ["smoke", "qm9-tiny", "mp20-tiny", "qm9-mp20"])
def test_a_step_moves_nothing_between_host_and_card(name, monkeypatch):
    """Traced without a card: forward passes alone, and noise in plain torch."""
    monkeypatch.setattr(random, "_kernels", lambda device: None)
    monkeypatch.setattr(torch.Tensor, "backward", lambda *given: None)
    monkeypatch.setattr(torch.autograd, "backward", lambda *given: None)
    config = recipe(name)
    domain = build_domain(config.domain)
    arrays = domain.example_fields(2, np.random.default_rng(0))
    with FakeTensorMode(allow_non_fake_inputs=True), Moves() as moves:
        with torch.device("cuda"):
            model = UNITE(config.model, domain, config.flow)
        for module in model.modules():
            for key, buffer in module.named_buffers(recurse=False):
                module._buffers[key] = buffer.to("cuda")
        fields = {key: torch.from_numpy(value).to("cuda") for key, value in arrays.items()}
        sample, labels_B = domain.to_sample(fields)
        rows_B = torch.arange(2, device="cuda")
        weight = torch.full((), 0.5, device="cuda")
        moves.found.clear()
        where = Address(seed=7, epochs_B=rows_B, rows_B=rows_B)
        TrainingStep(model, config, None).backward(sample, labels_B, where, flow_weight=weight)
    assert not moves.found


def test_a_recording_that_fails_leaves_stream_and_memory_as_they_were(monkeypatch):
    """torch before 2.15 leaves its own stream, and an allocator that hands out its pool."""
    left: dict[str, Any] = {"stream": "own"}

    @contextmanager
    def graph(graph, pool, capture_error_mode):
        left.update(stream="recording's", pool=pool)
        yield

    given = {
        "graph": graph,
        "CUDAGraph": lambda: SimpleNamespace(replay=None),
        "graph_pool_handle": lambda: (0, 1),
        "current_stream": lambda: SimpleNamespace(name=left["stream"], device_index=0),
        "set_stream": lambda stream: left.update(stream=stream.name),
    }
    for name, value in given.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda device, pool: left.pop("pool"))

    def waits():
        raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match="not permitted"):
        CudaRecorder()(waits)
    assert left == {"stream": "own"}


def test_a_cpu_records_nothing():
    assert not suits(recipe("smoke"), torch.device("cpu"))
