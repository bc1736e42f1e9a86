"""Content of an experiment: its runs, their curves, measurements and pictures, its sweeps.

MLflow says which runs there are, what they logged and which pictures; the runs' folders hold the
evaluations with their cards. Where a folder is out of reach, MLflow's copies of them are taken.
MLflow's runs that write to one folder (a training, and the trials that were measured on it) are one
run here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from unite import tracking
from unite.figures.alignment import AlignmentCurves
from unite.figures.dynamics import History, points_of
from unite.reporting.evaluations import (
    UNREADABLE,
    Evaluations,
    first_line,
    in_folder,
    in_mlflow,
    with_problem,
)
from unite.reporting.pictures import Thumbnail, thumbnail
from unite.runs import CONFIG_FILE, RUN_FILE, parent_of, read_metrics
from unite.storage import StorageError, Store
from unite.training.progress import read_progress

CURVES = ("loss/reconstruction", "loss/flow")
ALIGNMENT_FILE, TRAJECTORY_FILE = "alignment.json", "trajectory.png"
SAMPLES = "samples"
MOST_SAMPLES = 6
"""Largest number of sample grids of a run: its last, and others evenly from the rest."""


@dataclass(frozen=True, kw_only=True)
class ReportRun:
    """One run of the experiment."""

    infos: tuple[tracking.RunInfo, ...]
    """Records of the run in MLflow, newest first."""
    info: tracking.RunInfo
    """That of the training."""
    folder: str = ""
    """Path or URI of its folder, as MLflow knows it; empty when MLflow does not."""
    reachable: bool = False
    progress: Mapping[str, object] = field(default_factory=dict)
    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    """Logged name -> points (samples seen, value)."""
    evaluations: Evaluations = field(default_factory=Evaluations)
    alignment: AlignmentCurves | None = None
    trajectory: Thumbnail | None = None
    """Picture of decoded predictions."""
    samples: Mapping[int, Thumbnail] = field(default_factory=dict)
    """Grids of samples at fixed seeds, by images seen."""
    num_samples: int = 0
    """Number of grids in MLflow."""

    @property
    def trials(self) -> list[tracking.RunInfo]:
        """Records in MLflow that are trials of sweeps."""
        return [info for info in self.infos if info.tags.get("axis")]

    @property
    def name(self) -> str:
        """Name in MLflow."""
        return self.info.name or self.folder_name or self.info.run_id

    @property
    def folder_name(self) -> str:
        """Last part of the folder."""
        return self.folder.rsplit("/", 1)[-1]

    @property
    def noun(self) -> str:
        """A training sample in words."""
        return str(self.progress.get("noun", "image"))

    @property
    def kind(self) -> str:
        """Kind of its samples; runs of old are of images."""
        return self.info.params.get("domain.kind", "images")

    def logged(self, name: str) -> float | None:
        """Last value of a metric in MLflow; None without one, or where it is no finite number."""
        value = self.info.metrics.get(name, math.nan)
        return value if math.isfinite(value) else None

    @property
    def images(self) -> int:
        """Training samples seen: the largest number that any record tells."""
        last = [curve[-1][0] for curve in self.curves.values() if curve]
        steps = [found.step for found in self.evaluations.found]
        seen = self.progress.get("images")
        return max([*last, *steps, *self.samples, seen if isinstance(seen, int) else 0])

    @property
    def unfinished(self) -> str:
        """State of a run that did not end as planned, with its progress; empty when it did."""
        total, images = self.progress.get("total_images"), self.progress.get("images")
        short = isinstance(total, int) and isinstance(images, int) and images < total
        ended = self.info.status == "FINISHED" or self.progress.get("state") == "done"
        if ended and not short:
            return ""
        words = {"RUNNING": "still running, or ended without a final status"}
        state = words.get(self.info.status, self.info.status.lower())
        return f"{state}: {images:,} of {total:,} {self.noun}s" if short else state

    @cached_property
    def problems(self) -> list[str]:
        """Problems of the run and of its evaluations, in words."""
        unfinished = [self.unfinished] if self.unfinished else []
        return [*unfinished, *self.evaluations.problems]


@dataclass(frozen=True, kw_only=True)
class Collected:
    """Collected content of an experiment."""

    experiment: str
    uri: str
    runs: tuple[ReportRun, ...]
    """Runs, newest first."""
    sweeps: tuple[tracking.RunInfo, ...]


def collect(uri: str, experiment: str, storage: str) -> Collected:
    """Read an experiment; TrackingError when MLflow is away or has no such runs."""
    try:
        infos = tracking.find_runs(uri, experiment)
    except tracking.TrackingError as error:
        raise tracking.TrackingError(
            f"{str(error).rstrip('.')}. Nothing was written. {_elsewhere(uri)}"
        ) from error
    if not infos:
        raise tracking.TrackingError(
            f"experiment '{experiment}' at {uri} has no runs. Experiments there: "
            f"{', '.join(tracking.experiments(uri))}"
        )
    sweeps = [info for info in infos if info.tags.get("role") == "sweep"]
    groups: dict[str, list[tracking.RunInfo]] = {}
    for info in infos:
        if info not in sweeps:
            groups.setdefault(info.place or info.run_id, []).append(info)
    reader = _Reader(uri, Store.open(storage))
    runs = tuple(reader.read(group) for group in groups.values())
    return Collected(experiment=experiment, uri=uri, runs=runs, sweeps=tuple(sweeps))


def _elsewhere(uri: str) -> str:
    if uri.startswith("http"):
        return "Start the server, or name another with --uri or MLFLOW_TRACKING_URI"
    return "--storage names the folder of the runs, --uri another MLflow"


class _Reader:
    """Reads runs; remembers which storages are out of reach, so that each is tried once."""

    def __init__(self, uri: str, storage: Store) -> None:
        self.uri = uri
        self.storage = storage
        self.unreachable: dict[str, str] = {}

    def read(self, infos: Sequence[tracking.RunInfo]) -> ReportRun:
        """Everything about one run; its MLflow runs newest first."""
        recorded = infos[0].place
        folder = self._folder(recorded, infos)
        trained = _trained(infos, _mlflow_id(folder))
        handle = tracking.RunHandle(self.uri, trained.run_id)
        evaluations = _evaluations(folder, handle)
        alignment, evaluations = evaluations.beside(
            "alignment", ALIGNMENT_FILE, AlignmentCurves.read
        )
        trajectory, evaluations = evaluations.beside("trajectory", TRAJECTORY_FILE, thumbnail)
        history, in_history = _history(folder)
        samples, num_samples, in_samples = _samples(handle)
        away = self._away(recorded) if folder is None else []
        for problem in (*away, *in_history, *in_samples):
            evaluations = with_problem(evaluations, problem)
        return ReportRun(
            infos=tuple(infos),
            info=trained,
            folder=folder.uri if folder is not None else recorded,
            reachable=folder is not None,
            progress=(read_progress(folder) if folder is not None else None) or {},
            curves=_curves(history, handle, [name for name in CURVES if name in trained.metrics]),
            evaluations=evaluations,
            alignment=alignment,
            trajectory=trajectory,
            samples=samples,
            num_samples=num_samples,
        )

    def _folder(self, recorded: str, infos: Sequence[tracking.RunInfo]) -> Store | None:
        """Folder of a run: in the storage that is reported, else as recorded.

        The folder in a storage that was copied or moved as a whole comes first.
        """
        if not recorded:
            return None
        first = Store.open(recorded)
        second = self.storage / first.name
        ids = {info.run_id for info in infos}
        if second.uri != first.uri and self._is_run(second) and _mlflow_id(second) in ids:
            return second
        return first if self._is_run(first) else None

    def _is_run(self, folder: Store) -> bool:
        root = parent_of(folder).uri
        if root in self.unreachable:
            return False
        try:
            return folder.is_file(CONFIG_FILE)
        except StorageError as error:
            self.unreachable[root] = first_line(error)
            return False

    def _away(self, recorded: str) -> list[str]:
        """The reason why the storage of a run does not answer, if it does not."""
        why = self.unreachable.get(parent_of(Store.open(recorded)).uri) if recorded else None
        return [f"its folder cannot be read, so its numbers are MLflow's ({why})"] if why else []


def _mlflow_id(folder: Store | None) -> str:
    """Id of the MLflow run that a run's folder names; empty where it names none."""
    try:
        record = folder.read_json(RUN_FILE, {}) if folder is not None else {}
    except StorageError:
        return ""
    return record.get("mlflow_run_id", "")


