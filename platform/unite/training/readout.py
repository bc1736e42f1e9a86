"""The numbers of a step on the host: checked, and on a GPU without waiting for the step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from unite.checkpoints.store import CheckpointWriter, committed, folder_of
from unite.words import count


class NonFiniteError(RuntimeError):
    """A loss or gradient is not finite; the optimisers skipped that step."""


class Readout:
    """Brings (names, values) of a step from the device; NonFiniteError when `patience` steps in a
    row have one that is not finite.

    Fewer are counted (`skipped`) and their other numbers are returned. `advice` ends the error's
    message, with {run} for the run's folder; `noun` is that of the samples. A GPU is waited for
    only where the numbers are needed at once. In between, what is returned and checked is of the
    step before.
    """

    def __init__(
        self,
        writer: CheckpointWriter,
        batch_size: int,
        *,
        patience: int,
        advice: str,
        noun: str = "image",
    ) -> None:
        self.writer = writer
        self.batch_size = batch_size
        self.patience = patience
        self.advice = advice
        self.noun = noun
        self.skipped = 0
        self._in_a_row = 0
        self._pending: tuple[list[str], Tensor, Any, int] | None = None

    def read(self, names: list[str], values: Tensor, images: int, *, now: bool) -> dict[str, float]:
        """The numbers of the step that began after `images`, or ({} at first) of the one before."""
        earlier = self.settle()
        if now or values.device.type == "cpu":
            return self._checked(names, values.tolist(), images)
        # A copy that is queued now is complete long before the next step asks for it.
        host = torch.empty_like(values, device="cpu", pin_memory=True)
        host.copy_(values, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()
        self._pending = (names, host, copied, images)
        return earlier

    def settle(self) -> dict[str, float]:
        """Wait for the step that nobody has read yet, if there is one."""
        if self._pending is None:
            return {}
        (names, host, copied, images), self._pending = self._pending, None
        copied.synchronize()
        return self._checked(names, host.tolist(), images)

    def _checked(self, names: list[str], numbers: list[float], images: int) -> dict[str, float]:
        values = dict(zip(names, numbers, strict=True))
        if all(math.isfinite(value) for value in numbers):
            self._in_a_row = 0
            return values
        self.skipped += 1
        self._in_a_row += 1
        if self._in_a_row < self.patience:
            return {name: value for name, value in values.items() if math.isfinite(value)}
        terms = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        self.writer.wait()
        found = committed(self.writer.run)
        good = folder_of(self.writer.run, found[-1]) if found else "none yet"
        before = f", as {self.patience - 1} before it" if self.patience > 1 else ""
        raise NonFiniteError(
            f"step {images // self.batch_size} (after {count(images, self.noun)}) is not "
            f"finite{before}: "
            f"{terms}. The optimiser did not run. Last good checkpoint: {good}. "
            + self.advice.format(run=self.writer.run)
        )
