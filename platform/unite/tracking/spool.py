"""Spool of a run's data on their way to MLflow, on the local disk.

    RUN/metrics.jsonl           every point (runs.MetricsLog): the source that MLflow copies
    RUN/tracking/files/...      images and artifacts that MLflow does not have yet, by artifact name
    RUN/tracking/target.json    the MLflow run that they belong to (absent when tracking is off)

Of a run on S3, and of an evaluation's results, all three lie in one folder.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath

from unite.runs import CONFIG_FILE, METRICS_FILE, MetricsLog
from unite.storage import UNFINISHED, Store, moved
from unite.tracking.images import parse_image_name
from unite.tracking.server import RunHandle, TrackingError

FOLDER = "tracking"
"""Folder of the spool in a run's folder."""
TARGET_FILE = "target.json"
FILES_FOLDER = "files"
CACHE = Path("~/.cache/unite/spool")


@dataclass(frozen=True)
class Target:
    """Destination of a spool."""

    run: RunHandle
    """The MLflow run."""
    training: bool = True
    """True for training, whose steps only grow; results may come in any order."""
    tags: dict[str, str] = field(default_factory=dict)
    """Tags to set with the points."""
    status: str = ""
    """Final status of the run that could not be set at the time; empty = none."""


def _points_file(folder: Path) -> Path:
    """metrics.jsonl of the run that a spool lies in, else a file of its own."""
    in_run = folder.name == FOLDER and (folder.parent / CONFIG_FILE).is_file()
    return (folder.parent if in_run else folder) / METRICS_FILE


def spool_folder(run: Store) -> Path:
    """Local folder for data of the run at `run` that MLflow does not have yet.

    In the run's folder, or for a run on S3 in the user's cache, under a name that no run of another
    storage has.
    """
    if run.is_local:
        return Path(run.path(FOLDER))
    digest = hashlib.sha256(run.uri.encode()).hexdigest()[:12]
    return CACHE.expanduser() / f"{run.name}-{digest}"


class Spool:
    """One folder; one process writes it, `push_spool` may read it later."""

    def __init__(self, folder: str | Path) -> None:
        """Open `folder`, or create it; TrackingError names one that this user cannot make."""
        self.folder = Path(folder).expanduser().resolve()
        self.log = MetricsLog(_points_file(self.folder))
        self._store = Store.open(self.folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrackingError(
                f"what MLflow does not have yet is kept in {self.folder}, which cannot be made: "
                f"{error}. Open the place to this user; of runs on S3 it lies in the home folder, "
                "so set HOME to one that can be written"
            ) from error
        old = self.folder / METRICS_FILE
        if old.exists() and not self.points_file.exists():
            old.rename(self.points_file)

    @classmethod
    def of_points(cls, file: Path) -> Spool:
        """The spool whose points are in a file."""
        in_run = (file.parent / CONFIG_FILE).is_file()
        return cls(file.parent / FOLDER if in_run else file.parent)

    @property
    def points_file(self) -> Path:
        """File of the points."""
        return self.log.file

    def repair(self, resume_step: int | None = None) -> None:
        """Drop lines that a kill or a full disk left incomplete, and lines beyond `resume_step`.

        To be called by the writer before its first line. Steps beyond the checkpoint that a run
        resumes from belong to a past that did not happen; they will be logged again.
        """
        last = float("inf") if resume_step is None else resume_step
        self.log.repair(last)
        for path in self.files():
            image = parse_image_name(self.name_of(path))
            if image and image.step > last:
                path.unlink(missing_ok=True)

    def put_file(self, name: str, data: bytes) -> None:
        """Queue an artifact under its name in the run; a queued one of that name is replaced."""
        path = PurePosixPath(name)
        if not name or path.is_absolute() or ".." in path.parts or str(path) != name:
            raise ValueError(f"artifact name '{name}' must be a relative path, as card/fid.json")
        self._store.write(f"{FILES_FOLDER}/{name}", data)

    def files(self) -> list[Path]:
        """Queued files, oldest first."""
        found = []
        for path in (self.folder / FILES_FOLDER).rglob("*"):
            with suppress(FileNotFoundError):  # a push beside the training has just sent it
                if path.is_file() and not UNFINISHED.fullmatch(path.name):
                    found.append((path.stat().st_mtime_ns, path))
        return [path for _, path in sorted(found)]

    def name_of(self, path: Path) -> str:
        """The artifact name of a queued file."""
        return path.relative_to(self.folder / FILES_FOLDER).as_posix()

    def aim(self, target: Target) -> None:
        """Write the spool's destination to its folder."""
        self._store.write_json(TARGET_FILE, asdict(target))

    @property
    def has_target(self) -> bool:
        """True if its points belong to an MLflow run."""
        return self._store.is_file(TARGET_FILE)

    def target(self) -> Target:
        """Destination of the spool; TrackingError when none was ever written."""
        if not self.has_target:
            raise TrackingError(
                f"{self.folder} has no {TARGET_FILE}: it was logged with tracking off, so there is "
                "no MLflow run to send it to. Resume the run with tracking on."
            )
        fields = self._store.read_json(TARGET_FILE)
        handle = RunHandle(**fields["run"])
        return Target(**{**fields, "run": replace(handle, uri=self._at_home(handle.uri))})

    def _at_home(self, uri: str) -> str:
        """URI of MLflow's sqlite file beside this spool's run, also after the run was moved."""
        for run in self.folder.parents:
            if (run / CONFIG_FILE).is_file():
                old = json.loads((run / CONFIG_FILE).read_text()).get("storage")
                return moved(uri, old, str(run.parent)) if old else uri
        return uri

    def note_status(self, status: str) -> None:
        """Keep a final status that could not be sent to MLflow."""
        self.aim(replace(self.target(), status=status))
