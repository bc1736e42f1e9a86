"""The plan of a preparation, one shard of it, and its manifest; `unite.drivers.prepare` runs it.

A preparation can be interrupted anywhere. Each finished shard leaves a record with its digest in
the folder `unfinished`; running it again keeps the shards whose bytes still have that digest. The
manifest is written last and the records are removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unite.checkpoints.lease import hold
from unite.data.ingest.kind import Ingest
from unite.data.ingest.source import Part, Source
from unite.data.ingest.trial import try_parts
from unite.data.ingest.write import Skipped, encode_records, write_shard
from unite.data.manifest import (
    SCHEMA_VERSION,
    UNFINISHED,
    Shard,
    ShardError,
    SplitManifest,
    content_digest,
    encoding_name,
    marker,
    parse_shard,
    read_manifest,
    write_manifest,
)
from unite.data.names import SPLITS, is_foreign, shard_name, shown, split_of
from unite.data.parts import require_domain
from unite.storage import Store
from unite.words import count


@dataclass(frozen=True, kw_only=True)
class ShardJob:
    """One shard to be written; it is sent to the process that writes it."""

    store_uri: str
    name: str
    part: Part
    ingest: Ingest
    fingerprint: str
    finished: Shard | None
    """Record of an earlier run; None when there is none."""


@dataclass(frozen=True, kw_only=True)
class SplitPlan:
    """A split to be written: its jobs, and the content of its manifest beside their results."""

    split: str
    source: Source
    fingerprint: str
    """Digest of source and settings, by which an interrupted preparation is known again."""
    jobs: list[ShardJob]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A preparation."""

    ingest: Ingest
    store: Store
    splits: tuple[SplitPlan, ...]

    @property
    def jobs(self) -> list[ShardJob]:
        """The shards of all splits."""
        return [job for part in self.splits for job in part.jobs]

    @property
    def num_rows(self) -> int:
        """Source rows of all splits."""
        return sum(part.source.num_rows for part in self.splits)


def plan(ingest: Ingest) -> Plan:
    """List the source and compare the output folder with it.

    Raises ValueError when a setting is out of range, ShardError when the source has nothing to
    offer or the folder holds other shards.
    """
    ingest.check()
    store = Store.open(ingest.out)
    require_domain(store, ingest.domain, "the source")
    splits = [_plan_split(ingest, store, *found) for found in ingest.sources(store).items()]
    return Plan(ingest=ingest, store=store, splits=tuple(splits))


def _plan_split(ingest: Ingest, store: Store, split: str, source: Source) -> SplitPlan:
    fingerprint = content_digest([SCHEMA_VERSION, source.digest, ingest.settings()])
    finished = _finished(ingest, store, split, source, fingerprint)
    files = [shard_name(split, index, len(source.parts)) for index in range(len(source.parts))]
    jobs = [
        ShardJob(
            store_uri=store.uri,
            name=file,
            part=part,
            ingest=ingest,
            fingerprint=fingerprint,
            finished=finished.get(file),
        )
        for file, part in zip(files, source.parts, strict=True)
    ]
    return SplitPlan(split=split, source=source, fingerprint=fingerprint, jobs=jobs)


def begin(plan: Plan) -> None:
    """Mark the folder as unfinished: StorageError when it is not writable."""
    with hold(plan.store, ".manifest"):  # who ends now must not remove the folder of this mark
        for part in plan.splits:
            plan.store.write_json(marker(part.split), {"fingerprint": part.fingerprint})


def run_job(job: ShardJob) -> Shard:
    """Write a shard and its record, or keep it when it is there with the recorded digest."""
    store, ingest = Store.open(job.store_uri), job.ingest
    done = job.finished
    if done is not None and store.is_file(job.name) and store.digest(job.name) == done.sha256:
        return done
    skipped = Skipped()
    shard = write_shard(
        store,
        job.name,
        encode_records(job.part.records(), ingest, skipped),
        schema=ingest.schema,
        parquet=ingest.parquet,
        rows_per_group=ingest.rows_per_group,
        skipped=skipped,
    )
    record = {"fingerprint": job.fingerprint, "shard": asdict(shard)}
    store.write_json(f"{UNFINISHED}/{job.name}.json", record)
    return shard


