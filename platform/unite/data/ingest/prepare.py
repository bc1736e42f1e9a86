"""The plan of a preparation, one shard of it, and its manifest; `unite.drivers.prepare` runs it.

A preparation can be interrupted anywhere. Each finished shard leaves a record with its digest in
the folder `unfinished`; running it again keeps the shards whose bytes still have that digest. The
manifest is written last and the records are removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from unite.config.effects import refuse_changed
from unite.data.ingest.classes import Naming
from unite.data.ingest.source import Part, Source, open_source
from unite.data.ingest.trial import try_parts
from unite.data.ingest.write import (
    LARGEST_WEBP,
    SCHEMA,
    SUBSAMPLING,
    Encoding,
    Format,
    encode_part,
    write_shard,
)
from unite.data.manifest import (
    SCHEMA_VERSION,
    UNFINISHED,
    Shard,
    ShardError,
    SplitManifest,
    content_digest,
    encoding_name,
    parse_shard,
    read_manifest,
    write_manifest,
)
from unite.data.names import SPLITS, is_foreign, shard_name, shown, split_of
from unite.storage import Store
from unite.words import count


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Settings of a preparation: source, split, and format of the stored images."""

    source: str
    """Tree of class folders, .tar, or folder of parquet; local path or s3:// URI."""
    out: str
    """Folder or s3:// URI for the shards; both splits of a data set may share one."""
    split: Literal["train", "eval"] = "train"
    """Use of the shards; it also selects the split of a source that holds several."""
    labels: str = ""
    """File of lines `image, class` for images that lie flat, as ImageNet's validation set does as
    distributed (its LOC_val_solution.csv can be named as it is): CSV by comma, tab, semicolon or
    space, with or without a head, in UTF-8 or UTF-16; local path or s3:// URI."""
    size: int = 256
    """Side of the square images in pixels (centre crop as in ADM)."""
    encoding: Literal["auto", Format] = "auto"
    """jpeg: small, 41 dB. webp: lossless, 2.2 times as large. original: every file's own bytes,
    cropped at each reading, slower. auto: jpeg to train on, webp to measure on. Images that have
    the size already always keep their bytes."""
    quality: int = 95
    """JPEG quality, 1..100."""
    original: bool = False
    """Alias of --encoding original."""
    rows_per_group: int = 256
    """Images per row group, the unit that is read and shuffled."""
    rows_per_shard: int = 2048
    """Images per file; a task holds one file in memory."""

    @property
    def stored_as(self) -> Encoding:
        """Encoding of each image."""
        automatic: Format = "jpeg" if self.split == "train" else "webp"
        chosen = automatic if self.encoding == "auto" else self.encoding
        return Encoding(
            size=self.size, format="original" if self.original else chosen, quality=self.quality
        )


@dataclass(frozen=True, kw_only=True)
class ShardJob:
    """One shard to be written; it is sent to the process that writes it."""

    store_uri: str
    name: str
    part: Part
    encoding: Encoding
    rows_per_group: int
    fingerprint: str
    finished: Shard | None
    """Record of an earlier run; None when there is none."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A preparation: its jobs, and the content of its manifest beside their results."""

    config: PrepareConfig
    store: Store
    source: Source
    fingerprint: str
    jobs: list[ShardJob]


def plan(config: PrepareConfig) -> Plan:
    """List the source and compare the output folder with it.

    Raises ValueError when a setting is out of range, ShardError when the source has nothing to
    offer or the folder holds other shards.
    """
    _validate(config)
    store = Store.open(config.out)
    naming = Naming(labels_file=config.labels, class_names=_training_classes(store, config.split))
    source = open_source(config.source, config.split, config.rows_per_shard, naming)
    fingerprint = content_digest([SCHEMA_VERSION, source.digest, _stored(config)])
    finished = _finished(store, config.split, fingerprint)
    count = len(source.parts)
    files = [shard_name(config.split, index, count) for index in range(count)]
    jobs = [
        ShardJob(
            store_uri=store.uri,
            name=file,
            part=part,
            encoding=config.stored_as,
            rows_per_group=config.rows_per_group,
            fingerprint=fingerprint,
            finished=finished.get(file),
        )
        for file, part in zip(files, source.parts, strict=True)
    ]
    return Plan(config=config, store=store, source=source, fingerprint=fingerprint, jobs=jobs)


