"""A tree of class folders of image files, as ImageNet is distributed once unpacked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from unite.data.ingest.classes import Naming, classify
from unite.data.ingest.listing import list_tree
from unite.data.ingest.source import Part, Record, Source, shuffled_ranges
from unite.data.manifest import content_digest
from unite.domains.image_files import IMAGE_SUFFIXES
from unite.storage import Store


@dataclass(frozen=True)
class FolderPart:
    """Some files of the tree with their labels."""

    uri: str
    entries: list[tuple[str, int]]

    @property
    def num_rows(self) -> int:
        """Files of the part."""
        return len(self.entries)

    def records(self) -> Iterator[Record]:
        """Read the files one by one."""
        store = Store.open(self.uri)
        for name, label in self.entries:
            yield Record(cells={"image": store.read(name), "label": label}, path=name)


def open_folder(store: Store, split: str, rows_per_part: int, naming: Naming) -> Source:
    """List a tree; ShardError when its images have no class."""
    found = classify(
        list_tree(store), suffixes=IMAGE_SUFFIXES, split=split, naming=naming, uri=store.uri
    )
    entries = [(name, found.labels[label]) for name, label in found.classes.items()]
    parts: list[Part] = [
        FolderPart(store.uri, [entries[row] for row in rows])
        for rows in shuffled_ranges(len(entries), rows_per_part)
    ]
    return Source(
        uri=store.uri,
        num_rows=len(entries),
        parts=parts,
        class_names=tuple(found.labels),
        digest=content_digest(entries),
        skipped=found.skipped,
        notes=found.notes,
    )
