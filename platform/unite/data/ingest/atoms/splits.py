"""Splits of sources that name none, from a hash of each id: they depend on no library's generator.

Ids are sorted by the hexadecimal SHA-256 of "unite-NAME-1:ID"; the first are train, the next
validation, the last test. QM9's splits are those of its 130,831 molecules, also where a source
holds a part of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

QM9_MOLECULES = 133_885
"""Molecules of QM9 as distributed; their indices count from 1."""
QM9_SIZES = (100_000, 18_000, 12_831)
"""Train, validation, test: the sizes of ADiT's split."""
EDM_SIZES = (100_000, 17_748, 13_083)
"""Those of EDM, whose test split is a tenth."""
SPLITS = ("train", "validation", "test")


def hash_order(name: str, ids: Iterable[str]) -> list[str]:
    """Ids in the order of their hash: a fixed random order of any set of them."""
    return sorted(ids, key=lambda each: hashlib.sha256(f"unite-{name}-1:{each}".encode()).digest())


def hash_split(name: str, ids: Iterable[str], sizes: Sequence[int]) -> dict[str, str]:
    """Split of each id, `sizes` being those of SPLITS up to a common factor."""
    order = hash_order(name, ids)
    bounds = np.round(np.cumsum(sizes) / sum(sizes) * len(order)).astype(int)
    numbers = np.searchsorted(bounds, np.arange(len(order)), side="right")
    return {each: SPLITS[number] for each, number in zip(order, numbers, strict=True)}


@lru_cache(maxsize=1)
def uncharacterised() -> frozenset[int]:
    """The 3,054 indices of QM9 whose molecules its authors list as uncharacterised."""
    value = json.loads((Path(__file__).parent / "uncharacterised.json").read_text())
    return frozenset(value["indices"])


def qm9_index(text: str) -> int:
    """QM9's index of an id; 0 for an id that is none."""
    return int(text) if text.isdecimal() and 0 < int(text) <= QM9_MOLECULES else 0


def qm9_indices() -> list[int]:
    """The 130,831 indices of QM9 that are used, ascending."""
    return [each for each in range(1, QM9_MOLECULES + 1) if each not in uncharacterised()]


@lru_cache(maxsize=1)
def qm9_split() -> Mapping[str, str]:
    """Split of each index of QM9, written as text."""
    return hash_split("qm9", map(str, qm9_indices()), QM9_SIZES)


@lru_cache(maxsize=1)
def edm_split() -> Mapping[str, str]:
    """EDM's split of QM9: numpy's permutation of the used indices under seed 0."""
    indices = np.array(qm9_indices())
    order = np.random.RandomState(0).permutation(len(indices))
    parts = np.split(order, np.cumsum(EDM_SIZES)[:2])
    return {
        str(index): name
        for name, part in zip(SPLITS, parts, strict=True)
        for index in indices[part].tolist()
    }
