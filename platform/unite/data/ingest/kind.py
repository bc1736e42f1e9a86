"""A kind of source: the settings of a preparation, the rows that it finds, and how they are stored.

The first word of `jobs/prepare_data.py` names the kind; without one it is `images`. A further kind
is a subclass of `Ingest` and its name in KINDS: plan, resumption, manifest and the Ray job know
sources only through this class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, ClassVar

import pyarrow as pa
import tyro

from unite.data.ingest.source import Record, Source
from unite.storage import Store


@dataclass(frozen=True, kw_only=True)
class Ingest(ABC):
    """Settings of a preparation; a copy is sent to every process that writes a shard."""

    source: Annotated[str, tyro.conf.Positional]
    """The source; local path or s3:// URI."""
    out: str
    """Folder or s3:// URI for the shards; all splits of a data set may share one."""
    rows_per_group: int = 256
    """Rows per row group, the unit that is read and shuffled."""
    rows_per_shard: int = 2048
    """Rows per file; a task holds one file in memory."""

    domain: ClassVar[str]
    """Name of the domain whose samples the rows are, for the manifest."""
    noun: ClassVar[str]
    """One row in words."""
    schema: ClassVar[pa.Schema]
    """Stored columns."""
    parquet: ClassVar[Mapping[str, Any]]
    """Options of the parquet writer."""
    reads_all: ClassVar[bool] = False
    """True if a plan reads the whole source; a finished preparation is then known by a record."""
    checked_rows: ClassVar[int] = 1
    """Rows that `refused` gets at once."""

    @property
    def most_bad(self) -> float:
        """Largest share of rows of a split that may be refused, 0..1."""
        return 1.0

    def check(self) -> None:
        """ValueError naming a setting that is out of range."""
        for name in ("rows_per_group", "rows_per_shard"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least 1")

    @abstractmethod
    def sources(self, out: Store) -> dict[str, Source]:
        """The rows of each split to be written into `out`; ShardError when they are of no use."""

    @abstractmethod
    def encode(self, record: Record) -> dict[str, Any]:
        """The row to store; ValueError "reason: details" for one that is skipped."""

    def refused(self, rows: list[dict[str, Any]]) -> dict[int, str]:
        """Positions of encoded rows that are of no use -> "reason: details"."""
        return {}

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The settings that stored bytes depend on; finished shards of others are not taken."""

    def describe(self) -> dict[str, Any]:
        """The form of stored rows, for the manifest; `encoding` names it."""
        return {}

    def hint(self, split: str) -> str:
        """Remark in the error for a folder that holds a split with other settings."""
        return ""


KINDS: dict[str, str | type[Ingest]] = {
    "images": "unite.data.ingest.images:ImagesIngest",
    "qm9": "unite.data.ingest.atoms.molecules:QM9Ingest",
    "mp20": "unite.data.ingest.atoms.crystals:MP20Ingest",
    "perov5": "unite.data.ingest.atoms.crystals:Perov5Ingest",
}
"""First word of the command -> the kind, or its place, which is imported when it is asked for."""


def kind_of(name: str) -> type[Ingest]:
    """The kind of a name in KINDS."""
    kind = KINDS[name]
    if isinstance(kind, str):
        module, _, attribute = kind.partition(":")
        return getattr(import_module(module), attribute)
    return kind