def _trained(infos: Sequence[tracking.RunInfo], run_id: str) -> tracking.RunInfo:
    """MLflow's record of a training: that which its folder names, else the newest with losses.

    Older ones are of folders that were deleted and trained anew, those without losses of trials
    that were measured on it.
    """
    named = [info for info in infos if info.run_id == run_id]
    return [*named, *(info for info in infos if set(CURVES) & set(info.metrics)), infos[-1]][0]


def _history(folder: Store | None) -> tuple[History, list[str]]:
    """Everything that a run has logged, as its folder has it, and problems with reading it."""
    try:
        return (read_metrics(folder) if folder is not None else []), []
    except UNREADABLE as error:
        return [], [f"its history cannot be read, so its curves are MLflow's ({first_line(error)})"]


def _curves(
    history: History, handle: tracking.RunHandle, in_mlflow: Sequence[str]
) -> dict[str, list[tuple[int, float]]]:
    """Finite points of the losses, as the run's history has them; without them, MLflow's."""
    found = {}
    for name in CURVES:
        points = points_of(history, name)
        if not points and name in in_mlflow:
            points = dict(tracking.metric_history(handle, name)).items()
        found[name] = [(int(step), value) for step, value in points if math.isfinite(value)]
    return found


def _evaluations(folder: Store | None, handle: tracking.RunHandle) -> Evaluations:
    try:
        if folder is None:
            return in_mlflow(tracking.RunFiles.open(handle))
        return in_folder(folder)
    except UNREADABLE as error:
        return Evaluations(problems=(first_line(error),))


def _samples(handle: tracking.RunHandle) -> tuple[dict[int, Thumbnail], int, list[str]]:
    """Grids of a run by images seen, MOST_SAMPLES at most, their full number, and problems."""
    grids, problems = {}, []
    try:
        files = tracking.RunFiles.open(handle)
        names = files.images(SAMPLES)
    except UNREADABLE as error:
        return {}, 0, [f"its sample grids cannot be listed ({first_line(error)})"]
    for step in evenly(list(names), MOST_SAMPLES):
        try:
            grids[step] = thumbnail(files.read(names[step]))
        except UNREADABLE as error:
            problems.append(f"its sample grid at step {step:,} cannot be shown: {error}"[:200])
    return grids, len(names), problems


def evenly(values: Sequence[int], most: int) -> list[int]:
    """Values in order, `most` at most: evenly over the whole, the last among them."""
    if len(values) <= most:
        return list(values)
    last = len(values) - 1
    return [values[round((number + 1) * last / most)] for number in range(most)]
