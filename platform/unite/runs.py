"""The run folder: its names, its config and record, and the references that lead to it.

    <storage>/<name>/config.json    what is computed
                     run.json       the MLflow run
                     metrics.jsonl  every number that was logged: the source of all curves
                     progress.json  state of the training (training/progress.py)
                     checkpoints/   checkpoints/layout.py
                     evaluations/   results, by checkpoint
                     ablation/      results of sweeps

A run may be copied, moved or renamed: it lives in the folder that it was opened from.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from unite.checkpoints.layout import (
    MARKER,
    STATE_FILE,
    CheckpointError,
    committed,
    folder_of,
    latest,
    read_state,
)
from unite.checkpoints.metadata import is_run_config, parse_config
from unite.config.names import BUILTIN
from unite.config.schema import RunConfig
from unite.data.parts import each_part
from unite.storage import Store, moved

CONFIG_FILE = "config.json"
RUN_FILE = "run.json"
METRICS_FILE = "metrics.jsonl"
OLD_METRICS_FILE = f"tracking/{METRICS_FILE}"
"""Its place in runs of older versions."""
STOP_FILE = "STOP"
DIGITS = "builtin:digits"
"""Name of the data that are made in the storage."""
LATEST = "latest"
TRIAL_FOLDER = "ablation"
"""Folder in a run's folder with the results of sweeps."""
EVALUATIONS = "evaluations"
"""Folder in a run's folder with a folder for each checkpoint, by its digest."""
RESULTS_FILE = "results.json"
"""File in these with the numbers."""
LISTED_RUNS = 8
"""Largest number of runs that an error message names."""

logger = logging.getLogger(__name__)


def default_storage() -> str:
    """UNITE_STORAGE, else ~/unite-runs inside a Ray job (its folder is temporary), else ./runs."""
    if os.environ.get("UNITE_STORAGE"):
        return os.environ["UNITE_STORAGE"]
    in_job = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    return os.path.expanduser("~/unite-runs") if in_job else "runs"


def data_uri(config: RunConfig, split: str) -> str:
    """Folder or URI of the shards of a split ("train" or "eval") of a resolved config."""
    chosen = config.data.eval if split == "eval" and config.data.eval else config.data.train
    return builtin_folder(chosen, config.storage) if is_builtin(chosen) else chosen


def is_builtin(uri: str) -> bool:
    """True for the name of a data set that a package holds."""
    return uri.startswith(BUILTIN)


def builtin_folder(uri: str, storage: str) -> str:
    """Folder of a built-in data set."""
    return f"{storage}/data/{uri.removeprefix(BUILTIN)}"


def resolve_run(reference: str, storage: str) -> str:
    """The path or URI that `unite.load` reads for a reference to a run or a model.

    `latest` is the run under `storage` whose newest checkpoint was committed last and that is no
    trial of a sweep; which run that is, is told. Otherwise the reference is, in this order: the
    name of a run under `storage`; a path or URI of a run, checkpoint, export or weights file; the
    MLflow id of a run under `storage`. CheckpointError lists the runs that there are when it is
    none of them.
    """
    root = Store.open(storage)
    if reference == LATEST:
        from unite import terminal  # a served model resolves nothing, and goes without rich

        run = _latest_run(root)
        terminal.tell(f"{LATEST} is {run.name}")
        return run.uri
    if "/" not in reference and _is_run(root / reference):
        return (root / reference).uri
    place = Store.open(reference)
    if place.exists():
        return place.uri
    damaged = ""
    for run in runs_under(root):
        try:
            if read_record(run).get("mlflow_run_id") == reference:
                return run.uri
        except CheckpointError as error:  # it hides no other run
            damaged = f" The MLflow id of one could not be read: {error}"
    raise CheckpointError(
        f"there is no run {reference!r}: it is no run's name or MLflow id under {root}, and "
        f"nothing is at {place}. {_available(root)}{damaged}"
    )


