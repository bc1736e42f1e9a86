"""Watcher of a sweep's trials in the driver. It imports Ray: import it after `connect`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from ray.tune import Callback

from unite import terminal
from unite.cluster.connect import CapacityError
from unite.cluster.resources import START_SECONDS, free_resources
from unite.cluster.tune import NO_ROOM, Item
from unite.storage import Store
from unite.training.progress import describe_progress, read_progress

HEARTBEAT_SECONDS = 30.0


class Watcher(Callback):
    """Callback that prints trials' states, reports ended ones and ends a sweep that hangs."""

    def __init__(
        self,
        items: Sequence[Item],
        on_done: Callable[[str], object],
        *,
        patience_s: float = START_SECONDS,
    ) -> None:
        self.items = {item.key: item for item in items}
        self.on_done = on_done
        self.patience_s = patience_s
        self.errors: dict[str, str] = {}
        """Key -> message of each trial that ended without a result."""
        self.ended = 0
        self.hopeless: CapacityError | None = None
        """Error because of which no other trial would start either."""
        self.alive = self.shown = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        """Empty state for Tune's copy of its callbacks, which nobody reads."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has its resources."""
        self._say(f"{self._item(trial).label}: started")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial returned."""
        item, last = self._item(trial), trial.last_result or {}
        self.ended += 1
        if last.get("error"):
            self._failed(item, last["error"])
            others = [each for each in trials if each is not trial and each.status == "RUNNING"]
            if last.get("state") == NO_ROOM and not others:
                self.hopeless = CapacityError(last["error"])
            return
        self._say(f"{item.label}: {last.get('state', 'ended')} ({self.ended} of {len(self.items)})")
        self.on_done(item.key)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial was lost, and its restarts are used up."""
        self.ended += 1
        error = trial.get_error() if hasattr(trial, "get_error") else None
        self._failed(self._item(trial), _last_line(str(error or "its process was lost")))

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Every round of Tune's loop: heartbeat, and the guard against waiting for ever.

        A trial that Tune runs may still wait for workers of its own; `fit` limits that.
        """
        if self.hopeless is not None:
            raise self.hopeless
        now = time.monotonic()
        running = [trial for trial in trials if trial.status == "RUNNING"]
        waiting = [trial for trial in trials if trial.status == "PENDING"]
        if running or not waiting:
            self.alive = now
        if now - self.alive > self.patience_s:
            raise self._nothing_starts(waiting[0])
        if now - self.shown > HEARTBEAT_SECONDS:
            for trial in running:
                item = self._item(trial)
                self._say(f"{item.label}: {describe_progress(read_progress(Store(item.folder)))}")

    def _item(self, trial: Any) -> Item:
        return self.items[trial.config["work"]]

    def _failed(self, item: Item, message: str) -> None:
        self.errors[item.key] = message
        self._say(f"{item.label}: FAILED: {message}")

    def _say(self, line: str) -> None:
        self.shown = time.monotonic()
        terminal.tell(line)

    def _nothing_starts(self, trial: Any) -> CapacityError:
        needs = trial.placement_group_factory.required_resources
        return CapacityError(
            f"no trial could start within {self.patience_s:.0f} s: each needs {needs}, and the "
            f"cluster has {free_resources()}. Wait for other jobs; the same command goes on from "
            "here."
        )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else text