def finish(plan: Plan, shards: Sequence[Shard]) -> dict[str, SplitManifest]:
    """Write the manifest and remove the records; returns the splits that were prepared.

    Preparations of other splits may end at the same time: one after the other adds its own.
    ShardError when no row of a split could be used, or more than its kind of source may lose.
    """
    made = {shard.file: shard for shard in shards}
    manifests = {
        part.split: _manifest(plan, part, [made[job.name] for job in part.jobs])
        for part in plan.splits
    }
    with hold(plan.store, ".manifest"):
        write_manifest(plan.store, {**(read_manifest(plan.store) or {}), **manifests})
        for job in plan.jobs:
            plan.store.delete(f"{UNFINISHED}/{job.name}.json")
        for part in plan.splits:
            plan.store.delete(marker(part.split))
        if not _records(plan.store):
            plan.store.delete(UNFINISHED)
    return manifests


def _manifest(plan: Plan, part: SplitPlan, shards: list[Shard]) -> SplitManifest:
    source, ingest = part.source, plan.ingest
    bad: Counter[str] = Counter()
    for shard in shards:
        bad.update(shard.skipped)
    skipped = dict(Counter(source.skipped) + bad)
    if not any(shard.num_rows for shard in shards):
        raise ShardError(f"no row of {source.uri} could be used: {skipped}")
    if bad.total() > ingest.most_bad * source.num_rows:
        raise ShardError(
            f"{bad.total():,} of {count(source.num_rows, ingest.noun)} of {source.uri}, split "
            f"{part.split}, cannot be used, more than {ingest.most_bad:.1%}: "
            f"{_reasons(bad, shards)}. Repair the source, or raise --max-bad-fraction"
        )
    return SplitManifest(
        shards=tuple(sorted(shards, key=lambda shard: shard.file)),
        columns=tuple(ingest.schema.names),
        class_names=source.class_names,
        skipped=skipped,
        preparation={**_origin(source), **ingest.describe(), "fingerprint": part.fingerprint},
        domain=ingest.domain,
    )


def _reasons(bad: Counter[str], shards: list[Shard]) -> str:
    """Counts by reason, each with the places of the first few rows."""
    places = {
        reason: [place for shard in shards for place in shard.examples.get(reason, ())]
        for reason in bad
    }
    return ", ".join(
        f"{number} x {reason} ({shown(places[reason])})" for reason, number in bad.most_common()
    )


def describe_plan(
    plan: Plan, *, every: bool = False, tell: Callable[[str], None] = lambda line: None
) -> str:
    """Description of the shards to write; ShardError as in `try_parts`, of some parts or all."""
    lines = [line for part in plan.splits for line in _describe_split(plan, part, every, tell)]
    return "\n".join([*lines, *_warnings(plan)])


def _describe_split(
    plan: Plan, part: SplitPlan, every: bool, tell: Callable[[str], None]
) -> list[str]:
    source, ingest = part.source, plan.ingest
    parts = [job.part for job in part.jobs]
    trial = try_parts(source.uri, parts, ingest, every=every, tell=tell)
    size = trial.bytes_per_row * source.num_rows / 2**20
    shards = count(len(part.jobs), "shard")
    kept = sum(job.finished is not None for job in part.jobs)
    return [
        f"source   {source.uri}: {count(source.num_rows, ingest.noun)}{_classes(ingest, source)}",
        *(f"skipped  {rows:,}: {why}" for why, rows in source.skipped.items()),
        *(f"note     {note}" for note in (*source.notes, *trial.lines())),
        f"output   {plan.store}, split {part.split}: {shards}, about {size:,.0f} MiB, "
        f"{encoding_name(ingest.describe())}",
        f"finished {kept:,} of {shards} by an earlier run",
    ]


