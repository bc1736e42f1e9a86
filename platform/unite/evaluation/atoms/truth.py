"""True structures, judged by the rules of drawn ones: what perfect samples would get.

Kept in the storage by the data's digest and the rules, as reference statistics are: made once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from unite.config.domains import AtomsConfig
from unite.data.manifest import ShardError
from unite.data.shards import ShardSet, Split
from unite.domains.stored import stored_of
from unite.evaluation.atoms.rules import Rules
from unite.evaluation.chunks import Chunk
from unite.evaluation.dataset import Dataset
from unite.evaluation.instruments import Instruments
from unite.evaluation.suite import Task, read_chunks
from unite.evaluation.target import Target
from unite.lazy import torch
from unite.metrics.accumulator import Arrays, Stack, Totals
from unite.storage import Store

FOLDER = "references"
SPLITS: tuple[Split, ...] = ("train", "eval", "test")
WHOLE = {"QM9": ((100_000, 12_831), (100_000, 13_083)), "MP20": ((27_136, 9_046),)}
"""Data set -> rows of its training and test split: of QM9 by ADiT's sizes and by EDM's, of MP20 by
CDVAE's files."""


@dataclass(frozen=True, kw_only=True)
class TrueStructures(Task):
    """All rows of a data set, judged."""

    suite: ClassVar[str] = "truth"
    on_cpu: ClassVar[bool] = True

    data: Dataset
    domain: AtomsConfig
    rules: Rules

    def totals(self, label: str, device: torch.device | str = "cpu") -> Totals:
        """Columns of judgements."""
        return {"judged/": Stack()}

    def count(self, totals: Any, instruments: Instruments, chunk: Chunk) -> None:
        """Judge the rows of a chunk."""
        domain: Any = instruments.domain(self.domain)
        for rows in instruments.rows(self.data, self.domain, chunk):
            true = domain.structures(domain.as_reconstruction(rows.sample), rows.mask_BK)
            by_row = dict(zip(rows.rows_B.tolist(), true, strict=True))
            totals["judged/"].update(**self.rules.judge(by_row, instruments))

    def judged(self) -> Arrays:
        """Columns of all rows, whose chunks are there."""
        totals: Any = self.merged(read_chunks(self))
        return totals["judged/"].result()


def true_structures(data: Dataset, target: Target, rules: Rules) -> TrueStructures:
    """The task of a data set of a target."""
    config: Any = target.subject.config.domain
    home = references(target)
    return TrueStructures(total=data.num_rows, home=home, data=data, domain=config, rules=rules)


def references(target: Target) -> str:
    """Folder of what is made of true structures."""
    return (Store.open(target.storage) / FOLDER).uri


def known_data(target: Target) -> tuple[Dataset, ...]:
    """The training set first, and every other split that lies in the folders of the target."""
    columns = stored_of(target.subject.config.domain).columns
    found = {target.train.digest: target.train}
    for data in (target.train, target.held_out):
        for split in SPLITS:
            try:
                other = Dataset.of(ShardSet.open(data.uri, split, columns), split)
            except ShardError:
                continue
            found.setdefault(other.digest, other)
    return tuple(found.values())


def data_name(target: Target) -> str:
    """Name of the data as tables have it: QM9 for the whole of it alone, else "QM9, 30k"."""
    columns = stored_of(target.subject.config.domain).columns
    manifest = ShardSet.open(target.train.uri, target.train.split, columns).manifest
    name = str(manifest.preparation.get("data_set", "") if manifest else "").upper()
    train, held_out = target.train.num_rows, target.held_out.num_rows
    if name not in WHOLE:
        return name or target.train.uri.rstrip("/").rsplit("/", 1)[-1]
    if (train, held_out) in WHOLE[name]:
        return name
    size = f"{train / 1000:.0f}k" if train >= 1000 else str(train)
    return f"{name}, {size}" if name == "QM9" else f"{name} subset"
