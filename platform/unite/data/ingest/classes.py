"""The class of each file of a listed source, and the number of each class.

The class of a file is its folder below the class root (`unite.data.names.class_root`), however
deep it lies in it, as torchvision's ImageFolder has it; labels number the sorted class names. An
empty folder is a class too; one that holds files but no samples is none. A list of labels names
the classes of files that lie otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from unite.data.ingest.labels import read_labels
from unite.data.ingest.listing import Listing
from unite.data.manifest import ShardError
from unite.data.names import (
    FOREIGN_NAME,
    SPLITS,
    Parts,
    class_root,
    shown,
    split_folder,
    splits_said,
)

NO_CLASS = "image in no class folder"
OTHER_FILE = "not an image file"


@dataclass(frozen=True, kw_only=True)
class Naming:
    """Rule by which files of a source get their class, and classes their number."""

    labels_file: str = ""
    """Lines of image and class; empty = the class is the folder."""
    class_names: tuple[str, ...] | None = None
    """The numbering to keep: that of the training set when its held-out set is prepared."""

    def index(self, names: Iterable[str], uri: str) -> dict[str, int]:
        """Labels of class names: their places in the numbering to keep, or in sorted order."""
        if self.class_names is None:
            return {name: label for label, name in enumerate(sorted(set(names)))}
        unknown = sorted(set(names) - set(self.class_names))
        if unknown:
            raise ShardError(
                f"{uri} has classes that the training set in the same --out does not have: "
                f"{', '.join(unknown[:5])}. Choose another --out, or name classes alike"
            )
        return {name: label for label, name in enumerate(self.class_names)}


@dataclass(frozen=True, kw_only=True)
class Classified:
    """Files with their classes, notes, and the files that were left out."""

    classes: dict[str, str]
    """Path -> class, sorted by path."""
    labels: dict[str, int]
    """Class -> label, all classes in the order of labels."""
    skipped: dict[str, int]
    notes: tuple[str, ...]


def classify(
    listing: Listing, *, suffixes: tuple[str, ...], split: str, naming: Naming, uri: str
) -> Classified:
    """Find the classes of the files of `split` that end in one of `suffixes`, in any case.

    ShardError when no file has a class, when splits lie mixed, or when a list of labels does not
    fit.
    """
    folder_of = {
        path: parts_of(path)[:-1]
        for path in sorted(listing.files)
        if path.lower().endswith(suffixes)
    }
    empty = {parts_of(path) for path in listing.empty_folders()}
    root, notes = class_root({*folder_of.values(), *empty}, split, uri)
    inside = {path: parts for path, parts in folder_of.items() if parts[: len(root)] == root}
    below, said = _of_split(inside, len(root) + 1, split, uri)
    if naming.labels_file and below:
        classes, unused = read_labels(naming.labels_file, below, suffixes, uri), set()
    else:
        classes = {path: c for path, parts in below.items() if (c := _class_of(parts, root))}
        unused = {c for parts in empty if (c := _class_of(parts, root))}
    if not classes:
        raise _no_classes(listing, uri)
    labels = naming.index([*classes.values(), *unused], uri)
    elsewhere = inside.keys() - below.keys()
    reasons = {
        **dict.fromkeys(listing.files.keys() - folder_of, OTHER_FILE),
        **dict.fromkeys(folder_of.keys() - classes.keys() - elsewhere, NO_CLASS),
        **listing.left_out,
    }
    # What lies in the folder of another split is that split's.
    skipped = Counter(why for path, why in reasons.items() if _meet(parts_of(path)[:-1], root))
    return Classified(
        classes=classes,
        labels=labels,
        skipped=dict(sorted(skipped.items())),
        notes=(
            *notes,
            *said,
            *_notes_on_folders(listing, below, root, {*classes.values(), *unused}, naming),
            *_notes_on_order(labels),
            *_notes_on_split(uri, split),
        ),
    )


def _of_split(
    folder_of: dict[str, Parts], depth: int, split: str, uri: str
) -> tuple[dict[str, Parts], list[str]]:
    """The files of a split where class folders hold folders of splits (CLASS/train), and a note."""
    names = {parts[depth] if len(parts) > depth else "" for parts in folder_of.values()}
    chosen = split_folder(names, split, f"{uri}: each class")
    if not chosen:
        return folder_of, []
    note = f"of the folders {shown(sorted(names))} in each class, {chosen} is taken"
    return {path: parts for path, parts in folder_of.items() if parts[depth] == chosen}, [note]


def parts_of(path: str) -> Parts:
    """The names that make up a path."""
    return tuple(path.split("/"))


def _class_of(folder: Parts, root: Parts) -> str:
    """The name below the root on the way to a folder, if it is below it."""
    below = len(folder) > len(root) and folder[: len(root)] == root
    return folder[len(root)] if below else ""


def _meet(one: Parts, other: Parts) -> bool:
    """True if two folders are one, or one lies in the other."""
    common = min(len(one), len(other))
    return one[:common] == other[:common]


def _no_classes(listing: Listing, uri: str) -> ShardError:
    """The error of a source whose files have no class, with the fix."""
    packed = next((p for p in sorted(listing.files) if p.endswith((".parquet", ".tar"))), None)
    hint = f"; it holds {packed}: name that, or its folder if it is parquet" if packed else ""
    return ShardError(
        f"{uri} holds no class folders with image files{hint}. Images that lie flat, as ImageNet's "
        "validation set is distributed, need --labels FILE with lines `image class` "
        "(LOC_val_solution.csv of ImageNet is one), or sort them into one folder per class"
    )


def _notes_on_folders(
    listing: Listing, below: Mapping[str, Parts], root: Parts, classes: set[str], naming: Naming
) -> list[str]:
    notes = []
    if foreign := [path for path, why in listing.left_out.items() if why == FOREIGN_NAME]:
        notes.append(f"not taken, {FOREIGN_NAME}: {shown(sorted(foreign))}")
    if naming.labels_file:
        return notes
    folders = {c for path in listing.folders if (c := _class_of(parts_of(path), root))}
    if without := sorted(folders - classes):
        notes.append(f"no classes, because no images lie in them: {shown(without)}")
    deeper = {parts[len(root) + 1 :] for parts in below.values()} - {()}
    if len(deeper) > 1:
        example = next(path for path, parts in below.items() if len(parts) > len(root) + 1)
        notes.append(f"images lie deeper than their class, such as {example}")
    if len(classes) == 1:
        notes.append(f"one class only, {next(iter(classes))}: is this the folder of the classes?")
    return notes


def _notes_on_order(labels: Mapping[str, int]) -> list[str]:
    """A note when classes are numbers, and text sorts them otherwise: 10 comes before 2."""
    if not all(name.isascii() and name.isdecimal() for name in labels):
        return []
    by_number = sorted(labels, key=int)
    if [*labels] == by_number:
        return []
    example = next(name for name in by_number if labels[name] != int(name))
    zeros = min(labels, key=len).zfill(max(map(len, labels)))
    return [
        f"labels follow the order of class names as text: class {example} has label "
        f"{labels[example]}; with leading zeros ({zeros}) text and numbers have one order"
    ]


def _notes_on_split(uri: str, split: str) -> list[str]:
    name = uri.rpartition("/")[2]
    said = splits_said(name)
    if not said or said & {*SPLITS[split]}:
        return []
    return [f"{name} is prepared as split '{split}', though its name says {' and '.join(said)}"]