def _classes(ingest: Ingest, source: Source) -> str:
    names = source.class_names
    if "label" not in ingest.schema.names:
        return ""
    if names is None:
        return ", without class names"
    return f", {count(len(names), 'class', 'classes')} ({shown(names)})"


def _finished(
    ingest: Ingest, store: Store, split: str, source: Source, fingerprint: str
) -> dict[str, Shard]:
    """Shards of earlier runs of the same preparation; ShardError when the folder has others."""
    manifest = (read_manifest(store) or {}).get(split)
    hint = ingest.hint(split)
    if manifest is not None:
        before = manifest.preparation
        changed = _changed(before, {**_origin(source), **ingest.describe()}, hint)
        require_same(store, split, before.get("fingerprint"), fingerprint, changed)
        return {shard.file: shard for shard in manifest.shards}
    if not store.is_file(marker(split)):
        require_empty(store, split)
        return {}
    found = store.read_json(marker(split), {}).get("fingerprint")
    require_same(store, split, found, fingerprint, hint)
    records = [store.read_json(f"{UNFINISHED}/{name}", {}, ShardError) for name in _records(store)]
    shards = [parse_shard(record["shard"]) for record in records if "shard" in record]
    return {shard.file: shard for shard in shards}


def _changed(before: Mapping[str, Any], now: Mapping[str, Any], hint: str) -> str:
    """The fields that differ, as the end of a sentence; with `hint` where the encoding is one."""
    of_source = ("source", "source_digest")
    names = [n for n in now if n not in of_source and before.get(n) != now[n]]
    listed = [f"{n} is {before.get(n, 'not recorded')} there, {now[n]} here" for n in names]
    if before.get("source_digest") != now["source_digest"]:
        listed.append(f"its source, {before.get('source', 'not recorded')}, had other rows")
    end = hint if "encoding" in names else ""
    return f": {'; '.join(listed)}{end}" if listed else ""


def require_same(store: Store, split: str, found: str | None, wanted: str, hint: str = "") -> None:
    """ShardError when what a folder holds as a split is not what is wanted."""
    if found != wanted:
        raise ShardError(
            f"{store} already holds split '{split}' of another source or with other settings"
            f"{hint}; choose another --out, or delete that folder"
        )


def require_empty(store: Store, split: str, own: Collection[str] = ()) -> None:
    """ShardError when a folder holds parquet of a split that is not described, nor among `own`."""
    # Another split may be in the making in the same folder.
    described = read_manifest(store) is not None or store.exists(UNFINISHED)
    strangers = [
        name
        for name in store.list()
        if name.endswith(".parquet") and not is_foreign(name) and name not in own
        if not described or split_of(name) in SPLITS[split]
    ]
    if strangers:
        raise ShardError(
            f"{store} holds parquet files that no manifest describes ({strangers[0]}, ...); choose "
            "an empty folder for --out"
        )


def _records(store: Store) -> list[str]:
    """Names in the folder of records, without unfinished files of a killed process."""
    return [name for name in store.list(UNFINISHED) if not name.startswith(".")]


def _origin(source: Source) -> dict[str, Any]:
    """Origin of the shards, for the manifest."""
    return {"source": source.uri, "source_digest": source.digest}


def _warnings(plan: Plan) -> list[str]:
    """A line for each other split in the folder that was made of the same rows."""
    prepared = {part.split for part in plan.splits}
    origins = [_origin(part.source) for part in plan.splits]
    return [
        f"warning  {plan.store} has split {split} of the same files: what is measured on held-out "
        f"{plan.ingest.noun}s would be measured on those of training. Name the held-out ones as "
        "SOURCE"
        for split, manifest in (read_manifest(plan.store) or {}).items()
        if split not in prepared
        and {name: manifest.preparation.get(name) for name in origins[0]} in origins
    ]
