"""Interruptions of a run: what was trained in vain, and how long nothing was trained.

Every group of workers but a run's first one goes on after one. The driver knows why and how far the
last group came (by progress.json, which is a second old, or five on an object store), the new group
when its first step was made; <run>/interruptions.json keeps both.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from unite.config.serialise import from_dict
from unite.storage import StorageError, Store
from unite.training.progress import read_progress
from unite.words import clock, count

logger = logging.getLogger(__name__)

FILE = "interruptions.json"
ENDED = ("done", "stopped")


@dataclass(frozen=True, kw_only=True)
class Interruption:
    """One loss or change of a group of workers."""

    reason: str
    """Reason for the end of the group, in a few words: lost, left, storage away..."""
    time: float
    """Time of its last known step, in seconds since 1970."""
    seen: int
    """Training images that it had seen then."""
    resumed: int = 0
    """Training images of the checkpoint from which the next group went on."""
    seconds: float = 0.0
    """Seconds from there to the next group's first step."""

    @property
    def wasted(self) -> int:
        """Training images that were computed again."""
        return max(self.seen - self.resumed, 0)

    def resumed_at(self, images: int) -> Interruption:
        """The interruption, over now that the first step after `images` is made."""
        return replace(self, resumed=images, seconds=max(time.time() - self.time, 0.0))


def interrupted(
    run: Store, reason: str, earlier: Interruption | None = None
) -> Interruption | None:
    """The interruption of a run whose group has ended; None when nothing was trained before.

    `earlier` is the last one that was seen. A group that made no step of its own prolongs it.
    """
    progress = read_progress(run)
    if progress is None or "images" not in progress:
        return earlier
    if earlier is not None and progress["time"] <= earlier.time:
        return earlier
    return Interruption(reason=reason, time=progress["time"], seen=int(progress["images"]))


def left_behind(run: Store) -> Interruption | None:
    """The interruption by the end of a run's driver; None when the run is new, or was stopped."""
    progress = read_progress(run)
    found = None if progress is None or progress["state"] in ENDED else interrupted(run, "driver")
    # Nobody knows when the user came back: the time counts from now.
    return found and replace(found, time=time.time())


def read_interruptions(run: Store) -> list[Interruption]:
    """The interruptions of a run so far; a damaged file counts as none."""
    try:
        stored: Any = run.read_json(FILE) if run.is_file(FILE) else []
        return [from_dict(Interruption, each) for each in stored]
    except (StorageError, ValueError, TypeError, AttributeError):
        return []


def note_resumed(one: Interruption, run: Store, tracker: Any, before: int, after: int) -> None:
    """Keep an interruption with those of a run, and log their sums, now that the first step since
    it is made: from `before` to `after` images."""
    known = [*read_interruptions(run), one.resumed_at(before)]
    try:
        run.write_json(FILE, [asdict(each) for each in known])
    except StorageError as error:
        logger.warning("the run's interruptions are not kept: %s", error)
    sums = {
        "interruptions/count": len(known),
        "interruptions/wasted_images": sum(each.wasted for each in known),
        "interruptions/seconds": sum(each.seconds for each in known),
    }
    tracker.log({name: float(value) for name, value in sums.items()}, step=after)


def in_words(known: Sequence[Interruption], images: int, noun: str) -> str:
    """One line on a run of so many images; empty when nothing interrupted it."""
    if not known:
        return ""
    wasted = sum(each.wasted for each in known)
    share = f" ({wasted / images:.2%})" if images else ""
    return (
        f"{count(len(known), 'interruption')}: {count(wasted, noun)} computed again{share}, "
        f"{clock(sum(each.seconds for each in known))} without a step"
    )
