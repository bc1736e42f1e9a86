"""The driver of an ablation: expand, admit, run the grid, publish to MLflow, draw.

Finished work is known from the storage alone: the same command goes on after Ctrl-C, a lost
trial or a killed driver, and repeats nothing. A first Ctrl-C or SIGTERM lets running trials save
and ends the sweep; a second one ends it at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from unite import terminal, tracking
from unite.ablation.cost import measure_rate, sweep_lines
from unite.ablation.expect import known_rate, note_sweep
from unite.ablation.files import report_files
from unite.ablation.results import Result, has_results, is_finished, read_result
from unite.ablation.trials import Sweep, TrialGroup
from unite.ablation.verdict import Measured, verdict
from unite.checkpoints.lease import hold
from unite.cluster.connect import CapacityError, connect
from unite.cluster.resources import reachable_nodes, trains_inside, trial_layout, wait_for
from unite.cluster.tune import Item, run_grid
from unite.config.serialise import digest
from unite.config.workers import most_workers
from unite.domains.stored import stored_of
from unite.drivers.session import session
from unite.drivers.signals import stop_on_signals
from unite.drivers.sweep_runs import publish, send, start_parent
from unite.drivers.train import check_inputs, prepare
from unite.drivers.trial import MEASURED, Context, run_trial
from unite.evaluation.arguments import AUTO, EvaluateArguments, WorkerArguments
from unite.evaluation.dataset import Dataset
from unite.evaluation.request import open_suites
from unite.evaluation.target import PARTS, Subject, Target, open_parts
from unite.runs import CONFIG_FILE, STOP_FILE, data_uri, is_builtin
from unite.storage import Store
from unite.training.runs import open_run, request_stop
from unite.words import count

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """Result of a sweep."""

    measured: tuple[Measured, ...]
    lines: tuple[str, ...]
    """Lines of the verdict."""
    out: Store
    files: tuple[str, ...]
    """Names of the files there: figure, table and verdict."""
    stopped: bool
    whole: bool = False
    """True if all trials are measured, and in MLflow where that is wanted."""


def show_plan(sweep: Sweep) -> None:
    """Print the plan for `--dry-run`: trials, cost, and finished trials.

    It raises the sweep's own errors for data and capacity, as far as they show without starting or
    writing anything.
    """
    _require_data(sweep)
    config = sweep.trials[0].config
    if not is_builtin(config.data.train):
        check_inputs(open_run(config).config)
    slots, shortage = 1, None
    try:
        slots = trial_layout(config.cluster, reachable_nodes()).concurrent
    except CapacityError as error:
        shortage = error
    rate = sweep.options.rate
    if not rate and trains_inside(config.cluster) and not known_rate(sweep):
        with suppress(ValueError):  # the plan then asks for --rate
            rate = measure_rate(config, threads=1)
    print("\n".join(sweep_lines(sweep, rate=rate, slots=slots)))
    if shortage is not None:
        if not config.cluster.wait_s:
            raise shortage
        print(f"it would wait up to {config.cluster.wait_s:g} s for a larger cluster: {shortage}")


def _require_data(sweep: Sweep) -> None:
    if not sweep.options.data:
        raise ValueError(
            f"--scale {sweep.options.scale} needs --data: a folder or s3:// URI of parquet shards "
            "(python jobs/prepare_data.py --help shows how to make them)"
        )


def run_sweep(sweep: Sweep) -> SweepResult:
    """Finish a sweep and draw it. Finished trials do not run again.

    BusyError, before anything is written to the sweep's folder, when another command runs it.
    """
    _require_data(sweep)
    cluster = sweep.trials[0].config.cluster
    if not cluster.wait_s and not all(has_results(work) for work in sweep.works):
        trial_layout(cluster, reachable_nodes())  # before anything is written
    for work in sweep.works:
        prepare(work.config, resume="auto", allow_changes=False)
    sweep.folder.check_writable()
    with hold(sweep.folder, "sweep", patience_s=0.0):
        return _run_alone(sweep)


def _run_alone(sweep: Sweep) -> SweepResult:
    """Finish and draw a sweep as the only driver of its folder."""
    left = [work for work in sweep.works if not is_finished(work)]
    parent = start_parent(sweep)
    sweep.folder.delete(STOP_FILE)
    terminal.tell(f"{sweep.name}: {len(left)} of {count(len(sweep.works), 'run')} to do")
    status = "FAILED"
    try:
        errors = _run(sweep, left, parent) if left else {}
        ended = _finish(sweep, parent, errors)
        is_whole = len(ended.measured) == len(sweep.trials)
        status = "KILLED" if ended.stopped else "FINISHED" if is_whole else "FAILED"
        return ended
    finally:
        if parent is not None:
            tracking.finish_run(parent, status)


def _run(
    sweep: Sweep, left: Sequence[TrialGroup], parent: tracking.RunHandle | None
) -> dict[str, str]:
    """Run the remaining work; a message for each run that ended without a result."""
    began = time.monotonic()
    connect()
    from unite.cluster.watch import Watcher

    cluster = sweep.trials[0].config.cluster
    layout = wait_for(partial(trial_layout, cluster), cluster)  # before anything is computed
    _prepare_features(sweep)
    terminal.tell(f"{count(layout.concurrent, 'trial')} at once")
    works = {work.digest: work for work in left}
    items = [_item(sweep, work) for work in left]
    watcher = Watcher(items, lambda key: _publish_ended(sweep, parent, works[key]))
    watcher.patience_s += cluster.wait_s
    context = Context(
        sweep=sweep, parent=parent, layout=layout, login=tracking.Login.of_this_process()
    )
    tune_folder = sweep.folder / "tune"
    tune_folder.delete()  # an earlier driver's; what counts is in the runs
    ready_s, grid_began = time.monotonic() - began, time.monotonic()
    told = "running trials save and stop, no other starts"
    with stop_on_signals(partial(_request_stop, sweep, items), told):
        run_grid(
            items,
            run_trial,
            {"works": works, "context": context},
            layout,
            watcher,
            folder=tune_folder.uri,
            max_failures=cluster.max_failures,
        )
    if not watcher.errors and not sweep.folder.exists(STOP_FILE):
        grid_s, results = time.monotonic() - grid_began, [_results(work) for work in left]
        note_sweep(sweep, left, results, layout.concurrent, ready_s, grid_s)
    return watcher.errors


def _publish_ended(sweep: Sweep, parent: tracking.RunHandle | None, work: TrialGroup) -> None:
    """Publish a run as soon as it is measured; an error would end all the others that train."""
    try:
        publish(sweep, parent, work)
    except (OSError, RuntimeError, ValueError) as error:
        logger.warning("%s is published at the end of the sweep: %s", work.digest, error)


def _prepare_features(sweep: Sweep) -> None:
    """Make extractors and statistics of real images, once for the evaluations of all trials."""
    config = sweep.trials[0].config
    run = open_run(config)
    inside, use_gpu = trains_inside(config.cluster), config.cluster.use_gpu
    workers = WorkerArguments(
        num_workers=0 if inside else most_workers(config.cluster),
        use_gpu=use_gpu,
        wait_s=config.cluster.wait_s,
    )
    uris: dict[str, str] = {part: data_uri(run.config, part) for part in PARTS}
    parts = open_parts(uris, stored_of(config.domain), f"recipe {config.recipe}")
    data = {part: Dataset.of(*parts[part]) for part in PARTS}
    subject = Subject(digest="", uri="", home=config.storage, config=config)
    target = Target(
        subject=subject,
        run=None,
        storage=config.storage,
        train=data["train"],
        held_out=data["eval"],
    )
    request = EvaluateArguments(suite=MEASURED, extractor=sweep.options.extractor or AUTO)
    with session(workers) as compute:
        for suite in open_suites(request, target):
            suite.prepared(compute)


def _item(sweep: Sweep, work: TrialGroup) -> Item:
    first = sweep.label(work.trials[0])
    label = first if len(work.trials) == 1 else f"training, seed {work.trials[0].seed}"
    return Item(key=work.digest, label=label, folder=open_run(work.config).folder.uri)


def _results(work: TrialGroup) -> list[Result]:
    run = open_run(work.config)
    return [found for trial in work.trials if (found := read_result(run, trial))]


def _finish(sweep: Sweep, parent: tracking.RunHandle | None, errors: dict[str, str]) -> SweepResult:
    """Publish results that are not in MLflow yet, and draw.

    `errors`: run -> message, for runs that ended without a result.
    """
    measured = [each for work in sweep.works for each in publish(sweep, parent, work)]
    order = {trial.digest: number for number, trial in enumerate(sweep.trials)}
    measured.sort(key=lambda each: order[each.trial.digest])
    have = {each.trial.digest for each in measured}
    missing = [
        f"MISSING: {sweep.label(trial)}: {errors.get(digest(trial.config), 'not finished')}"
        for trial in sweep.trials
        if trial.digest not in have
    ]
    out = Store.open(sweep.options.out) if sweep.options.out else sweep.folder
    lines = [*verdict(sweep.axis, measured), *missing]
    files = report_files(sweep, measured, lines)
    for name, data in files.items():
        out.write(name, data)
    is_sent = parent is None or (
        _send_report(sweep, parent, files) and all(each.run_id for each in measured)
    )
    stopped = sweep.folder.exists(STOP_FILE)
    return SweepResult(
        measured=tuple(measured),
        lines=tuple(lines),
        out=out,
        files=tuple(files),
        stopped=stopped,
        whole=is_sent and not missing and not stopped,
    )


def _send_report(sweep: Sweep, parent: tracking.RunHandle, files: dict[str, bytes]) -> bool:
    """Send the report's files to the sweep's run; True if MLflow took them."""
    try:
        send(parent, {}, 0, sweep.folder, files=files)
    except tracking.TrackingError as error:
        logger.warning("the figure is not in MLflow: %s", error)
        return False
    return True


def _request_stop(sweep: Sweep, items: Sequence[Item]) -> None:
    """Ask the sweep and every run that has begun to stop."""
    request_stop(sweep.folder)
    for item in items:
        if Store(item.folder).exists(CONFIG_FILE):
            request_stop(Store(item.folder), sweep.folder.uri)
