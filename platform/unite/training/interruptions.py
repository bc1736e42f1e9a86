"""Interruptions of a run: what was trained in vain, and how long nothing was trained.

Every group of workers but a run's first one goes on after one. Who starts a group (the driver, or
Ray Train's controller) knows why and how far the last one came (by progress.json, which is a second
old, or five on an object store) and leaves it in <run>/interrupted.json; the new group knows when
its first step was made, and <run>/interruptions.json keeps both.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from unite.config.serialise import from_dict
from unite.storage import StorageError, Store
from unite.training.progress import read_progress
from unite.words import clock, count

logger = logging.getLogger(__name__)

FILE, PRESENT = "interruptions.json", "interrupted.json"
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

    @classmethod
    def of(cls, progress: Mapping[str, Any], reason: str) -> Interruption:
        """The interruption of a group whose last published progress is given."""
        return cls(reason=reason, time=progress["time"], seen=int(progress["images"]))

    def resumed_at(self, images: int) -> Interruption:
        """The interruption, over now that the first step after `images` is made."""
        return replace(self, resumed=images, seconds=max(time.time() - self.time, 0.0))


def note_ended(run: Store, reason: str) -> None:
    """Leave for the next group of a run that the last one has ended, if anything was trained.

    A group that made no step of its own prolongs the interruption before it.
    """
    progress, earlier = read_progress(run), present(run)
    if progress is None or "images" not in progress:
        return
    if earlier is None or progress["time"] > earlier.time:
        _leave(run, Interruption.of(progress, reason))


def note_left_behind(run: Store) -> None:
    """Leave for the first group of a driver that the last driver has ended, unless the run is new
    or was stopped."""
    progress = read_progress(run)
    if progress is None or progress["state"] in ENDED or "images" not in progress:
        _leave(run, None)
    else:
        # Nobody knows when the user came back: the time counts from now.
        _leave(run, replace(Interruption.of(progress, "driver"), time=time.time()))


def present(run: Store) -> Interruption | None:
    """The interruption that a run is in until its next step; a damaged file counts as none."""
    try:
        return from_dict(Interruption, run.read_json(PRESENT)) if run.is_file(PRESENT) else None
    except (StorageError, ValueError, TypeError, AttributeError):
        return None


def _leave(run: Store, one: Interruption | None) -> None:
    try:
        if one is None:
            run.delete(PRESENT)
        else:
            run.write_json(PRESENT, asdict(one))
    except StorageError as error:
        logger.warning("the run's interruption is not kept: %s", error)


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
        run.delete(PRESENT)
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
