"""Run an iterator ahead of its consumer in a thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from queue import Full, Queue
from threading import Event, Thread
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.1


class Prefetch(Generic[T], Iterator[T]):
    """Holds at most `depth` finished items; what `source` raises is raised by `next`.

    `close` ends the thread and, from within it, the source (its `close`, where it has one).
    """

    def __init__(self, source: Iterator[T], *, depth: int) -> None:
        self._source = source
        self._queue: Queue[tuple[T | None, BaseException | None]] = Queue(maxsize=depth)
        self._stopped = Event()
        self._thread = Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    def __next__(self) -> T:
        if self._stopped.is_set():
            raise StopIteration
        item, error = self._queue.get()
        if error is not None:
            self._stopped.set()
            raise error
        return item  # type: ignore[return-value]

    def close(self, timeout_s: float = 60.0) -> None:
        """Stop after the item in progress; a source that hangs is left to its daemon thread."""
        self._stopped.set()
        self._thread.join(timeout_s)
        with suppress(Full):  # Wakes a consumer that waits in another thread.
            self._queue.put_nowait((None, StopIteration()))

    def _run(self) -> None:
        try:
            for item in self._source:
                if not self._put((item, None)):
                    return
            self._put((None, StopIteration()))
        except BaseException as error:
            self._put((None, error))
        finally:
            close = getattr(self._source, "close", None)
            if close is not None:
                close()

    def _put(self, entry: tuple[T | None, BaseException | None]) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(entry, timeout=_POLL_SECONDS)
                return True
            except Full:
                continue
        return False
