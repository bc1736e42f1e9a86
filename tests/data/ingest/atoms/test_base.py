"""Splits and identities that tables of atoms say, and what lies beside them."""

import io
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unite.data.ingest.atoms.base import split_word
from unite.data.ingest.atoms.crystals import BESIDE_TABLES, MP20Ingest
from unite.data.ingest.atoms.molecules import QM9Ingest
from unite.data.ingest.atoms.rows import Faults
from unite.data.ingest.prepare import plan
from unite.data.manifest import ShardError

WATER = [0, 0, 0, 0.96, 0, 0, -0.24, 0.93, 0]


def molecules(tmp_path, ids, **columns):
    size = len(ids)
    table = {"id": ids, "numbers": [[8, 1, 1]] * size, "positions": [WATER] * size} | columns
    file = tmp_path / f"{ids[0]}.parquet"
    pq.write_table(pa.table(table), file)
    return plan(QM9Ingest(source=str(file), out=str(tmp_path / "out")))


@pytest.mark.parametrize("split", [0, 1, False, True, 2.0])
def test_a_split_by_numbers_is_refused_and_not_passed_over(tmp_path, split):
    with pytest.raises(ShardError, match=rf"#1: the split {split} is none of train, val and test"):
        molecules(tmp_path, [200_001, 200_002], split=[split, split])


@pytest.mark.parametrize(
    ("cell", "said", "split"),
    [
        (" Test ", "train", "test"),
        ("VAL", "", "validation"),
        ("", "train", "train"),
        (None, "test", "test"),
        (None, "", ""),
    ],
)
def test_a_cell_says_the_split_before_the_files_name(cell, said, split):
    assert split_word(cell, "x#1", said) == split


def test_numbers_from_0_are_no_indices_of_qm9(tmp_path):
    """QM9's 58th molecule is uncharacterised, and its own number there is 57 then."""
    from_one, from_zero = (molecules(tmp_path, list(range(at, 101))) for at in (1, 0))
    assert from_one.num_rows == 97 and from_zero.num_rows == 101
    skipped = [planned.splits[0].source.skipped for planned in (from_one, from_zero)]
    assert skipped == [{"uncharacterised": 3}, {}]
    assert "ids count from 0, those of QM9 from 1 to 133,885" in from_zero.splits[0].source.notes[0]
    assert not from_one.splits[0].source.notes


def test_zeros_before_an_index_of_qm9_change_no_split(tmp_path):
    plain, padded = (
        molecules(tmp_path, [form.format(number) for number in range(1, 51)])
        for form in ("{}", "{:06}")
    )
    splits = [
        {int(row.id): part.split for part in each.splits for row in part.source.parts[0].rows}
        for each in (plain, padded)
    ]
    assert splits[0] == splits[1]


def test_cifs_beside_tables_are_counted(tmp_path):
    (tmp_path / "train.csv").write_text("material_id,cif\nmp-1,data_x\n")
    (tmp_path / "x.cif").write_text("data_x")
    (tmp_path / "y.cif.gz").write_text("data_x")
    faults = Faults()
    rows = list(MP20Ingest(source=str(tmp_path), out=str(tmp_path / "out")).rows(faults))
    assert [row.id for row in rows] == ["mp-1"] and faults.counts == {BESIDE_TABLES: 2}


@pytest.mark.parametrize(("bare", "told"), [(1, False), (2, True), (3, True)])
def test_molecules_whose_hydrogens_are_left_out_are_told(tmp_path, bare, told):
    numbers = [[8, 7, 6]] * bare + [[8, 1, 1]] * (3 - bare)
    notes = molecules(tmp_path, ["a", "b", "c"], numbers=numbers).splits[0].source.notes
    assert any("without hydrogen" in note for note in notes) == told


def test_texts_without_hydrogens_are_told_too(tmp_path):
    (tmp_path / "x.xyz").write_text("2\na\nC 0 0 0\nN 0 0 1.1\n")
    (note,) = (
        plan(QM9Ingest(source=str(tmp_path / "x.xyz"), out=str(tmp_path / "out")))
        .splits[0]
        .source.notes
    )
    assert note.startswith("1 molecule of 1 without hydrogen: kept")


@pytest.mark.parametrize("kind", [QM9Ingest, MP20Ingest])
def test_what_is_packed_and_no_csv_is_named(tmp_path, kind):
    """Its first line would be a name of a thousand zeros."""
    with tarfile.open(tmp_path / "x.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("x.cif"), io.BytesIO())
    source = kind(source=str(tmp_path / "x.gz"), out=str(tmp_path / "out"))
    with pytest.raises(ShardError, match=r"x\.gz is a tar file and no CSV$"):
        list(source.rows(Faults()))


@pytest.mark.parametrize(
    ("column", "cells"),
    [("numbers", [b"\x08\x01\x01"] * 2), ("id", [b"a", b"b"]), ("split", [b"train"] * 2)],
)
def test_a_column_of_bytes_is_named(tmp_path, column, cells):
    """As those of prepared shards, and of texts that were written without their type."""
    with pytest.raises(ShardError, match=f"parquet: the column '{column}' holds bytes; .*train"):
        molecules(tmp_path, ["a", "b"], **{column: pa.array(cells, pa.binary())})


def test_a_cif_stored_as_bytes_is_named(tmp_path):
    cells = pa.array([b"data_x"] * 2, pa.binary())
    pq.write_table(pa.table({"material_id": ["a", "b"], "cif": cells}), tmp_path / "x.parquet")
    source = MP20Ingest(source=str(tmp_path / "x.parquet"), out=str(tmp_path / "out"))
    with pytest.raises(ShardError, match="the column 'cif' holds bytes"):
        list(source.rows(Faults()))
