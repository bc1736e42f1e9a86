"""Splits that depend on no library: their digests are those that are published beside the data."""

import hashlib

from unite.data.ingest.atoms.splits import (
    EDM_SIZES,
    QM9_SIZES,
    edm_split,
    hash_order,
    hash_split,
    qm9_indices,
    qm9_split,
    uncharacterised,
)

DIGESTS = {
    "train": "16061dcd838fdf40",
    "validation": "687f1aef313a9875",
    "test": "26902758bf58dd26",
}
"""First digits of the SHA-256 of the sorted indices joined by commas (README of qm9_dft)."""


def members(split):
    found = {}
    for each, name in split.items():
        found.setdefault(name, []).append(int(each))
    return {name: sorted(indices) for name, indices in found.items()}


def test_the_molecules_that_qm9_leaves_out():
    assert len(uncharacterised()) == 3054 and len(qm9_indices()) == 130_831
    assert min(uncharacterised()) == 58 and max(uncharacterised()) == 133_866


def test_the_split_of_qm9_has_the_published_digests():
    found = members(qm9_split())
    assert tuple(map(len, found.values())) == QM9_SIZES
    for name, digest in DIGESTS.items():
        text = ",".join(map(str, found[name]))
        assert hashlib.sha256(text.encode()).hexdigest().startswith(digest), name


def test_edms_split_has_its_sizes_and_every_molecule_once():
    found = members(edm_split())
    assert tuple(len(found[name]) for name in DIGESTS) == EDM_SIZES
    assert sorted(sum(found.values(), [])) == qm9_indices()
    assert [edm_split()[each] for each in ("1", "3", "11")] == ["train", "validation", "test"]


def test_a_split_of_other_ids_has_its_shares_and_its_order_is_that_of_the_hash():
    ids = [f"mp-{number}" for number in range(1000)]
    split = hash_split("mp20", ids, (60, 20, 20))
    assert {name: len(each) for name, each in group(split).items()} == {
        "train": 600,
        "validation": 200,
        "test": 200,
    }
    assert list(split) == hash_order("mp20", reversed(ids)), "the order of the source means nothing"
    assert hash_order("mp20", ids) != hash_order("qm9", ids)


def group(split):
    found = {}
    for each, name in split.items():
        found.setdefault(name, []).append(each)
    return found