def read_run_config(path: str) -> RunConfig | None:
    """The config stored with a run, checkpoint or export; None for bare weights.

    A run's places are those of the folder that it was opened from (`at_home`). CheckpointError
    names the file, and the field, of a damaged one.
    """
    place = Store.open(path)
    folder = Store(place.uri.rsplit("/", 1)[0]) if place.is_file() else place
    if folder.is_file(STATE_FILE):
        config = parse_config(read_state(folder, "config")["config"], f"{folder}/{STATE_FILE}")
        run, inside, _ = folder.uri.rpartition("/checkpoints/")
        return at_home(config, Store(run)) if inside else config
    if not folder.is_file(CONFIG_FILE):
        return None
    stored = folder.read_json(CONFIG_FILE, {}, CheckpointError)
    if not is_run_config(stored):
        return None
    config = parse_config(stored, f"{folder}/{CONFIG_FILE}")
    return at_home(config, folder) if folder.exists("checkpoints") else config


def at_home(config: RunConfig, run: Store) -> RunConfig:
    """The config of the run in the folder `run`, with that folder's name and storage.

    A run may be copied, moved or renamed: name and storage are those of the folder that it was
    opened from, and what lay in the old storage is taken from the new one, where it is there too.
    """
    old, new = config.storage, parent_of(run).uri
    if not old:
        return config
    here = replace(config, name=run.name, storage=new)
    if old == new:
        return here

    def found(place: str) -> str:
        there = moved(place, old, new)
        return there if there != place and Store(there).exists() else place

    train, held_out = (each_part(found, uri) for uri in (config.data.train, config.data.eval))
    data = replace(config.data, train=train, eval=held_out)
    return replace(here, weights=found(config.weights), data=data)


def parent_of(folder: Store) -> Store:
    """The parent of a folder; a run's parent is its storage."""
    return Store(folder.uri.removesuffix(f"/{folder.name}"))


def run_of(checkpoint: Store) -> Store | None:
    """The run that a checkpoint folder belongs to."""
    if checkpoint.is_file() or not checkpoint.exists(MARKER):
        return None
    folder, found, _ = checkpoint.uri.rpartition("/checkpoints/")
    run = Store(folder) if found else None
    return run if run is not None and run.is_file(CONFIG_FILE) else None


def read_record(run: Store) -> dict[str, Any]:
    """run.json of a run, which names its MLflow run; empty when there is none.

    MLflow's sqlite file is the one in the storage where the run stands now, never that which it
    was copied or moved from. CheckpointError names a damaged file.
    """
    if not run.is_file(RUN_FILE):
        return {}
    record = run.read_json(RUN_FILE, {}, CheckpointError)
    uri, old = record.get("mlflow_uri"), origin(run)[0]
    return record | {"mlflow_uri": moved(uri, old, parent_of(run).uri)} if uri and old else record


def shares_its_record(run: Store) -> bool:
    """True if the run from which this one was copied still exists, on the same MLflow server.

    A copy that trains on needs an MLflow run of its own: two runs would write into one.
    """
    storage, name = origin(run)
    other, record = Store(f"{storage}/{name}"), read_record(run)
    if not storage or other.uri == run.uri or not record:
        return False
    return other.is_file(RUN_FILE) and other.read_json(RUN_FILE, {}, CheckpointError) == record


def origin(run: Store) -> tuple[str, str]:
    """Storage and name that a run's config was written with; empty where it does not say."""
    stored = run.read_json(CONFIG_FILE, {}, CheckpointError) if run.is_file(CONFIG_FILE) else {}
    return stored.get("storage") or "", stored.get("name") or ""


def _is_run(folder: Store) -> bool:
    return folder.is_file(CONFIG_FILE)


def runs_under(root: Store) -> list[Store]:
    """Folders of the runs in a storage, whether they have checkpoints or not."""
    return [root / name for name in root.list() if _is_run(root / name)]


def _latest_run(root: Store) -> Store:
    trained = [run for run in runs_under(root) if committed(run)]
    finished = [run for run in trained if not is_trial(run)]
    if trained and not finished:
        raise CheckpointError(
            f"every run under {root} is a trial of a sweep, and {LATEST} means none of these: name "
            f"the one that you mean. {_available(root)}"
        )
    if not finished:
        raise CheckpointError(
            f"no run under {root} has a committed checkpoint yet; train one (python "
            "jobs/train.py), or name the storage folder that holds your runs"
        )
    return max(finished, key=lambda run: committed_at(folder_of(run, committed(run)[-1])))


def is_trial(run: Store) -> bool:
    """True if a sweep trains or has measured the run."""
    return run.exists(TRIAL_FOLDER)


