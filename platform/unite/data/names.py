"""Names in a data set: the entries that belong to it, and their splits.

Two rules for trees, tars and folders of parquet alike, whatever a sample is:

- An entry is foreign when its name begins with a dot or is one that a system leaves behind
  (`FOREIGN`). It is counted, never read, and nor is what lies below it.
- A name is of a split when one of `SPLIT_WORDS` stands in it as a whole word, in any case. Words
  are runs of letters: `cifar10-train.parquet`, `Test_0.parquet`, `val2017/`, `split=dev/`. Of a
  path the last part that says something decides. Two splits in one part are an error.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePosixPath

from unite.data.manifest import ShardError

Parts = tuple[str, ...]
"""A folder below the root of a data set: the names on the way to it."""

FOREIGN = frozenset(
    (
        *("__macosx", "lost+found", "$recycle.bin", "system volume information", "__pycache__"),
        *("@eadir", "#recycle", "@recycle", "#snapshot"),
        *("thumbs.db", "ehthumbs.db", "desktop.ini"),
    )
)
"""Names, in lower case, that macOS, Windows, Linux, Python and network drives leave in folders."""
FOREIGN_NAME = "hidden or a system's own"
"""Reason for leaving out a foreign entry."""

SPLITS: Mapping[str, tuple[str, ...]] = {
    "train": ("train",),
    # In order of preference: ImageNet's test split, for one, has no labels.
    "eval": ("validation", "eval", "test"),
    # Of prepared folders alone, where it is measured on and `eval` watches the training.
    "test": ("test",),
}
"""The names that files of each split may have; prepared shards take the first."""
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trainset", "trainval"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "validset", "valset"), "validation"),
    **dict.fromkeys(("eval", "evaluation"), "eval"),
    **dict.fromkeys(("test", "testing", "testset"), "test"),
}
"""Word -> its split; files of one split use one of the words with the same meaning."""
_WORDS = re.compile(r"[^\W\d_]+")


def is_foreign(name: str) -> bool:
    """True if one name (no path) is hidden or a system's own."""
    return name.startswith(".") or name.lower() in FOREIGN


def foreign_part(path: str) -> str:
    """The path as far as its first foreign name; empty when it has none."""
    parts = path.split("/")
    for depth, name in enumerate(parts, start=1):
        if is_foreign(name):
            return "/".join(parts[:depth])
    return ""


def split_words(name: str) -> list[str]:
    """The words of a name that say a split, in lower case."""
    return [word for word in _WORDS.findall(name.lower()) if word in SPLIT_WORDS]


def splits_said(name: str) -> set[str]:
    """Splits that the words of a name say: some of train, validation, eval, test."""
    return {SPLIT_WORDS[word] for word in split_words(name)}


def split_of(path: str) -> str:
    """Split of a path: train, validation, eval, test or empty; ShardError when it says two."""
    for name in reversed(path.split("/")):
        said = splits_said(name)
        if len(said) > 1:
            raise ShardError(
                f"the name {path} says {' and '.join(sorted(said))}; rename it, so that it says "
                "one split"
            )
        if said:
            return said.pop()
    return ""


def shard_name(split: str, index: int, count: int) -> str:
    """File name of a prepared shard, as Hugging Face names them."""
    return f"{SPLITS[split][0]}-{index:05d}-of-{count:05d}.parquet"


def select_files(names: Iterable[str], split: str, where: str) -> tuple[list[str], tuple[str, ...]]:
    """The files of a split by their names, and notes on those that are not taken.

    When no name says a split, all files are of any split. ShardError when no file is of this one,
    or when two words that say the same could be two sets (train-0 and training-0).
    """
    by_split: dict[str, list[str]] = {}
    for name in sorted(names):
        by_split.setdefault(split_of(name), []).append(name)
    if set(by_split) == {""}:
        return by_split[""], ()
    wanted = _wanted(by_split, split)
    if wanted is None:
        raise ShardError(
            f"{where} holds no shards of split '{split}': {_listed(by_split)}. Name files "
            f"{SPLITS[split][0]}-*.parquet, or name another folder"
        )
    chosen = by_split.pop(wanted)
    _require_one_word(chosen, where)
    left = [name for said in ("", *SPLITS[split]) for name in by_split.get(said, ())]
    note = f"split {split} is what is named {wanted}; not taken: {shown(left)}"
    return chosen, (note,) if left else ()


