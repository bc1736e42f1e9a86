"""A preparation on the cluster, with its progress shown as shards finish."""

from __future__ import annotations

import time
from collections.abc import Iterator

from unite.cluster.connect import connect
from unite.data.ingest.prepare import Plan, begin, finish
from unite.data.manifest import Shard, SplitManifest
from unite.drivers.progress import progress_line
from unite.words import clock, count


def prepare(plan: Plan, *, num_cpus: float = 0) -> dict[str, SplitManifest]:
    """Write the shards of a plan on the cluster, then the manifest of its splits.

    `num_cpus` bounds the CPUs at work, 0 = all. Whatever ends it early, the shards that are
    finished are kept and the same call continues. Raises ShardError or StorageError.
    """
    plan.store.check_writable()
    connect()
    from unite.cluster.shards import write_shards  # it imports Ray, which needs `connect`

    begin(plan)
    return finish(plan, list(_shown(write_shards(plan.jobs, num_cpus), plan)))


def _shown(shards: Iterator[Shard], plan: Plan) -> Iterator[Shard]:
    """Pass shards on, and show the progress; those of an earlier run say nothing of the speed."""
    kept = {job.name: job.finished for job in plan.jobs}
    started, rows, new = time.monotonic(), 0, 0
    with progress_line("starting", len(plan.jobs)) as show:
        for done, shard in enumerate(shards, start=1):
            more = shard.num_rows + sum(shard.skipped.values())
            rows += more
            new += 0 if shard == kept[shard.file] else more
            show(_describe(done, rows, new / max(time.monotonic() - started, 1e-9), plan), done)
            yield shard


def _describe(done: int, rows: int, rate: float, plan: Plan) -> str:
    """The progress line of `done` shards; `rate` is in rows a second."""
    noun = plan.ingest.noun
    line = f"{done:,}/{count(len(plan.jobs), 'shard')}  {count(rows, noun)}"
    if not rate:
        return line
    return f"{line}  {rate:,.0f} {noun}s/s  ETA {clock((plan.num_rows - rows) / rate)}"
