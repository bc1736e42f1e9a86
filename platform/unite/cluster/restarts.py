"""Lost groups that start again inside Ray Train's controller. It imports Ray: import it after
`connect`.

A controller that ends takes seven seconds to come back, most of what a killed worker costs. Ray's
`FailureConfig` only counts failures over a whole fit, so its policy is replaced by one that asks
the run; what Ray would not try again here goes to the driver. The size of a run with a range of
workers follows what is free, by the rule of its first group.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar

from ray.train import ControllerError, FailureConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision
from ray.train.v2._internal.execution.scaling_policy import (
    FixedScalingPolicy,
    NoopDecision,
    ResizeDecision,
    ScalingDecision,
)
from ray.util.placement_group import PlacementGroup

from unite.cluster.connect import nodes
from unite.cluster.elastic import Search, size_in_words
from unite.cluster.failures import is_controller_lost
from unite.cluster.losses import Losses, Outage, TrainingError, own_error, reason_of_loss
from unite.cluster.preemption import is_preempted
from unite.config.workers import is_range
from unite.storage import StorageError
from unite.training.interruptions import note_ended
from unite.training.setup import Job

logger = logging.getLogger(__name__)


class RestartingTrainer(TorchTrainer):
    """Trainer of a run whose lost groups start again, with as many workers as its range allows.

    They may take `patience_s` seconds to find room.
    """

    def __init__(self, *args: Any, job: Job, patience_s: float, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.job = job
        self.patience_s = patience_s

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        # Ray has no public place for a policy; the pin on one Ray version is what makes it safe.
        limits = self.run_config.failure_config or FailureConfig()
        parts["failure_policy"] = Restarts(limits, self.job)
        if is_range(self.job.config.cluster):
            parts["scaling_policy"] = Sizes(self.scaling_config, self.job, self.patience_s)
            parts["callbacks"] = [*parts["callbacks"], LastGroup()]
        return super()._initialize_and_run_controller(**parts)


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
        except StorageError:  # it is away since a moment ago: the driver waits for it
            return False
        note_ended(self.job.folder, reason)
        return True


class LastGroup(WorkerGroupCallback):
    """Place of this controller's last group, which it holds until the next one starts."""

    placed: ClassVar[PlacementGroup | None] = None

    def after_worker_group_start(self, worker_group: Any) -> None:
        """Remember it."""
        handle = worker_group.get_worker_group_state().placement_group_handle
        LastGroup.placed = handle.placement_group


class Sizes(FixedScalingPolicy):
    """Ray Train's decision on a group's size: the driver's for the first, then what is free."""

    def __init__(self, config: ScalingConfig, job: Job, patience_s: float) -> None:
        super().__init__(config)
        self.job = job
        self.patience_s = patience_s
        self.size = super()._get_num_workers_for_resource_request()
        self.is_first = True
        self.search: Search | None = None

    def _get_num_workers_for_resource_request(self) -> int:
        return self.size  # Ray Data counts on what is left

    def make_decision_for_non_running_worker_group(self) -> ScalingDecision:
        """A size; CapacityError when there is none for too long."""
        if self.is_first:
            self.is_first = False
            return super().make_decision_for_non_running_worker_group()
        self._maybe_send_resource_request()
        self.search = self.search or Search(self.job.config, self.patience_s)
        free = nodes(free=True, ending=LastGroup.placed, answering=True)
        group = self.search.look(nodes(answering=True), free)
        if group is None:
            return NoopDecision()
        if group.num_workers != self.size:
            batch_size, cluster = self.search.batch_size, self.job.config.cluster
            logger.warning("%s", size_in_words(cluster, group, free, batch_size))
        self.size, self.search = group.num_workers, None
        return ResizeDecision(
            num_workers=group.num_workers, resources_per_worker=dict(group.bundle)
        )


def _say_why(error: Any, end: TrainingError) -> None:
    """Hand the end of a run to the driver, which cannot tell from the error that it was counted."""
    if isinstance(error, ControllerError):
        error.controller_failure = end
    else:
        error.worker_failures = dict.fromkeys(error.worker_failures, end)
