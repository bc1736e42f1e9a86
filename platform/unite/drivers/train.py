"""The driver of a training run: check everything, join Ray, track, train, show progress.

All checks that need no cluster come before Ray starts. A first Ctrl-C or SIGTERM asks the run to
save and end; a second one ends it at once.
"""

from __future__ import annotations

import functools
import logging
import threading
from dataclasses import replace
from typing import Any

import torch

from unite import terminal, tracking
from unite.ablation.results import is_trained, total_images
from unite.checkpoints.lease import hold
from unite.checkpoints.repair import latest_whole
from unite.cluster.connect import connect, describe_cluster, is_private
from unite.cluster.resources import reachable_nodes, train_workers, wait_for
from unite.cluster.train import fit
from unite.config.finetune import as_trained
from unite.config.schema import ClusterConfig, RunConfig
from unite.config.serialise import flatten, to_dict
from unite.config.validate import validate
from unite.data.classes import count_classes
from unite.data.overlap import describe_shared
from unite.data.shards import ShardSet, require_same_classes
from unite.drivers.inputs import data_inputs
from unite.drivers.progress import follow_run
from unite.drivers.signals import stop_on_signals
from unite.runs import RUN_FILE, data_uri, is_builtin
from unite.storage import Store
from unite.training.finetune import lineage
from unite.training.finished import Report, keep_report, report_lines
from unite.training.fit import check_device
from unite.training.runs import Run, begin, open_run, request_stop
from unite.training.setup import Job, open_split
from unite.training.timings import RAY, Timings, note_training

logger = logging.getLogger(__name__)


def prepare(config: RunConfig, *, resume: str, allow_changes: bool) -> Run:
    """Validate a config and everything that it names; ValueError or StorageError otherwise.

    A built-in data set is written into the storage when it is not there.
    """
    validate(config)
    if not config.data.train:
        raise ValueError(
            f"recipe {config.recipe} needs --data.train: a folder or s3:// URI of parquet shards "
            "(python jobs/prepare_data.py --help shows how to make them)"
        )
    check_this_machine(config)
    run = open_run(config, resume=resume, allow_changes=allow_changes)
    if resume not in ("auto", "never"):
        _refuse_another_place(config, run)
    if allow_changes and run.resume_from is None:
        raise ValueError(
            f"--allow-changes has no effect: no run is continued, because this config is that of "
            f"{run.folder}, which has no checkpoint. Name the run to continue with --resume RUN"
        )
    prepare_inputs(run.config)
    return run


def prepare_inputs(config: RunConfig) -> None:
    """Look at tracking, data and pretrained files of a resolved config.

    A built-in data set is written into the storage when it is not there.
    """
    if config.tracking.enabled:
        tracking.resolve_uri(config.tracking, config.storage)
    if is_builtin(config.data.train):
        from unite.data.ingest.builtin import prepare_builtin

        prepare_builtin(config.data.train, Store.open(data_uri(config, "train")))
    check_inputs(config)


def _refuse_another_place(config: RunConfig, run: Run) -> None:
    """ValueError for a name or a storage beside the folder of a run to resume, which has both."""
    given = {"name": config.name, "storage": config.storage and Store.open(config.storage).uri}
    for name, value in given.items():
        if value not in ("", getattr(run.config, name)):
            raise ValueError(
                f"--{name} {value} has no effect with --resume, which goes on in {run.folder}: "
                "leave it out"
            )


def check_this_machine(config: RunConfig) -> None:
    """ValueError when this machine, if it is to train, lacks what the run asks for; workers on
    other nodes look for themselves."""
    if not is_private():
        return
    use_gpu = config.cluster.use_gpu and torch.cuda.is_available()
    check_device(as_trained(config), torch.device("cuda" if use_gpu else "cpu"))


def check_inputs(config: RunConfig) -> None:
    """Look at the data and pretrained files of a resolved config; writes nothing."""
    check_data(config)
    if config.loss.perceptual.weight > 0:
        from unite.training.vgg import require_perceptual

        require_perceptual(config.weights)


def check_data(config: RunConfig) -> tuple[ShardSet, ShardSet]:
    """Open both splits and compare them with the domain; ValueError names what does not fit."""
    train, held_out = open_split(config, "train"), open_split(config, "eval")
    require_same_classes(train, held_out)
    if shared := describe_shared(train, held_out):
        logger.warning("%s", shared)
    for shards in (train, held_out):
        count_classes(shards, config.domain.num_classes)
    return train, held_out


def launch(run: Run) -> dict[str, Any]:
    """Train a prepared run on the cluster and return its summary.

    BusyError, before anything is written, when another driver trains it.
    """
    with hold(run.folder, "driver", patience_s=0.0):
        return _launch(with_whole_checkpoint(run))


def with_whole_checkpoint(run: Run) -> Run:
    """The run, going on from its newest checkpoint that is whole; the caller is its driver."""
    if run.resume_from is not None and not run.resume_from.is_below(run.folder):
        return run
    return replace(run, resume_from=latest_whole(run.folder, thorough=False))