def _training_classes(store: Store, split: str) -> tuple[str, ...] | None:
    """Class names of the training set in the folder, which its held-out set must share."""
    train = (read_manifest(store) or {}).get("train") if split == "eval" else None
    return train.class_names if train else None


def _stored(config: PrepareConfig) -> dict[str, Any]:
    """The settings that shards depend on, beside the source: JPEG and original bytes as they were
    written down before there was --encoding, so that such folders go on."""
    names = {field.name for field in fields(PrepareConfig)} - {"source", "out", "labels"}
    stored = {name: getattr(config, name) for name in sorted(names - {"encoding"})}
    encoding = config.stored_as
    stored["original"] = encoding.format == "original"
    return stored | ({"encoding": "webp"} if encoding.format == "webp" else {})


def _validate(config: PrepareConfig) -> None:
    encoding = config.stored_as
    if config.original and config.encoding not in ("auto", "original"):
        raise ValueError(f"--original and --encoding {config.encoding} exclude each other")
    if encoding.format != "jpeg":
        why = (
            f"on split '{config.split}', stored as {encoding.format} (it acts with --encoding jpeg)"
        )
        refuse_changed(config, ("quality",), why)
    if encoding.format == "webp" and config.size > LARGEST_WEBP:
        raise ValueError(f"--size {config.size}: WebP has at most {LARGEST_WEBP} pixels a side")
    if not 1 <= config.quality <= 100:
        raise ValueError(f"quality = {config.quality} must lie in 1..100")
    for name in ("size", "rows_per_group", "rows_per_shard"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name} = {getattr(config, name)} must be at least 1")


def begin(plan: Plan) -> None:
    """Mark the folder as unfinished: StorageError when it is not writable."""
    plan.store.write_json(_marker(plan.config.split), {"fingerprint": plan.fingerprint})


def run_job(job: ShardJob) -> Shard:
    """Write a shard and its record, or keep it when it is there with the recorded digest."""
    store = Store.open(job.store_uri)
    done = job.finished
    if done is not None and store.is_file(job.name) and store.digest(job.name) == done.sha256:
        return done
    skipped: Counter[str] = Counter()
    shard = write_shard(
        store,
        job.name,
        encode_part(job.part, job.encoding, skipped),
        rows_per_group=job.rows_per_group,
        skipped=skipped,
    )
    record = {"fingerprint": job.fingerprint, "shard": asdict(shard)}
    store.write_json(f"{UNFINISHED}/{job.name}.json", record)
    return shard


def finish(plan: Plan, shards: list[Shard]) -> SplitManifest:
    """Write the manifest and remove the records; ShardError when no row could be used."""
    skipped = Counter(plan.source.skipped)
    for shard in shards:
        skipped.update(shard.skipped)
    if not any(shard.num_rows for shard in shards):
        raise ShardError(f"no row of {plan.source.uri} could be used: {dict(skipped)}")
    manifest = SplitManifest(
        shards=tuple(sorted(shards, key=lambda shard: shard.file)),
        columns=tuple(SCHEMA.names),
        class_names=plan.source.class_names,
        skipped=dict(skipped),
        preparation={**_describe(plan), "fingerprint": plan.fingerprint},
    )
    others = read_manifest(plan.store) or {}
    write_manifest(plan.store, {**others, plan.config.split: manifest})
    for shard in shards:
        plan.store.delete(f"{UNFINISHED}/{shard.file}.json")
    plan.store.delete(_marker(plan.config.split))
    if not _records(plan.store):
        plan.store.delete(UNFINISHED)
    return manifest


