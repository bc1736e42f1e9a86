"""Brings a spool to its MLflow run, one request at a time and without ever repeating a point.

Points go in the order in which they were logged, and a point goes only when its step lies beyond
the last one that the run has of its metric. So whatever happened before (an answer that got
lost, a resumed run that logs the same steps again, a second push), the run has each step once.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from unite.runs import Point
from unite.tracking.gateway import MAX_POINTS_PER_CALL, MlflowGateway
from unite.tracking.images import ImageId, parse_image_name
from unite.tracking.presentation import HAS_IMAGES, shown_name
from unite.tracking.spool import Spool


class Delivery:
    """The unsent part of a spool. Not thread-safe: one thread delivers."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._target = spool.target()
        self._gateway: MlflowGateway | None = None
        self._last_steps: dict[str, int] | None = None
        self._known_images: set[ImageId] | None = None
        self._tags = dict(self._target.tags)
        self._offset = 0
        self.sent_points = 0
        self.sent_files = 0
        self._files_first = True
        self._skip = 0
        self._told_images = False

    def pending(self) -> bool:
        """True if anything is left to send."""
        points = next(self._spool.log.read(self._offset), None)
        return points is not None or bool(self._tags) or bool(self._spool.files())

    def count(self) -> tuple[int, int]:
        """Points and files left to send."""
        points = sum(len(point.metrics) for point in self._spool.log.read(self._offset))
        return points, len(self._spool.files())

    def connect(self) -> MlflowGateway:
        """Load MLflow, without calling the server."""
        if self._gateway is None:
            self._gateway = MlflowGateway(self._target.run)
        return self._gateway

    def step(self) -> bool:
        """Make at most one request; False when there was nothing to do. Raises what it raises.

        Points and files take turns, so that a broken artifact store does not hold up the curves.
        """
        if not self.pending():
            return False
        gateway = self.connect()
        if self._last_steps is None:
            self._last_steps = gateway.attach()
            return True
        self._files_first = not self._files_first
        if self._files_first:
            return self._send_file(gateway) or self._send_points(gateway)
        return self._send_points(gateway) or self._send_file(gateway)

    def _send_points(self, gateway: MlflowGateway) -> bool:
        points, last_steps, end = self._next_points(self._last_steps or {})
        if points or self._tags:
            try:
                gateway.send(points, self._tags)
            except Exception:
                # They may have arrived although the answer did not: ask before sending again.
                self._last_steps = None
                raise
        self.sent_points += sum(len(point.metrics) for point in points)
        moved = end > self._offset or bool(self._tags)
        self._offset, self._last_steps, self._tags = end, last_steps, {}
        return moved

    def _next_points(self, before: dict[str, int]) -> tuple[list[Point], dict[str, int], int]:
        """New points for one request, the last steps once they are sent, and where they end."""
        batch: list[Point] = []
        last_steps, end, count = dict(before), self._offset, 0
        for point in self._spool.log.read(self._offset):
            new = self._new_metrics(point, last_steps)
            if batch and count + len(new) > MAX_POINTS_PER_CALL:
                break
            count, end = count + len(new), point.end
            if new:
                batch.append(replace(point, metrics=new))
                last_steps.update(dict.fromkeys(new, point.step))
        return batch, last_steps, end

    def _new_metrics(self, point: Point, last_steps: dict[str, int]) -> dict[str, float]:
        if not self._target.training:
            return point.metrics
        return {
            name: value
            for name, value in _shown(point.metrics).items()
            if point.step > last_steps.get(name, -1)
        }

    def _send_file(self, gateway: MlflowGateway) -> bool:
        files = self._spool.files()
        if not files:
            return False
        path = files[self._skip % len(files)]
        name = self._spool.name_of(path)
        image = parse_image_name(name)
        if image and not self._told_images:
            self._told_images = True
            self._tags = {**self._tags, HAS_IMAGES: "True"}
        if image and self._target.training and self._known_images is None:
            self._known_images = gateway.images()
            return True
        before = path.stat()
        if image is None or image not in (self._known_images or ()):
            self._upload(gateway, path, name)
        with suppress(FileNotFoundError):  # a push beside the training has removed it meanwhile
            after = path.stat()
            if (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns):
                path.unlink()  # unless a newer one of its name came meanwhile
        return True

    def _upload(self, gateway: MlflowGateway, path: Path, name: str) -> None:
        try:
            gateway.upload(path, name)
        except Exception:
            self._skip += 1  # one file that the server refuses must not hold up the others
            raise
        self.sent_files += 1


def _shown(metrics: dict[str, float]) -> dict[str, float]:
    return {shown_name(name): value for name, value in metrics.items()}
