"""Results of trials, kept in their runs' folders, and checks that a trial is finished.

<run>/ablation/<trial>.json is written once, whole, after the run's last checkpoint was measured.
It counts only while that checkpoint is the run's newest: a run that trained on is measured anew.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unite.ablation.trials import Trial, TrialGroup
from unite.checkpoints.store import checkpoint_digest, latest
from unite.runs import TRIAL_FOLDER
from unite.storage import StorageError
from unite.training.loop import Plan
from unite.training.runs import Run, open_run
from unite.training.setup import open_split

MEASURED_TAG = "measured"
"""Tag of a trial's MLflow run: its measurement and the checkpoint, once the numbers are there."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Result:
    """Numbers of one trial."""

    metrics: Mapping[str, float]
    """Values by name eval/<suite>/<metric>, as they go to MLflow."""
    images: int
    """Training images that the measured checkpoint has seen."""
    parameters: int
    """Trained parameters."""
    flops: float
    """FLOPs of its whole training, recompute included."""
    checkpoint: str
    """Digest of the measured checkpoint."""
    remarks: tuple[str, ...] = ()
    """Measurements that could not be made, with the reasons."""
    cards: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Metric cards by the same names, as `MetricCard.to_dict` gives them; none in the results of
    older versions and for what has no card."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall time of training and measuring in seconds, where one session did both."""


def is_trained(run: Run) -> bool:
    """True if the run's newest checkpoint is its last."""
    folder = latest(run.folder)
    return folder is not None and int(folder.name) >= total_images(run)


def total_images(run: Run) -> int:
    """Length of a run; ShardError when its data is not there."""
    return Plan.of(run.config, open_split(run.config, "train").num_rows).total_images


def has_results(work: TrialGroup) -> bool:
    """True if every trial of a run has a result, be it out of date; looks at no data."""
    folder = open_run(work.config).folder
    return all(folder.is_file(result_file(trial)) for trial in work.trials)


def is_finished(work: TrialGroup) -> bool:
    """True if every trial of a run has its result, as the storage tells."""
    run = open_run(work.config)
    return all(read_result(run, trial) is not None for trial in work.trials)


def read_result(run: Run, trial: Trial) -> Result | None:
    """A finished trial's result; None when it is not finished, not whole, or out of date."""
    name, folder = result_file(trial), latest(run.folder)
    if folder is None or not run.folder.is_file(name) or not is_trained(run):
        return None
    try:
        content: dict[str, Any] = run.folder.read_json(name, {"remarks": list})
        result = Result(**{**content, "remarks": tuple(content["remarks"])})
    except (StorageError, TypeError) as error:
        logger.warning(
            "%s/%s is incomplete, the trial is measured again: %s", run.folder, name, error
        )
        return None
    return result if result.checkpoint == checkpoint_digest(folder) else None


def mark_trial(run: Run, sweep: str) -> None:
    """Note in a run's folder that a sweep trains it, before there is a result."""
    run.folder.write_json(f"{TRIAL_FOLDER}/sweep.json", {"sweep": sweep})


def write_result(run: Run, trial: Trial, result: Result) -> None:
    """Keep a result; with it the trial is finished."""
    run.folder.write_json(result_file(trial), dataclasses.asdict(result))


def result_file(trial: Trial) -> str:
    """File of a trial's result in its run's folder: another protocol is another file."""
    return f"{TRIAL_FOLDER}/{trial.measurement}.json"
