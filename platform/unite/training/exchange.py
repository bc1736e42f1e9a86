"""Averaging of gradients over ranks while the last backward pass of a step still runs.

A parameter's gradient is complete once the last pass has added to it. Buckets of parameters, in the
order in which that pass comes to them, leave as soon as they are complete; what is still on its way
at the end is waited for. The passes before (other micro-batches, the chunks of the flow) exchange
nothing. Every rank sends the same buckets in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from unite.config.schema import Precision
from unite.training.parallelize import BUCKET_BYTES, World


class GradientExchange:
    """Means of the gradients of `parameters` over the ranks of `world`, summed in `precision`.

    `expect` before the last backward pass of a step, `finish` after it.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], world: World, precision: Precision = "float32"
    ) -> None:
        self.world = world
        self.dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        trained = [p for p in parameters if p.requires_grad]
        self.buckets = _buckets(trained[::-1], self.dtype.itemsize)
        self.early = 0
        """Number of buckets of the last step that left while its pass still ran."""
        self._waiting: list[int] | None = None
        self._sent: list[tuple[list[Tensor], Tensor, Any]] = []
        for number, bucket in enumerate(self.buckets):
            for parameter in bucket:
                parameter.register_post_accumulate_grad_hook(self._hook(number))

    def expect(self) -> None:
        """Begin: the next backward pass is the last one to add to gradients."""
        self._waiting = [len(bucket) for bucket in self.buckets]

    def finish(self) -> None:
        """Wait until every gradient is the mean over ranks, those without a last pass too."""
        if self._waiting is None:
            raise RuntimeError("gradients were to be averaged, and no last pass was announced")
        self.early = len(self._sent)
        while len(self._sent) < len(self.buckets):
            self._send()
        for grads, flat, work in self._sent:
            if work is not None:
                work.wait()
            flat /= self.world.size
            pieces = flat.split([grad.numel() for grad in grads])
            torch._foreach_copy_(grads, [p.view_as(g) for p, g in zip(pieces, grads, strict=True)])
        self._sent, self._waiting = [], None

    def _hook(self, number: int) -> Any:
        def complete(parameter: Tensor) -> None:
            """Count a gradient that is there, and send the buckets that are complete."""
            if self._waiting is None:
                return
            self._waiting[number] -= 1
            # In one order on all ranks, whatever the order in which buckets come to be complete.
            while len(self._sent) < len(self.buckets) and not self._waiting[len(self._sent)]:
                self._send()

        return complete

    def _send(self) -> None:
        """Send the next bucket; parameters that nothing came to have no gradient on any rank."""
        bucket = self.buckets[len(self._sent)]
        grads = [p.grad for p in bucket if p.grad is not None]
        if not grads:
            self._sent.append(([], torch.empty(0), None))
            return
        flat = torch.cat([grad.reshape(-1).to(self.dtype) for grad in grads])
        self._sent.append((grads, flat, dist.all_reduce(flat, async_op=True)))


def _buckets(parameters: Sequence[nn.Parameter], width: int) -> list[list[nn.Parameter]]:
    """Parameters in order, cut where a bucket has BUCKET_BYTES at `width` bytes a number."""
    buckets: list[list[nn.Parameter]] = [[]]
    size = 0
    for parameter in parameters:
        if size >= BUCKET_BYTES:
            buckets.append([])
            size = 0
        buckets[-1].append(parameter)
        size += parameter.numel() * width
    return [bucket for bucket in buckets if bucket]
