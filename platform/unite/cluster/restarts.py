"""Lost groups that start again inside Ray Train's controller. It imports Ray: import it after
`connect`.

A controller that ends takes seven seconds to come back, most of what a killed worker costs. Ray's
`FailureConfig` only counts failures over a whole fit, so its policy is replaced by one that asks
the run: what Ray would not try again here goes to the driver, as it did before.
"""

from __future__ import annotations

from typing import Any

from ray.train import ControllerError, FailureConfig
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision

from unite.cluster.failures import is_controller_lost
from unite.cluster.losses import Losses, Outage, TrainingError, own_error, reason_of_loss
from unite.cluster.preemption import is_preempted
from unite.training.interruptions import note_ended
from unite.training.setup import Job


class RestartingTrainer(TorchTrainer):
    """Trainer of a run whose lost groups start again with as many workers."""

    def __init__(self, *args: Any, job: Job, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.job = job

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        # Ray has no public place for a policy; the pin on one Ray version is what makes it safe.
        limits = self.run_config.failure_config or FailureConfig()
        policy = Restarts(limits, self.job)
        return super()._initialize_and_run_controller(**(parts | {"failure_policy": policy}))


class Restarts(DefaultFailurePolicy):
    """Ray Train's decision on a failure: another group here, or the end of the fit."""

    def __init__(self, config: FailureConfig, job: Job) -> None:
        super().__init__(config)
        self.job = job
        self.losses, self.outage = Losses(job), Outage(job)

    def make_decision(self, training_failed_error: Any) -> FailureDecision:
        """RETRY for a lost worker that the run's limit allows; Ray's own decision for the rest."""
        if not self._goes_on(training_failed_error):
            return super().make_decision(training_failed_error)
        self._controller_failures = 0  # the starts of each group are counted anew
        return FailureDecision.RETRY

    def _goes_on(self, error: Exception) -> bool:
        """True if another group shall go on from the last checkpoint, which is counted and told."""
        if isinstance(error, ControllerError) and not is_controller_lost(error):
            return False
        if is_preempted(error) or self.outage.ended(error) or own_error(error) is not None:
            return False
        reason = reason_of_loss(self.job)
        try:
            self.losses.charge(error)
        except TrainingError as end:
            _say_why(error, end)
            return False
        note_ended(self.job.folder, reason)
        return True


def _say_why(error: Any, end: TrainingError) -> None:
    """Hand the end of a run to the driver, which cannot tell from the error that it was counted."""
    if isinstance(error, ControllerError):
        error.controller_failure = end
    else:
        error.worker_failures = dict.fromkeys(error.worker_failures, end)
