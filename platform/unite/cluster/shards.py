"""Shards of a preparation, written by Ray Data: one task per shard.

It imports Ray: import it after `connect`.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from functools import partial

import pyarrow as pa
import ray
from ray.data import DataContext, ExecutionResources
from ray.exceptions import RayTaskError

from unite.cluster.labels import preferred
from unite.cluster.stream import own_error, quiet
from unite.data.ingest.prepare import ShardJob, run_job
from unite.data.manifest import Shard
from unite.network import persist
from unite.objects import is_away

TASK_CPUS = 1
AWAY_S = 900.0
"""Seconds that a task waits for an object store: one that ended would end all the others."""


def write_shards(jobs: Sequence[ShardJob], num_cpus: float) -> Iterator[Shard]:
    """Shards in the order in which they are finished, on at most `num_cpus` CPUs (0 = all).

    Raises ShardError or StorageError.
    """
    quiet()
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    if num_cpus:
        context.execution_options.resource_limits = ExecutionResources(cpu=num_cpus)
    items = [{"job": pickle.dumps(job)} for job in jobs]
    with DataContext.current(context):
        results = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            _run_jobs,
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=TASK_CPUS,
            **preferred("decode"),
        )
    try:
        for row in results.iter_rows():
            yield pickle.loads(row["shard"])
    except RayTaskError as error:
        raise own_error(error) from error


def _run_jobs(items: pa.Table) -> Iterator[pa.Table]:
    for item in items.column("job").to_pylist():
        yield pa.table({"shard": [pickle.dumps(_written(pickle.loads(item)))]})


def _written(job: ShardJob) -> Shard:
    """The shard of a job; an object store that is away is asked again for AWAY_S."""
    return persist(partial(run_job, job), AWAY_S, passing=is_away, doing=f"shard {job.name}")