def class_root(folders: Collection[Parts], split: str, where: str) -> tuple[Parts, tuple[str, ...]]:
    """The folder whose folders are the classes, and notes on folders that were passed over.

    `folders` are those that hold samples, and empty ones. Folders that hold one folder and nothing
    else are passed over, and of folders named train and val (or the like) that of the split is
    taken. ShardError when there is none, or when it is not clear which.
    """
    base = _below_wrappers(folders, ())
    below = _children(folders, base)
    chosen = split_folder(below, split, "/".join((where, *base)))
    if not chosen:
        return base, _said_of(base)
    root = _below_wrappers(folders, (*base, chosen))
    return root, _said_of(root, chosen, below - {chosen})


def split_folder(names: Collection[str], split: str, where: str) -> str:
    """Name of the split's folder in `where`; empty when none is named for a split.

    ShardError when there is none of this one, when there are two, or when some are of no split.
    """
    if not _are_splits(set(names)):
        return ""
    by_split: dict[str, list[str]] = {}
    for name in sorted(names):
        by_split.setdefault(split_of(name), []).append(name)
    if strangers := by_split.get(""):
        raise ShardError(
            f"{where} holds the splits {shown(sorted({*names} - {*strangers}))} and beside them "
            f"{shown(strangers)}, which is neither a split nor a class; name a split's own folder"
        )
    wanted = _wanted(by_split, split)
    if wanted is None:
        raise ShardError(
            f"{where} holds no folder of split '{split}', only {shown(sorted(names))}; name the "
            "folder itself, or choose another --split"
        )
    if len(chosen := by_split[wanted]) > 1:
        raise ShardError(
            f"{where}/{chosen[0]} and {where}/{chosen[1]} are both of split '{split}'; name one "
            "of them"
        )
    return chosen[0]


def shown(names: Collection[str], most: int = 4) -> str:
    """A few names and the number of the others."""
    few = ", ".join(list(names)[:most])
    return few if len(names) <= most else f"{few} and {len(names) - most:,} more"


def _wanted(found: Collection[str], split: str) -> str | None:
    return next((said for said in SPLITS[split] if said in found), None)


def _listed(by_split: Mapping[str, list[str]]) -> str:
    return "; ".join(f"{said or 'no split'}: {shown(by_split[said])}" for said in sorted(by_split))


def _require_one_word(files: list[str], where: str) -> None:
    first: dict[str, str] = {}
    for file in files:
        words = next(words for name in reversed(file.split("/")) if (words := split_words(name)))
        first.setdefault(words[0], file)
    if len(first) > 1:
        one, other = list(first.values())[:2]
        raise ShardError(
            f"{where}: {one} and {other} both say '{split_of(one)}' in different words. If they "
            "are one split, name them alike; else move one set to a folder of its own"
        )


def _children(folders: Collection[Parts], base: Parts) -> set[str]:
    depth = len(base)
    return {folder[depth] for folder in folders if len(folder) > depth and folder[:depth] == base}


def _below_wrappers(folders: Collection[Parts], base: Parts) -> Parts:
    """Down to where folders part, or to a split's; `base` itself when they never do."""
    inner = base
    while inner not in folders:
        below = _children(folders, inner)
        if len(below) != 1 or _are_splits(below):
            return inner
        inner = (*inner, *below)
    return base


def _are_splits(names: set[str]) -> bool:
    """True if folders side by side are splits, not classes with such names.

    A lone folder, all of them, or two different ones that say nothing else (train beside val) must
    say a split: `train` among planes and ships is a class, as are electric_train and steam_train.
    """
    said = {name: splits_said(name) for name in names}
    saying = {name for name in names if len(said[name]) == 1}
    plain = {name for name in saying if len(_WORDS.findall(name)) == len(split_words(name))}
    if len(set().union(*(said[name] for name in plain))) > 1:
        return True
    different = len(set().union(*said.values())) > 1
    return bool(names) and saying == names and (len(names) == 1 or different or plain == names)


def _said_of(root: Parts, chosen: str = "", others: Collection[str] = ()) -> tuple[str, ...]:
    if not root:
        return ()
    beside = f"; {shown(sorted(others))} beside {chosen} not taken" if others else ""
    return (f"classes are the folders of {PurePosixPath(*root)}{beside}",)
