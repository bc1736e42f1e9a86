"""A fake MLflow run in memory, and sqlite files that need no migration."""

from __future__ import annotations

import contextlib
import io
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unite.config.schema import TrackingConfig
from unite.tracking import RunHandle, check, database, delivery, start_run
from unite.tracking import tracker as trackers
from unite.tracking.images import parse_image_name


class FakeRun:
    """Plays the gateway of one run; can be down, refuse files, or hang."""

    def __init__(self) -> None:
        self.points: list[tuple[str, int, int, float]] = []
        self.tags: dict[str, str] = {}
        self.artifacts: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.down = False
        self.refuses_files = False
        self.refused_name = ""
        self.loses_answers = False
        self.reached = threading.Event()
        self.open = threading.Event()
        self.open.set()

    def connect(self, handle: RunHandle) -> FakeRun:
        return self

    def _called(self, name: str) -> None:
        self.calls.append(name)
        self.reached.set()
        self.open.wait(60)
        if self.down:
            raise ConnectionError("nobody answers")

    def attach(self) -> dict[str, int]:
        self._called("attach")
        return {key: max(s for k, s, _, _ in self.points if k == key) for key, *_ in self.points}

    def send(self, points, tags) -> None:
        self._called("send")
        for point in points:
            for key, value in point.metrics.items():
                self.points.append((key, point.step, point.time_ms, value))
        self.tags.update(tags)
        if self.loses_answers:
            raise TimeoutError("stored, but the answer got lost")

    def images(self):
        self._called("images")
        return {image for name in self.artifacts if (image := parse_image_name(name))}

    def upload(self, path: Path, name: str) -> None:
        self._called("upload")
        if self.refuses_files or name == self.refused_name:
            raise OSError("no artifact store")
        self.artifacts[name] = path.read_bytes()

    def describe(self) -> None:
        self._called("describe")

    def steps(self, key: str) -> list[int]:
        return [step for name, step, _, _ in self.points if name == key]


@pytest.fixture
def fake(monkeypatch) -> FakeRun:
    """The run that every spool goes to."""
    run = FakeRun()
    monkeypatch.setattr(delivery, "MlflowGateway", run.connect)
    return run


@pytest.fixture
def pace(monkeypatch) -> Callable[..., None]:
    """pace(seconds between two requests, seconds that closing waits for an answer)."""

    def set_pace(interval_s: float, close_s: float = 60.0) -> None:
        monkeypatch.setattr(trackers, "INTERVAL_S", interval_s)
        monkeypatch.setattr(trackers, "CLOSE_TIMEOUT_S", close_s)

    return set_pace


@pytest.fixture
def handle() -> RunHandle:
    return RunHandle("http://127.0.0.1:1", "0" * 32, "1")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory) -> Path:
    """A database as the first run of a fresh storage folder makes it (seconds), and its noise."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    noise = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(noise),
        contextlib.redirect_stderr(noise),
    ):
        patch.setattr(database, "_make", database._make.__wrapped__)
        check(f"sqlite:///{path}")
    path.with_suffix(".noise").write_text(noise.getvalue())
    return path


@pytest.fixture
def storage(tmp_path, empty_database, monkeypatch) -> str:
    """A storage folder whose sqlite file has its tables already."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "runs"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    return str(folder)


@pytest.fixture
def sqlite_run(storage) -> RunHandle:
    return start_run(
        TrackingConfig(), storage=storage, name="run", params={}, config_dict={}, tags={}
    )


@pytest.fixture
def gradient() -> np.ndarray:
    """A small colour picture (H, W, C)."""
    return np.arange(12 * 20 * 3, dtype=np.uint8).reshape(12, 20, 3)
