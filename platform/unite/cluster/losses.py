"""Lost groups of workers: whose fault one is, and how many a run may lose in a row.

Both the driver and Ray Train's controller ask (`cluster/restarts.py`).
"""

from __future__ import annotations

import logging
import time

from unite.checkpoints.store import CheckpointError, latest
from unite.cluster.failures import causes, failures, is_controller_lost, lost_in_words
from unite.data.parquet import UnreachableError
from unite.flow.solvers import IntegrationError
from unite.network import persist
from unite.objects import is_away
from unite.storage import StorageError
from unite.training.progress import read_progress
from unite.training.readout import NonFiniteError
from unite.training.setup import Job
from unite.training.watchdog import hang_told
from unite.words import count

logger = logging.getLogger(__name__)


class TrainingError(RuntimeError):
    """The run cannot go on; the message is the worker's own."""


# What a run raises about itself: repeating it would end the same way.
OWN_ERRORS = (
    ValueError,
    NonFiniteError,
    IntegrationError,
    CheckpointError,
    StorageError,
    TrainingError,
)


def own_error(error: Exception) -> str | None:
    """The message of the first failure that the run itself raised, if any."""
    behind = (cause for failure in failures(error) for cause in causes(failure))
    return next((str(cause) for cause in behind if isinstance(cause, OWN_ERRORS)), None)


def reason_of_loss(job: Job) -> str:
    """Reason in a word for an interruption by a lost group; a rank that hung is told of."""
    if line := hang_told(job.folder):
        logger.warning("%s", line)
        return "hung"
    return "lost"


class Losses:
    """Lost groups in a row without a new checkpoint between them, against the run's limit.

    A start that ends before anything is computed costs none, once: the cluster may have taken a
    node for it that is just gone, and on a full machine new processes die.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.lost = 0
        self._checkpoint: str | None = None
        self._progress = read_progress(job.folder)
        """Progress that the run had published when the last group was started."""
        self._forgiven = False
        """True if the last group, too, ended before anything was computed."""

    def charge(self, error: Exception) -> None:
        """Count a lost group and say what becomes of it; TrainingError for one too many."""
        if self._is_failed_start(error):
            logger.warning("the workers were lost before they began: starting them once more")
            return
        limit = self.job.config.cluster.max_failures
        newest = latest(self.job.folder)
        if newest is not None and newest.uri != self._checkpoint:
            self.lost, self._checkpoint = 0, newest.uri
        self.lost += 1
        if self.lost > limit:
            raise TrainingError(
                f"a worker was lost {count(self.lost, 'time')} in a row without a new checkpoint, "
                f"more than cluster.max_failures = {limit} allows: {error}. The same command goes "
                "on from the last checkpoint"
            ) from error
        # A line of another process is shown once: run and place tell two losses apart.
        logger.warning(
            "a worker was lost (%s); restarting %s %s, %d of %d",
            lost_in_words(error, self.job.folder),
            self.job.folder.name,
            f"from the checkpoint after {int(newest.name):,}" if newest else "from the start",
            self.lost,
            limit,
        )

    def _is_failed_start(self, error: Exception) -> bool:
        before, self._progress = self._progress, read_progress(self.job.folder)
        nothing_done = is_controller_lost(error) and self._progress == before
        forgiven, self._forgiven = self._forgiven, nothing_done
        return nothing_done and not forgiven


class Outage:
    """Waits for an object store that is away, at the cost of no restart.

    A group that ends in one is started again once the store answers, for as long as
    `checkpoint.patience_s` passes without a new checkpoint.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self._since = 0.0
        self._checkpoint: str | None = None

    def ended(self, error: Exception) -> bool:
        """True if it is what ended the group."""
        return not self.job.folder.is_local and (_is_outage(error) or self._is_away())

    def over(self, error: Exception) -> bool:
        """True once the store answers again; False if it was not what ended the group.

        TrainingError when it stays away.
        """
        if not self.ended(error):
            return False
        folder, patience_s = self.job.folder, self.job.config.checkpoint.patience_s
        try:
            newest = persist(
                lambda: latest(folder), patience_s, passing=is_away, doing=f"training {folder.name}"
            )
        except StorageError as gone:
            raise TrainingError(
                f"{gone}. It was waited for during checkpoint.patience_s = {patience_s:g} s; the "
                "same command goes on from the last checkpoint"
            ) from error
        now, place = time.monotonic(), newest and newest.uri
        if not self._since or place != self._checkpoint:
            self._since, self._checkpoint = now, place
        logger.warning("the storage was away; training goes on from the last checkpoint")
        return now - self._since <= patience_s

    def _is_away(self) -> bool:
        try:
            self.job.folder.exists()
        except StorageError as error:
            return is_away(error)
        return False


def _is_outage(error: Exception) -> bool:
    return any(
        isinstance(cause, UnreachableError) or is_away(cause)
        for failure in failures(error)
        for cause in causes(failure)
    )