def _launch(run: Run) -> dict[str, Any]:
    """Train; a run that has all its images already needs no cluster."""
    if is_trained(run):
        return _end_trained(run)
    cluster, batch_size = run.config.cluster, as_trained(run.config).training.batch_size
    rule = functools.partial(train_workers, cluster, batch_size=batch_size)
    if is_private() and not cluster.wait_s:
        rule(reachable_nodes())  # known before Ray starts
    run.folder.check_writable()
    took = connect()
    group = wait_for(rule, cluster)
    _warn_of_idle_gpus(run.config.cluster)
    handle = _start_tracking(run)
    if handle is not None:
        terminal.phase("MLflow has the run")
    begin(run)  # now that nothing can refuse it any more
    if took:
        Timings(Store(run.config.storage)).add({RAY: took})
    spool = tracking.spool_folder(run.folder)
    factory = functools.partial(open_tracker, handle, run.folder, tracking.Login.of_this_process())
    job = Job.of(run)
    status = "FAILED"
    try:
        with stop_on_signals(
            lambda: request_stop(run.folder, job.owner), "the run saves a checkpoint and stops"
        ):
            summary = _in_thread(functools.partial(fit, job, group, factory), run)
        status = "KILLED" if summary["stopped"] else "FINISHED"
        seconds = summary["seconds"]
        images = round(summary["images_per_s"] * seconds)
        note_training(run.config, images, seconds, stopped=summary["stopped"])
        return summary
    finally:
        if handle is not None:
            tracking.finish_run(handle, status, spool=spool)


def _end_trained(run: Run) -> dict[str, Any]:
    """The summary of a run whose driver was ended after its last checkpoint; MLflow is told."""
    handle = tracking.RunHandle.of(run.record)
    if run.config.tracking.enabled and handle is not None:
        tracking.finish_run(handle, "FINISHED", spool=tracking.spool_folder(run.folder))
    return {"stopped": False, "images": total_images(run), "seconds": 0.0}


def _start_tracking(run: Run) -> tracking.RunHandle | None:
    config = run.config
    if not config.tracking.enabled:
        if lineage(config):
            run.folder.write_json(RUN_FILE, lineage(config))
        return None
    handle = tracking.start_run(
        config.tracking,
        storage=config.storage,
        name=config.tracking.run_name or run.folder.name,
        params=tracking.run_params(flatten(config) | _parent_images(config)),
        config_dict=to_dict(config),
        tags=tracking.run_tags(
            recipe=config.recipe,
            manifest_digest=open_split(config, "train").digest,
            cluster=describe_cluster(),
            run_uri=run.folder.uri,
            source="jobs/finetune_decoder.py" if lineage(config) else "jobs/train.py",
            extra={name: str(value) for name, value in lineage(config).items()},
        ),
        resume_run_id=run.mlflow_run_id,
        data=data_inputs(config),
    )
    run.folder.write_json(RUN_FILE, handle.record | lineage(config))
    return handle


def _parent_images(config: RunConfig) -> dict[str, Any]:
    """Images that a fine-tuning's parent had seen: its own count begins at 0."""
    found = lineage(config)
    return {"parent_images": found["parent_images"]} if found else {}


def open_tracker(
    handle: tracking.RunHandle | None,
    run: Store,
    login: tracking.Login,
    is_main: bool,
    images: int,
) -> tracking.Tracker:
    """The tracker of one rank that starts after `images`."""
    if not is_main:
        return tracking.Tracker()
    return tracking.open_tracker(
        handle,
        spool=tracking.spool_folder(run),
        resume_step=images,
        login=login,
        publish_to=None if run.is_local else run,
    )


def _warn_of_idle_gpus(config: ClusterConfig) -> None:
    gpus = describe_cluster()["GPU"]
    if gpus and not config.use_gpu:
        logger.warning(
            "the cluster has %g GPUs and this run trains on CPUs: give --cluster.use-gpu", gpus
        )


def _in_thread(work: Any, run: Run) -> dict[str, Any]:
    """Run `work` beside the main thread, which shows progress and keeps the signal handlers."""
    outcome: dict[str, Any] = {}

    def target() -> None:
        try:
            outcome["value"] = work()
        except BaseException as error:  # noqa: BLE001 - re-raised in the main thread
            outcome["error"] = error

    thread = threading.Thread(target=target, name="fit", daemon=True)
    thread.start()
    follow_run(run, thread)
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


def print_report(run: Run, report: Report, seconds: float) -> None:
    """Print the figures of a finished run and what to do next, and keep them in its folder."""
    uri = run.record.get("mlflow_uri")
    browse = tracking.describe(uri) if run.config.tracking.enabled and uri else ""
    report = replace(report, seconds=seconds, browse=browse)
    keep_report(run, report)
    print("\n".join(report_lines(run, report)))
