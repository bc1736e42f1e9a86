"""CUDA graphs of the losses and gradients of a micro-batch, for steps that are bound by launches.

A small model's kernels take less time than the host needs to launch them one by one. A graph
replays all of them by one call, on inputs that are copied into the places where it was recorded.
Micro-batches of each shape have a graph of their own; all share one pool of memory. The first
micro-batches of a shape run without (WARM_UP), so that all code is compiled and every algorithm
chosen; then the graph is recorded and must give, for CHECKS further micro-batches, the gradients of
the plain step, to the bit where that repeats itself to the bit. Else, or if the step does what a
graph cannot hold (a wait for the device, a copy from the host), the run goes on without, and says
why. So a graph changes no number, and a resumed run is the run without interruption.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from unite.config.schema import RunConfig, TrainingConfig
from unite.training.memory import worker_memory
from unite.training.step import Address, StepLosses, TrainingStep

logger = logging.getLogger(__name__)

WARM_UP = 3
CHECKS = 2
MOST_SHAPES = 16
"""Largest number of graphs; micro-batches of further shapes run without."""
LARGEST_SHARE = 1 / 4
"""Largest share of a card's memory that a step may need to be recorded: a graph keeps it for good.
Steps that need more are bound by what they compute."""
ROUNDINGS = {"float32": 2**13, "bfloat16": 2}
"""Roundings, in the training's precision, by which gradients may differ where the plain step does
not repeat itself either: sums whose order the card chooses."""

Replay = Callable[[], None]


class Recorder(Protocol):
    """Records what `body` launches, without running it: its results' places, and the replay."""

    def __call__(self, body: Callable[[], StepLosses]) -> tuple[StepLosses, Replay]: ...


def suits(config: RunConfig, device: torch.device) -> bool:
    """True if a run's steps are to be recorded on its device."""
    if device.type != "cuda" or config.training.graphs == "off":
        return False
    memory = torch.cuda.get_device_properties(device).total_memory
    return is_small(config.training, worker_memory(config).step, memory)


def is_small(training: TrainingConfig, step: int, memory: int) -> bool:
    """True if a step of `step` bytes is to be recorded on a card with `memory` bytes."""
    recorded = training.graphs == "auto" and not training.gradient_checkpointing
    return recorded and step <= LARGEST_SHARE * memory


class CudaRecorder:
    """Records CUDA graphs, all in one pool of memory: they are never replayed side by side."""

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, body: Callable[[], StepLosses]) -> tuple[StepLosses, Replay]:
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            # Other threads may use the card meanwhile: a checkpoint is copied, a batch is uploaded.
            with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
                losses = body()
        except BaseException:
            self._leave(stream)
            raise
        return losses, graph.replay

    def _leave(self, stream: torch.cuda.Stream) -> None:
        """End what torch before 2.15 leaves begun where a recording fails: its stream is the
        current one, and memory is still handed out as while recording."""
        torch.cuda.set_stream(stream)
        with suppress(RuntimeError):  # torch has ended it
            torch._C._cuda_endAllocateToPool(stream.device_index, self.pool)


@dataclass(kw_only=True)
class Recorded:
    """Micro-batches of one shape."""

    seen: int = 0
    """Number of them that ran without a graph."""
    inputs: list[Tensor] = field(default_factory=list)
    """Places from which the graph reads."""
    losses: Any = None
    """StepLosses, the places into which it writes; None before it is recorded."""
    replay: Replay = lambda: None
    checks: int = 0
    """Number of micro-batches whose gradients were those of the plain step."""