def committed_at(checkpoint: Store) -> int:
    """Time at which a checkpoint was committed, in ns since 1970; 0 when it was not."""
    return checkpoint.time(MARKER)


def _available(root: Store) -> str:
    names = [run.name for run in runs_under(root)]
    if not names:
        return "There are no runs there; name another storage folder or a path."
    more = f" and {len(names) - LISTED_RUNS} more" if len(names) > LISTED_RUNS else ""
    return f"Runs there: {', '.join(names[:LISTED_RUNS])}{more}."


@dataclass(frozen=True)
class Point:
    """One line of metrics.jsonl."""

    step: int
    """Images seen."""
    time_ms: int
    """Time of logging, in milliseconds since 1970."""
    metrics: dict[str, float]
    """Values by metric name."""
    end: int = 0
    """Byte offset in the file just after the line."""


class MetricsLog:
    """metrics.jsonl on a local disk: {"step": images seen, "time": ms, "metrics": {}} a line.

    One process writes it. A line is whole before anything else is told of it, so that a killed
    process loses nothing.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lock = threading.Lock()

    def append(self, metrics: dict[str, float], step: int) -> None:
        """Add one line; OSError when the disk does not take it."""
        record = {"step": step, "time": time.time_ns() // 1_000_000, "metrics": metrics}
        line = json.dumps(record).encode() + b"\n"
        with self._lock, self.file.open("a+b") as file:
            file.write(line if _ends_whole(file) else b"\n" + line)

    def read(self, offset: int = 0) -> Iterator[Point]:
        """The points whose lines begin at byte `offset` or later, as far as they are complete."""
        if not self.file.exists():
            return
        with self.file.open("rb") as file:
            file.seek(offset)
            yield from parse_points(file, offset)

    def repair(self, last: float) -> None:
        """Drop lines that a kill or a full disk left incomplete, and those beyond step `last`."""
        self.file.touch()
        lines = self.file.read_bytes().splitlines(keepends=True)
        whole = [line for line in lines if any(parse_points([line]))]
        kept = [line for line in whole if any(p.step <= last for p in parse_points([line]))]
        if damaged := len(lines) - len(whole):
            logger.warning("%s: %d lines were incomplete and are dropped", self.file, damaged)
        if len(kept) < len(lines):
            Store.open(self.file.parent).write(self.file.name, b"".join(kept))


def _ends_whole(file: BinaryIO) -> bool:
    """True unless a kill or a full disk cut the last line, which a new one must not join."""
    if not file.seek(0, os.SEEK_END):
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def parse_points(lines: Iterable[bytes], offset: int = 0) -> Iterator[Point]:
    """The points of whole, readable lines, which begin at byte `offset` of their file."""
    for line in lines:
        offset += len(line)
        try:
            record = json.loads(line) if line.endswith(b"\n") else {}
            step, time_ms, metrics = int(record["step"]), int(record["time"]), record["metrics"]
            values = {str(name): float(value) for name, value in metrics.items()}
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
            continue
        yield Point(step, time_ms, values, offset)


def read_metrics(run: Store) -> list[dict[str, float]]:
    """Everything that a run has logged: {"images": n, name: value, ...} by images, ascending.

    metrics.jsonl is the source. What it lacks, because the run is a branch of another or was copied
    without it, the newest checkpoint remembers. StorageError when the folder does not answer.
    """
    rows: dict[int, dict[str, float]] = {}
    newest = latest(run)
    remembered = newest.read_json(STATE_FILE, {}, CheckpointError) if newest else {}
    for row in remembered.get("history", ()):
        rows[int(row["images"])] = rows.get(int(row["images"]), {}) | row
    for name in (OLD_METRICS_FILE, METRICS_FILE):
        if run.is_file(name):
            for point in parse_points(run.read(name).splitlines(keepends=True)):
                before = rows.get(point.step, {"images": point.step})
                rows[point.step] = before | point.metrics
    return [rows[images] for images in sorted(rows)]


def curve(run: Store, name: str) -> list[tuple[int, float]]:
    """(images seen, value) of a metric's finite values, ascending."""
    rows = read_metrics(run)
    return [(int(r["images"]), r[name]) for r in rows if math.isfinite(r.get(name, math.nan))]
