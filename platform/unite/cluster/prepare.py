"""Run a preparation as a Ray Data job: one task per shard, progress shown as shards finish."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator

import pyarrow as pa
import ray
from ray.data import DataContext, ExecutionResources
from ray.exceptions import RayTaskError
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

from unite import terminal
from unite.cluster.connect import connect
from unite.cluster.stream import own_error, quiet
from unite.data.ingest.prepare import Plan, ShardJob, begin, finish, run_job
from unite.data.manifest import Shard, SplitManifest
from unite.words import clock, count

TASK_CPUS = 1
PLAIN_SECONDS = 10.0


def prepare(plan: Plan, *, num_cpus: float = 0) -> SplitManifest:
    """Write the shards of a plan on the cluster, then the manifest.

    `num_cpus` bounds the CPUs at work, 0 = all. Whatever ends it early, the shards that are
    finished are kept and the same call continues. Raises ShardError or StorageError.
    """
    plan.store.check_writable()
    connect()
    begin(plan)
    quiet()
    try:
        shards = list(_shown(_run(plan.jobs, num_cpus), plan))
    except RayTaskError as error:
        raise own_error(error) from error
    return finish(plan, shards)


def _run(jobs: list[ShardJob], num_cpus: float) -> Iterator[Shard]:
    """Results in the order in which they come."""
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    if num_cpus:
        context.execution_options.resource_limits = ExecutionResources(cpu=num_cpus)
    items = [{"job": pickle.dumps(job)} for job in jobs]
    with DataContext.current(context):
        results = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            _run_jobs, batch_size=1, batch_format="pyarrow", num_cpus=TASK_CPUS
        )
    for row in results.iter_rows():
        yield pickle.loads(row["shard"])


def _run_jobs(items: pa.Table) -> Iterator[pa.Table]:
    for item in items.column("job").to_pylist():
        yield pa.table({"shard": [pickle.dumps(run_job(pickle.loads(item)))]})


def _shown(shards: Iterator[Shard], plan: Plan) -> Iterator[Shard]:
    """Pass shards on; a live line in a terminal, else a line every 10 s."""
    columns = (BarColumn(bar_width=24), TextColumn("{task.description}"), TimeElapsedColumn())
    started = shown = time.monotonic()
    with terminal.progress(*columns) as bar:
        task = bar.add_task("starting", total=len(plan.jobs))
        rows = 0
        for done, shard in enumerate(shards, start=1):
            rows += shard.num_rows + sum(shard.skipped.values())
            line = _describe(done, rows, plan, time.monotonic() - started)
            bar.update(task, completed=done, description=line)
            if bar.disable and time.monotonic() - shown >= PLAIN_SECONDS:
                shown = time.monotonic()
                terminal.tell(line)
            yield shard


def _describe(done: int, rows: int, plan: Plan, seconds: float) -> str:
    rate = rows / max(seconds, 1e-9)
    left = (plan.source.num_rows - rows) / max(rate, 1e-9)
    return (
        f"{done:,}/{count(len(plan.jobs), 'shard')}  {count(rows, 'image')}  {rate:,.0f} images/s  "
        f"ETA {clock(left)}"
    )