class GraphedStep:
    """A TrainingStep whose `backward` replays a graph once that has proved to be equal.

    Gradients are added to buffers that stay for good, which `zero_grad` clears and hands out.
    """

    def __init__(
        self, step: TrainingStep, parameters: Sequence[nn.Parameter], recorder: Recorder
    ) -> None:
        self.step = step
        self.parameters = parameters
        self.recorder = recorder
        self.buffers: dict[nn.Parameter, Tensor] = {}
        """Gradients of the parameters that have any."""
        self.shapes: dict[Any, Recorded] = {}
        self.off = ""
        """Reason why no graph is used any more; empty while they are."""

    def zero_grad(self) -> None:
        """Clear all gradients in their places; parameters that never had one have none."""
        if self.buffers:
            torch._foreach_zero_(list(self.buffers.values()))
        for parameter in self.parameters:
            parameter.grad = self.buffers.get(parameter)

    def backward(
        self,
        sample: Any,
        labels_B: Tensor,
        address: Address,
        *,
        flow_weight: float,
        scale: float = 1.0,
        before_last_pass: Callable[[], None] | None = None,
    ) -> StepLosses:
        """As TrainingStep.backward; `before_last_pass` is called after all of them: a graph has no
        moment before the last."""
        weight = torch.full((), flow_weight, device=labels_B.device)
        place = (labels_B, address.epochs_B, address.rows_B, weight)

        def on(sample: Any, place: Sequence[Tensor]) -> StepLosses:
            labels_B, epochs_B, rows_B, weight = place
            where = Address(seed=address.seed, epochs_B=epochs_B, rows_B=rows_B)
            return self.step.backward(sample, labels_B, where, flow_weight=weight, scale=scale)

        shape = None if self.off else self._shape((address.seed, scale), sample, place, on)
        if shape is None:
            losses = on(sample, place)
        elif shape.checks < CHECKS:
            losses = self._checked(shape, lambda: on(sample, place))
        else:
            shape.replay()
            losses = shape.losses
        self._adopt()
        if before_last_pass is not None:
            before_last_pass()
        return losses

    def _shape(
        self, constants: Any, sample: Any, place: Sequence[Tensor], on: Callable[..., StepLosses]
    ) -> Recorded | None:
        """The recording for a micro-batch's shape, ready to be replayed on it; None where that runs
        without a graph."""
        try:
            given = [*tensors_of(sample), *place]
            key = (constants, *((tuple(tensor.shape), tensor.dtype) for tensor in given))
            if key not in self.shapes and len(self.shapes) == MOST_SHAPES:
                return None
            shape = self.shapes.setdefault(key, Recorded())
            if shape.seen < WARM_UP:
                shape.seen += 1
                return None
            if shape.losses is None:
                shape.inputs = [tensor.clone() for tensor in given]
                like = rebuilt(sample, iter(shape.inputs))
                own = shape.inputs[-len(place) :]
                shape.losses, shape.replay = self.recorder(lambda: on(like, own))
                self._require_same_places()
            torch._foreach_copy_(shape.inputs, given)
        except Exception as error:  # a step that cannot be recorded, in whatever way
            self._give_up(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
            return None
        return shape

    def _require_same_places(self) -> None:
        """RuntimeError if a gradient came while a graph was recorded: its place holds nothing."""
        came = [p for p in self.parameters if p.grad is not self.buffers.get(p)]
        for parameter in came:
            parameter.grad = self.buffers.get(parameter)
        if came:
            raise RuntimeError("a parameter has a gradient that it had not in the steps before")

    def _checked(self, shape: Recorded, plain: Callable[..., StepLosses]) -> StepLosses:
        """The plain step, beside which the replay is judged."""
        buffers = list(self.buffers.values())
        before = [buffer.clone() for buffer in buffers]
        shape.replay()
        replayed = [buffer.clone() for buffer in buffers]
        torch._foreach_copy_(buffers, before)
        losses = plain()
        if not _finite(buffers):
            return losses  # it is skipped, and says nothing
        if not (_same(replayed, buffers) or self._as_near(before, replayed, plain)):
            self._give_up("its gradients are not those of the plain step")
        shape.checks += 1
        return losses

    def _as_near(
        self, before: list[Tensor], replayed: list[Tensor], plain: Callable[..., StepLosses]
    ) -> bool:
        """True if the plain step, made again, is not to the bit what it was either, and the replay
        is within roundings of it."""
        buffers = list(self.buffers.values())
        first = [buffer.clone() for buffer in buffers]
        torch._foreach_copy_(buffers, before)
        plain()
        repeats = _same(first, buffers)
        torch._foreach_copy_(buffers, first)
        if repeats:
            return False
        precision = self.step.config.training.precision
        limit = ROUNDINGS[precision] * torch.finfo(getattr(torch, precision)).eps
        apart, size = (
            torch.nn.utils.get_total_norm(torch._foreach_sub(first, other))
            for other in (replayed, before)
        )
        return bool(apart <= limit * size)

    def _adopt(self) -> None:
        """Keep the places of new gradients. A graph that knows of none of them is of no use."""
        new = {p: p.grad for p in self.parameters if p.grad is not None and p not in self.buffers}
        self.buffers |= new
        if new:
            self.shapes = {}

    def _give_up(self, reason: str) -> None:
        logger.warning(
            "Training goes on without CUDA graphs: %s. The numbers are the same; "
            "--training.graphs off says it from the start.",
            reason,
        )
        self.off, self.shapes = reason, {}


def tensors_of(sample: Any) -> list[Tensor]:
    """Tensors of a sample, which is one or holds some in dicts, in order; TypeError for others."""
    if isinstance(sample, Tensor):
        return [sample]
    if isinstance(sample, dict):
        return [tensor for part in sample.values() for tensor in tensors_of(part)]
    raise TypeError(f"a sample is a tensor or a dict of samples, not {type(sample).__name__}")


def rebuilt(sample: Any, tensors: Any) -> Any:
    """A sample like `sample` of an iterator's tensors, in the order of `tensors_of`."""
    if isinstance(sample, dict):
        return {name: rebuilt(part, tensors) for name, part in sample.items()}
    return next(tensors)


def _same(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def _finite(tensors: Sequence[Tensor]) -> bool:
    return bool(torch.isfinite(torch.nn.utils.get_total_norm(list(tensors))))