def describe_plan(
    plan: Plan, *, every: bool = False, tell: Callable[[str], None] = lambda line: None
) -> str:
    """Description of the shards to write; ShardError as in `try_parts`, of some parts or all."""
    parts = [job.part for job in plan.jobs]
    trial = try_parts(plan.source.uri, parts, plan.config.stored_as, every=every, tell=tell)
    size = trial.bytes_per_row * plan.source.num_rows / 2**20
    source, kept = plan.source, sum(job.finished is not None for job in plan.jobs)
    names = source.class_names
    classes = "" if names is None else f" ({shown(names)})"
    number = "without class names" if names is None else f"{count(len(names), 'class', 'classes')}"
    shards = count(len(plan.jobs), "shard")
    return "\n".join(
        [
            f"source   {source.uri}: {count(source.num_rows, 'image')}, {number}{classes}",
            *(f"skipped  {rows:,}: {why}" for why, rows in source.skipped.items()),
            *(f"note     {note}" for note in (*source.notes, *trial.lines())),
            f"output   {plan.store}, split {plan.config.split}: {shards}, about {size:,.0f} MiB, "
            f"{encoding_name(_describe(plan))}",
            f"finished {kept:,} of {shards} by an earlier run",
            *_warnings(plan),
        ]
    )


def _finished(store: Store, split: str, fingerprint: str) -> dict[str, Shard]:
    """Shards of earlier runs of the same preparation; ShardError when the folder has others."""
    manifest = (read_manifest(store) or {}).get(split)
    if manifest is not None:
        _require_same(store, split, manifest.preparation.get("fingerprint"), fingerprint)
        return {shard.file: shard for shard in manifest.shards}
    if not store.is_file(_marker(split)):
        _require_empty(store, split)
        return {}
    _require_same(store, split, store.read_json(_marker(split), {}).get("fingerprint"), fingerprint)
    records = [store.read_json(f"{UNFINISHED}/{name}", {}, ShardError) for name in _records(store)]
    shards = [parse_shard(record["shard"]) for record in records if "shard" in record]
    return {shard.file: shard for shard in shards}


def _require_same(store: Store, split: str, found: str | None, wanted: str) -> None:
    if found != wanted:
        older = " (before there was --encoding it was --encoding jpeg)" if split == "eval" else ""
        raise ShardError(
            f"{store} already holds split '{split}' of another source or with other settings"
            f"{older}; choose another --out, or delete that folder"
        )


def _require_empty(store: Store, split: str) -> None:
    described = read_manifest(store) is not None
    strangers = [
        name
        for name in store.list()
        if name.endswith(".parquet") and not is_foreign(name)
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


def _marker(split: str) -> str:
    return f"{UNFINISHED}/{split}.json"


def _describe(plan: Plan) -> dict[str, Any]:
    """Origin of the shards, for the manifest."""
    encoding = plan.config.stored_as
    source = {"source": plan.source.uri, "source_digest": plan.source.digest}
    if encoding.format == "original":
        return {**source, "encoding": "original bytes"}
    kind = "webp lossless" if encoding.format == "webp" else "jpeg"
    jpeg = {"quality": encoding.quality, "subsampling": SUBSAMPLING}
    return {
        **source,
        "encoding": f"{kind}, except images that had the size already",
        "crop": "ADM centre crop",
        "size": encoding.size,
        **(jpeg if encoding.format == "jpeg" else {}),
    }


def _warnings(plan: Plan) -> list[str]:
    """A line for each other split in the folder that was made of the same files."""
    described = _describe(plan)
    return [
        f"warning  {plan.store} has split {split} of the same files: what is measured on held-out "
        "images would be measured on those of training. Name the held-out ones as SOURCE"
        for split, manifest in (read_manifest(plan.store) or {}).items()
        if split != plan.config.split
        and all(manifest.preparation.get(k) == described[k] for k in ("source", "source_digest"))
    ]
