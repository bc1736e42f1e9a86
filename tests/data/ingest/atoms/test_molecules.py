"""QM9 in all its forms becomes the same rows; what is broken is refused by its reason."""

import bz2
import io
import os
import re
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from typed import HEAVY, typed
from unite.config.domains import MoleculesConfig
from unite.data.ingest.atoms.installed import folder_of, require
from unite.data.ingest.atoms.molecules import QM9Ingest, net_charge
from unite.data.ingest.atoms.rows import Faults
from unite.data.ingest.atoms.splits import edm_split, qm9_split
from unite.data.ingest.atoms.text import MOST_ATOMS
from unite.data.ingest.builtin import prepare_builtin
from unite.data.ingest.finished import record_of
from unite.data.ingest.images import ImagesIngest
from unite.data.ingest.prepare import describe_plan, plan
from unite.data.ingest.source import Record
from unite.data.manifest import ShardError
from unite.data.parts import measured_split, require_domain
from unite.data.shards import ShardSet
from unite.domains import build_domain
from unite.storage import Store

# Index, SMILES, elements and positions in A of small molecules of QM9 (geometries rounded).
METHANE = (
    *(1, "C", "CHHHH"),
    [[-0.0127, 1.0858, 0.008], [0.0022, -0.006, 0.002], [1.0117, 1.4638, 0.0003]]
    + [[-0.5408, 1.4475, -0.8766], [-0.5238, 1.4379, 0.9064]],
)
AMMONIA = (
    *(2, "N", "NHHH"),
    [[-0.0404, 1.0241, 0.0626], [0.0173, 0.0125, -0.0274], [0.9158, 1.3587, -0.0288]]
    + [[-0.5203, 1.3435, -0.7755]],
)
WATER = (
    3,
    "O",
    "OHH",
    [[-0.0344, 0.9775, 0.0076], [0.0648, 0.0206, 0.0015], [0.8718, 1.3008, 0.0]],
)
ACETYLENE = (
    *(28, "C#C", "CCHH"),
    [[0.5995, 0.0, 1.0], [-0.5995, 0.0, 1.0], [-1.6616, 0.0, 1.0], [1.6616, 0.0, 1.0]],
)
CYANIDE = (
    30,
    "C#N",
    "CNH",
    [[-0.0133, 1.1325, 0.0083], [0.0023, -0.0192, 0.0019], [-0.03, 2.2, 0.01]],
)
MOLECULES = (METHANE, AMMONIA, WATER, ACETYLENE, CYANIDE)
EXCLUDED = (58, "CN=C=O", "OHH", WATER[3])
"""An index of the uncharacterised ones."""
NUMBERS = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
SMALL_SPLIT = {1: "train", 2: "train", 3: "train", 28: "val", 30: "test"}


def csv_text(molecules=MOLECULES, **other: str) -> str:
    """QM9 as the package's CSV has it: ends of numbers may be bare points."""
    lines = ["XYZ_file,Index,SMILES,Elements,XYZ_Ang" + "".join(f",{name}" for name in other)]
    for index, smiles, elements, positions in molecules:
        listed = "[" + ",".join(f"'{symbol}'" for symbol in elements) + "]"
        places = "[" + ",".join("[" + ",".join(map(bare, p)) + "]" for p in positions) + "]"
        more = "".join(f",{value}" for value in other.values())
        lines.append(f'"dsgdb9nsd_{index:06d}.xyz",{index},"{smiles}","{listed}","{places}"{more}')
    return "\n".join(lines) + "\n"


def bare(value: float) -> str:
    return f"{value:g}." if value == int(value) else f"{value:.10f}"


def xyz_text(molecule) -> str:
    index, smiles, elements, positions = molecule
    rows = [
        f"{symbol}\t{x:.10f}\t{y:.10f}\t{power(z)}\t-0.1"
        for symbol, (x, y, z) in zip(elements, positions, strict=True)
    ]
    properties = f"gdb {index}\t157.7118\t157.70997"
    return "\n".join(
        [str(len(elements)), properties, *rows, "1.0\t2.0", f"{smiles}\t{smiles}", "I"]
    )


def power(value: float) -> str:
    """QM9 writes exponents as Mathematica does."""
    return f"{value * 1e6:.6f}*^-6"


def sdf_text(molecules=MOLECULES) -> str:
    parts = []
    for index, _, elements, positions in molecules:
        atoms = [
            f"{x:10.4f}{y:10.4f}{z:10.4f} {symbol:<3} 0  0  0  0  0  0"
            for symbol, (x, y, z) in zip(elements, positions, strict=True)
        ]
        counts = f"{len(elements):3d}  0  0  0  0  0  0  0  0  0999 V2000"
        parts.append("\n".join([f"gdb_{index}", "  program", "", counts, *atoms, "M  END", "$$$$"]))
    return "\n".join(parts) + "\n"


def parquet(path: Path, molecules=MOLECULES, split: list | None | bool = True) -> Path:
    table = {
        "index": [m[0] for m in molecules],
        "smiles": [m[1] for m in molecules],
        "numbers": [[NUMBERS[s] for s in m[2]] for m in molecules],
        "positions": [np.ravel(m[3]).tolist() for m in molecules],
    }
    if split is True:
        split = [SMALL_SPLIT.get(m[0], "train") for m in molecules]
    if split:
        table["split"] = split
    pq.write_table(pa.table(table), path)
    return path


def wheel(path: Path, *texts: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("qm9pack/data/a_other.csv", "XYZ_file,A_xx\nx,1\n")
        for number, text in enumerate(texts):
            archive.writestr(f"qm9pack/data/qm9_part{number}.csv", text)
    return path


def tar(path: Path, molecules=MOLECULES) -> Path:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for molecule in molecules:
            data = xyz_text(molecule).encode()
            info = tarfile.TarInfo(f"dsgdb9nsd_{molecule[0]:06d}.xyz")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    path.write_bytes(bz2.compress(stream.getvalue()))
    return path


def ingest(source: Path | str, tmp_path: Path, **changes) -> QM9Ingest:
    return QM9Ingest(source=str(source), out=str(tmp_path / "out"), **changes)


def sources(tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "csvs"
    folder.mkdir()
    (folder / "qm9_part1.csv").write_text(csv_text(MOLECULES[:2]))
    (folder / "qm9_part2.csv").write_text(csv_text(MOLECULES[2:]))
    (tmp_path / "gdb9.sdf").write_text(sdf_text())
    return {
        "wheel": wheel(tmp_path / "qm9pack.whl", csv_text(MOLECULES[:2]), csv_text(MOLECULES[2:])),
        "folder": folder,
        "tar": tar(tmp_path / "dsgdb9nsd.xyz.tar.bz2"),
        "sdf": tmp_path / "gdb9.sdf",
        "parquet": parquet(tmp_path / "qm9.parquet", split=False),
    }


@pytest.mark.parametrize("form", ["wheel", "folder", "tar", "sdf", "parquet"])
def test_every_form_gives_the_same_rows_and_the_same_splits(tmp_path, prepare, rows_of, form):
    source = sources(tmp_path)[form]
    wanted = {str(m[0]): qm9_split()[str(m[0])] for m in MOLECULES}
    assert set(wanted.values()) == {"train", "validation", "test"}
    manifests = prepare(ingest(source, tmp_path))
    found = rows_of(tmp_path / "out", manifests)
    names = {"train": "train", "validation": "eval", "test": "test"}
    assert {each: row["split"] for each, row in found.items()} == {
        each: names[split] for each, split in wanted.items()
    }
    for index, _, elements, positions in MOLECULES:
        row = found[str(index)]
        assert row["numbers"].tolist() == [NUMBERS[symbol] for symbol in elements]
        assert row["num_atoms"] == len(elements)
        centred = np.array(positions) - np.mean(positions, 0)
        np.testing.assert_allclose(row["positions"].reshape(-1, 3), centred, atol=1e-6)


def test_prepared_molecules_are_read_by_their_domain(tmp_path, prepare):
    prepare(ingest(parquet(tmp_path / "qm9.parquet"), tmp_path))
    domain = build_domain(MoleculesConfig())
    shards = ShardSet.open(tmp_path / "out", "train", domain.columns)
    fields, bad = domain.decode_rows(shards.read(0).to_pydict())
    assert not bad and sorted(fields["num_atoms"]) == [3, 4, 5]
    assert measured_split(shards.uri) == "test"
    assert ShardSet.open(shards.uri, "test", domain.columns).num_rows == 1
    with pytest.raises(ShardError, match="out holds molecules; recipe mp20 reads crystals"):
        require_domain(Store.open(shards.uri), "crystals", "recipe mp20")
    with pytest.raises(ShardError, match="out holds molecules; the source reads images"):
        plan(ImagesIngest(source=str(tmp_path), out=shards.uri))


def test_a_sources_own_split_is_kept_and_validation_may_be_trained_on(tmp_path, prepare, rows_of):
    source = parquet(tmp_path / "qm9.parquet")
    manifests = prepare(ingest(source, tmp_path))
    assert {name: m.shards[0].num_rows for name, m in manifests.items()} == {
        "train": 3,
        "eval": 1,
        "test": 1,
    }
    assert manifests["train"].domain == "molecules" and manifests["train"].class_names is None
    both = QM9Ingest(source=str(source), out=str(tmp_path / "both"), train_on_validation=True)
    found = rows_of(tmp_path / "both", prepare(both))
    assert {each for each, row in found.items() if row["split"] == "train"} == {"1", "2", "3", "28"}
    assert found["30"]["split"] == "eval"


def test_training_on_a_validation_split_that_is_not_there_is_refused(tmp_path):
    source = parquet(tmp_path / "qm9.parquet", split=["train"] * 5)
    chosen = QM9Ingest(source=str(source), out=str(tmp_path / "out"), train_on_validation=True)
    with pytest.raises(ValueError, match="--train-on-validation has no effect: .*qm9.parquet has"):
        plan(chosen)


def test_a_finished_preparation_is_told_without_ray_or_its_source(tmp_path, prepare):
    source, out = parquet(tmp_path / "qm9.parquet"), tmp_path / "out"
    prepare(QM9Ingest(source=str(source), out=str(out)))
    words = ["jobs/prepare_data.py", "qm9", str(source), "--out", str(out)]
    light = HEAVY - {"torch"}
    first = typed(*words, heavy=light).stdout
    assert "finished; nothing to do" in first and "train: 3 molecules" in first
    record = record_of(QM9Ingest(source=str(source), out=str(out)))
    assert record.lines()[-1].endswith(f"nothing to do. To do it again, delete {out}")
    assert typed(*words, heavy=light).stdout.splitlines()[:-2] == record.lines()
    assert record_of(QM9Ingest(source=str(source), out=str(out), max_atoms=9)).lines() is None
    os.utime(source, ns=(1, 1))
    assert record_of(QM9Ingest(source=str(source), out=str(out))).lines() is None
    next(out.glob("train*.parquet")).unlink()
    assert record.lines() is None


def test_uncharacterised_molecules_are_left_out_and_counted(tmp_path, prepare):
    source = tar(tmp_path / "dsgdb9nsd.xyz.tar.bz2", (*MOLECULES, EXCLUDED))
    manifests = prepare(ingest(source, tmp_path))
    assert manifests["train"].skipped == {"uncharacterised": 1}


def test_edms_split_is_on_offer(tmp_path, prepare, rows_of):
    source = wheel(tmp_path / "qm9pack.whl", csv_text())
    names = {"train": "train", "validation": "eval"}
    wanted = {str(m[0]): edm_split()[str(m[0])] for m in MOLECULES}
    assert wanted != {str(m[0]): qm9_split()[str(m[0])] for m in MOLECULES}
    found = rows_of(tmp_path / "out", prepare(ingest(source, tmp_path, split="edm")))
    assert {each: row["split"] for each, row in found.items()} == {
        each: names[split] for each, split in wanted.items()
    }
    strange = (200_000, *WATER[1:])
    other = wheel(tmp_path / "other.whl", csv_text((*MOLECULES, strange)))
    with pytest.raises(ShardError, match="--split edm: .* is no molecule of QM9 by its index"):
        plan(ingest(other, tmp_path, split="edm"))


def test_a_table_without_coordinates_is_refused_by_its_missing_column(tmp_path):
    (tmp_path / "smiles.csv").write_text("Index,smiles\n1,C\n")
    with pytest.raises(ShardError, match="smiles.csv has no column Elements, XYZ_Ang"):
        plan(ingest(tmp_path / "smiles.csv", tmp_path))
    (tmp_path / "other.json").write_text("[" + ",".join(map(str, range(100_000))) + "]")
    with pytest.raises(ShardError, match="it has .0, 1, 2, .* 19 and 99,980 more$"):
        plan(ingest(tmp_path / "other.json", tmp_path))
    with pytest.raises(ShardError, match="a_other.csv has no column Index, Elements, XYZ_Ang"):
        plan(ingest(wheel(tmp_path / "empty.whl"), tmp_path))
    pq.write_table(pa.table({"numbers": [[1]], "smiles": ["C"]}), tmp_path / "x.parquet")
    with pytest.raises(ShardError, match="x.parquet/? has no column positions"):
        plan(ingest(tmp_path / "x.parquet", tmp_path))


def many(bad, number=200):
    """Good molecules of distinct indices, and one bad row at the end."""
    good = [(f"water-{i}", *WATER[1:]) for i in range(number)]
    return [*good, bad]


TOO_MANY = (9, "C", "C" * 30, [[1.5 * i, 0.0, 0.0] for i in range(30)])
ATOP = (9, "O", "OHH", [[0.0, 0.0, 0.0], [0.3, 0.0, 0.0], [0.0, 1.0, 0.0]])


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ((9, "O", "OHH", [[np.nan, 0, 0], [1, 0, 0], [0, 1, 0]]), "nonfinite"),
        ((9, "O", "OHH", [[np.inf, 0, 0], [1, 0, 0], [0, 1, 0]]), "nonfinite"),
        ((9, "O", "OHH", [[0, 0, 0], [1, 0, 0]]), "shape"),
        ((9, "", "", []), "empty"),
        (TOO_MANY, "too_many_atoms"),
        (ATOP, "overlap"),
    ],
)
def test_a_bad_molecule_is_counted_by_its_reason_and_its_place_kept(tmp_path, prepare, bad, reason):
    numbers = [[NUMBERS[symbol] for symbol in m[2]] for m in many(bad)]
    positions = [np.ravel(m[3]).astype(float).tolist() for m in many(bad)]
    ids = [str(m[0]) for m in many(bad)]
    table = pa.table({"id": ids, "numbers": numbers, "positions": positions})
    pq.write_table(table, tmp_path / "rows.parquet")
    manifests = prepare(ingest(tmp_path / "rows.parquet", tmp_path, max_bad_fraction=0.5))
    skipped = {name: each for m in manifests.values() for name, each in m.skipped.items()}
    assert skipped == {reason: 1}
    places = [p for m in manifests.values() for s in m.shards for p in s.examples.get(reason, ())]
    assert places == [f"{tmp_path}/rows.parquet#201"]


@pytest.mark.parametrize("number", [0, -1, 100, 119, 300, 14])
def test_elements_outside_the_table_and_outside_the_models_are_refused(tmp_path, number):
    row = {"numbers": np.array([8, 1, number]), "positions": np.ravel(WATER[3]), "id": "1"}
    chosen = ingest("x", tmp_path)
    try:
        encoded = chosen.encode(Record(cells=row, path="x"))
    except ValueError as error:
        assert str(error).startswith("unknown_element: atomic number")
        return
    assert chosen.refused([encoded])[0].startswith("unknown_element")


@pytest.mark.parametrize("symbol", ["X", "D", "T", "Uue", "1"])
def test_symbols_of_no_element_are_refused(tmp_path, symbol):
    cells = {"elements": f"['O','H','{symbol}']", "coordinates": "[0,0,0,1,0,0,0,1,0]"}
    with pytest.raises(ValueError, match=f"unknown_element: '{symbol}'"):
        ingest("x", tmp_path).parse(cells)


def test_texts_that_are_no_numbers_and_texts_that_are_too_large_are_refused(tmp_path):
    chosen = ingest("x", tmp_path)
    with pytest.raises(ValueError, match="parse: could not convert"):
        chosen.parse({"elements": "['O']", "coordinates": "[[0,zero,0]]"})
    with pytest.raises(ValueError, match="too_large: 1,048,58. characters"):
        chosen.parse({"elements": "['O']", "coordinates": "0" * 2**20})
    with pytest.raises(ValueError, match="too_large: 10,001 atoms"):
        chosen.parse({"numbers": np.ones(MOST_ATOMS + 1), "positions": np.zeros(3)})


@pytest.mark.parametrize(("unit", "length"), [("nm", 0.1), ("bohr", 1 / 0.529177210903)])
def test_another_unit_is_noticed_and_can_be_given(tmp_path, prepare, rows_of, unit, length):
    scaled = [(i, s, e, (np.array(p) * length).tolist()) for i, s, e, p in MOLECULES]
    source = parquet(tmp_path / "scaled.parquet", scaled)
    with pytest.raises(ValueError, match=f"0.8 to 1.5 A are usual: give --unit {unit}"):
        plan(ingest(source, tmp_path))
    found = rows_of(tmp_path / "out", prepare(ingest(source, tmp_path, unit=unit)))
    expected = np.array(WATER[3]) - np.mean(WATER[3], 0)
    np.testing.assert_allclose(found["3"]["positions"].reshape(-1, 3), expected, atol=1e-6)


def test_more_than_a_hundredth_of_bad_rows_end_it(tmp_path, prepare):
    rows = [(1000 + i, *WATER[1:]) for i in range(100)] + [(i, *ATOP[1:]) for i in range(1, 4)]
    source = parquet(tmp_path / "rows.parquet", rows, split=False)
    with pytest.raises(
        ShardError, match=r"split train, cannot be used, more than 1.0%: .* overlap"
    ):
        prepare(ingest(source, tmp_path))
    assert not (tmp_path / "out" / "manifest.json").exists()
    with pytest.raises(ValueError, match="max_bad_fraction = 2 must lie in 0..1"):
        plan(ingest(source, tmp_path, max_bad_fraction=2))


def test_an_id_in_two_splits_is_a_leak_and_an_id_twice_in_one_is_counted(tmp_path, prepare):
    source = parquet(tmp_path / "leak.parquet", [*MOLECULES, METHANE], split=[*"abcde", "f"])
    with pytest.raises(ShardError, match="the split 'a' is none of train, val and test"):
        plan(ingest(source, tmp_path))
    said = ["train", "train", "train", "val", "test"]
    source = parquet(tmp_path / "b.parquet", [*MOLECULES, METHANE], split=[*said, "test"])
    with pytest.raises(
        ShardError, match=r"1 id in two splits, such as 1 \(.*#1 is train, .*#6 is te"
    ):
        plan(ingest(source, tmp_path))
    source = parquet(tmp_path / "c.parquet", [*MOLECULES, METHANE], split=[*said, "train"])
    assert prepare(ingest(source, tmp_path))["train"].skipped == {"id that an earlier row has": 1}
    source = parquet(tmp_path / "holes.parquet", MOLECULES, split=[*said[:4], None])
    with pytest.raises(ShardError, match="1 row without a split beside others with one"):
        plan(ingest(source, tmp_path / "other"))


def test_charged_and_divided_molecules_are_kept_and_counted_or_refused(tmp_path, prepare):
    odd = [(6, "[NH4+]", *AMMONIA[2:]), (7, "O.[OH-]", *WATER[2:]), (8, "C[N+]#[C-]", *WATER[2:])]
    source = parquet(tmp_path / "odd.parquet", [*MOLECULES, *odd])
    text = describe_plan(plan(ingest(source, tmp_path)))
    assert "note     2 molecules with a net charge by SMILES: kept" in text
    assert "note     1 molecule with several fragments by SMILES: kept" in text
    strict = ingest(source, tmp_path, require_neutral=True, max_bad_fraction=0.9)
    assert prepare(strict)["train"].skipped == {"charged": 2}
    (tmp_path / "gdb9.sdf").write_text(sdf_text())
    with pytest.raises(ValueError, match="--require-neutral has no effect: the source has no SMIL"):
        plan(ingest(tmp_path / "gdb9.sdf", tmp_path, require_neutral=True))


@pytest.mark.parametrize(
    ("smiles", "charge"),
    [
        ("CCO", 0),
        ("[NH4+]", 1),
        ("C[N+]#[C-]", 0),
        ("[O-2]", -2),
        ("[Ca++]", 2),
        ("[13CH3-:1]", -1),
    ],
)
def test_charges_of_smiles(smiles, charge):
    assert net_charge(smiles) == charge


def test_damaged_files_are_errors_that_name_them(tmp_path):
    whole = parquet(tmp_path / "whole.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ShardError, match="cut.parquet/? is not a readable parquet file"):
        plan(ingest(tmp_path / "cut.parquet", tmp_path))
    packed = tar(tmp_path / "whole.xyz.tar.bz2").read_bytes()
    (tmp_path / "cut.xyz.tar.bz2").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ShardError, match="cut.xyz.tar.bz2 cannot be read, it may be damaged"):
        plan(ingest(tmp_path / "cut.xyz.tar.bz2", tmp_path))
    (tmp_path / "latin.csv").write_bytes(
        (csv_text() + csv_text().replace("C#C", "\xe9")).encode("latin-1")
    )
    with pytest.raises(
        ShardError, match="latin.csv cannot be read, .* another encoding than UTF-8"
    ):
        plan(ingest(tmp_path / "latin.csv", tmp_path))
    with zipfile.ZipFile(tmp_path / "bad.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("qm9.csv", csv_text())
    data = bytearray((tmp_path / "bad.zip").read_bytes())
    data[30 + len("qm9.csv")] = 0xFF  # the first byte behind the member's head: no kind of block
    (tmp_path / "bad.zip").write_bytes(data)
    with pytest.raises(ShardError, match="bad.zip/qm9.csv cannot be read, it may be damaged"):
        plan(ingest(tmp_path / "bad.zip", tmp_path))
    data[6] |= 1  # the flag of encryption, in the member's head and in the directory
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "bad.zip").write_bytes(data)
    with pytest.raises(ShardError, match="bad.zip: qm9.csv in it is encrypted: unpack it first"):
        plan(ingest(tmp_path / "bad.zip", tmp_path))
    (tmp_path / "data.bin").write_bytes(b"\0\1\2" * 100)
    with pytest.raises(ShardError, match="data.bin is of an unknown kind; molecules come as"):
        plan(ingest(tmp_path / "data.bin", tmp_path))
    with pytest.raises(ShardError, match="absent does not exist"):
        plan(ingest(tmp_path / "absent", tmp_path))


def test_lines_of_another_width_are_counted(tmp_path, prepare):
    (tmp_path / "rows.csv").write_text(csv_text() + "one,two\n")
    loose = ingest(tmp_path / "rows.csv", tmp_path, max_bad_fraction=0.2)
    assert prepare(loose)["train"].skipped == {"parse": 1}
    with pytest.raises(ShardError, match="1 of 6 molecules of .* be read, more than 1.0%: 1 x par"):
        plan(ingest(tmp_path / "rows.csv", tmp_path / "other"))


def test_records_of_sdf_and_frames_of_xyz_that_are_cut_or_huge_are_counted(tmp_path, prepare):
    huge = "gdb_9\n\n\n" + "x" * 2**20 + "\n$$$$\n"
    newer = "gdb_9\n\n\n  0  0  0     0  0            999 V3000\n$$$$\n"
    (tmp_path / "gdb9.sdf").write_text(sdf_text() + huge + newer + "gdb_10\n\n")
    loose = ingest(tmp_path / "gdb9.sdf", tmp_path, max_bad_fraction=0.5)
    assert prepare(loose)["train"].skipped == {"too_large": 1, "parse": 2}
    (tmp_path / "many.xyz").write_text(water_frames("name-{}") + "20000\n\n")
    second = ingest(tmp_path / "many.xyz", tmp_path / "xyz", max_bad_fraction=0.1)
    assert prepare(second)["train"].skipped == {"too_large": 1}


def water_frames(comment: str, number: int = 20) -> str:
    atoms = "O 0 0 0\nH 1 0 0\nH 0 1 0\n"
    return "".join(f"3\n{comment.format(i)}\n{atoms}" for i in range(number))


def test_frames_behind_one_that_is_none_are_counted_as_lost(tmp_path):
    """Three frames and half of one are there; five that follow cannot be told apart."""
    text = water_frames("a-{}", 3) + "not a frame\n" + water_frames("b-{}", 5)
    (tmp_path / "torn.xyz").write_text(text)
    with pytest.raises(ShardError, match="5 of 8 molecules of .* be read, more than 1.0%: 5 x par"):
        plan(ingest(tmp_path / "torn.xyz", tmp_path))
    (tmp_path / "empty.xyz").write_text("0\n")
    with pytest.raises(ShardError, match="holds no structures, 1 that cannot be read"):
        plan(ingest(tmp_path / "empty.xyz", tmp_path))


def ids_of(planned) -> list[str]:
    return sorted(record.cells["id"] for job in planned.jobs for record in job.part.records())


@pytest.mark.parametrize("comment", ["Properties=species:S:1:pos:R:3 index={}", "", "made by hand"])
def test_frames_whose_comments_are_no_names_are_all_kept(tmp_path, comment):
    """Ours are indices of samples, not those of QM9, of which 58 is left out."""
    (tmp_path / "water.xyz").write_text(water_frames(comment))
    assert ids_of(plan(ingest(tmp_path / "water.xyz", tmp_path))) == sorted(
        f"row-{i}" for i in range(1, 21)
    )
    (tmp_path / "drawn.xyz").write_text(water_frames("{} H2O seed 7", 70))
    drawn = plan(ingest(tmp_path / "drawn.xyz", tmp_path / "other"))
    assert drawn.num_rows == 70 and "uncharacterised" not in describe_plan(drawn)


EXTENDED = {
    "species:S:1:pos:R:3": "{s} {x}",
    "species:S:1:forces:R:3:pos:R:3": "{s} 1 2 3 {x}",
    "pos:R:3:charge:R:1:species:S:1": "{x} -0.4 {s}",
}


@pytest.mark.parametrize("properties", EXTENDED)
@pytest.mark.parametrize("name", ["drawn.xyz", "drawn.extxyz"])
def test_columns_of_extended_xyz_are_those_that_its_comment_says(tmp_path, properties, name):
    atoms = {"O": "0 0 0.117", "H": "0 0.757 -0.469", "F": "0 -0.757 -0.469"}
    lines = [EXTENDED[properties].format(s=s, x=x) for s, x in atoms.items()]
    head = f"3\nenergy=-1.0 Properties={properties} pbc='F F F'"
    (tmp_path / name).write_text("\n".join([head, *lines]) + "\n")
    planned = ingest(tmp_path / name, tmp_path)
    (row,) = planned.rows(Faults())
    arrays = planned.parse(row.cells)
    assert arrays["numbers"].tolist() == [8, 1, 9]
    apart = arrays["positions"].reshape(3, 3) - arrays["positions"][:3]
    np.testing.assert_allclose(apart[1:], [[0, 0.757, -0.586], [0, -0.757, -0.586]], atol=1e-12)


@pytest.mark.parametrize(
    "properties", ["species:S:1", "pos:R:3", "species:S:pos", "pos:R:x:species"]
)
def test_extended_xyz_without_symbols_or_coordinates_is_counted(tmp_path, properties):
    (tmp_path / "other.xyz").write_text(water_frames(f"Properties={properties}", 2))
    with pytest.raises(ShardError, match="2 that cannot be read"):
        plan(ingest(tmp_path / "other.xyz", tmp_path))


@pytest.mark.parametrize(
    ("pbc", "refused"), [("", True), ('pbc="F F T"', True), ("pbc='F F F'", False)]
)
def test_a_frame_in_a_cell_is_no_molecule(tmp_path, pbc, refused):
    comment = f'Lattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3 {pbc}'
    (tmp_path / "cell.xyz").write_text(water_frames(comment, 1))
    planned = ingest(tmp_path / "cell.xyz", tmp_path)
    (row,) = planned.rows(Faults())
    if not refused:
        assert planned.parse(row.cells)["numbers"].tolist() == [8, 1, 1]
        return
    with pytest.raises(ValueError, match="^periodic: a frame in a cell, 5 0 0 0 5 0 0 0 5, is no"):
        planned.parse(row.cells)


def test_records_of_sdf_of_one_title_are_all_kept(tmp_path):
    text = re.sub(r"^gdb_\d+$", "ligand", sdf_text(), flags=re.MULTILINE)
    (tmp_path / "same.sdf").write_text(text)
    assert ids_of(plan(ingest(tmp_path / "same.sdf", tmp_path))) == [
        f"row-{i}" for i in range(1, text.count("$$$$") + 1)
    ]


def test_files_of_qm9_in_one_are_all_read(tmp_path, prepare, rows_of):
    (tmp_path / "all.xyz").write_text("\n".join(map(xyz_text, MOLECULES)) + "\n")
    manifests = prepare(ingest(tmp_path / "all.xyz", tmp_path))
    assert set(rows_of(tmp_path / "out", manifests)) == {str(m[0]) for m in MOLECULES}
    assert manifests["train"].skipped == {}


def test_rows_without_an_id_are_told_apart_by_their_file(tmp_path):
    """Also those of a tar of plain XYZ files, and beside what a Mac leaves."""
    folder = tmp_path / "parts"
    folder.mkdir()
    for part in ("part-0", "part-1"):
        table = pq.read_table(parquet(folder / f"{part}.parquet", split=False))
        pq.write_table(table.drop_columns(["index"]), folder / f"{part}.parquet")
    (folder / "._part-0.parquet").write_bytes(b"Mac OS X")
    planned = plan(ingest(folder, tmp_path))
    assert planned.num_rows == 10 and "row-part-1.parquet#5" in ids_of(planned)
    assert "skipped  1: hidden or a system's own" in describe_plan(planned)
    with tarfile.open(tmp_path / "plain.tar", "w") as archive:
        for name in ("./a.xyz", "./b.xyz", "./._a.xyz"):
            info = tarfile.TarInfo(name)
            data = b"\xff\0" * 9 if "._" in name else water_frames("", 1).encode()
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    assert ids_of(plan(ingest(tmp_path / "plain.tar", tmp_path))) == [
        *("row-./a.xyz#1", "row-./b.xyz#1")
    ]


def test_names_of_tables_say_their_splits(tmp_path):
    folder = tmp_path / "tables"
    folder.mkdir()
    for name, members in {
        "train": MOLECULES[:3],
        "val": MOLECULES[3:4],
        "test": (CYANIDE,),
    }.items():
        (folder / f"{name}.csv").write_text(csv_text(members))
    planned = plan(ingest(folder, tmp_path))
    assert {part.split: part.source.num_rows for part in planned.splits} == {
        **{"train": 3, "eval": 1, "test": 1}
    }


@pytest.mark.parametrize("numbers", [[8, 1, 6.5], [8, 1, np.nan], [8, 1, np.inf]])
def test_atomic_numbers_that_are_not_whole_are_refused(tmp_path, numbers):
    row = {"numbers": np.array(numbers), "positions": np.ravel(WATER[3]), "id": "1"}
    with pytest.raises(ValueError, match=f"unknown_element: atomic number {numbers[-1]}"):
        ingest("x", tmp_path).encode(Record(cells=row, path="x"))


def test_positions_may_come_in_threes_and_bytes_are_refused(tmp_path):
    chosen = ingest("x", tmp_path)
    flat = chosen.parse({"numbers": np.array([8, 1, 1]), "positions": np.ravel(WATER[3])})
    nested = chosen.parse({"numbers": [8, 1, 1], "positions": WATER[3]})
    np.testing.assert_array_equal(flat["positions"], nested["positions"])
    across = np.transpose([*WATER[3], [0.0, 0.0, 9.0]]).tolist()
    for cell in (across, b"\0" * 36, ["a"], [[1.0], [1.0, 2.0]]):
        with pytest.raises(ValueError, match="shape: positions"):
            chosen.parse({"numbers": [8, 1, 1, 1], "positions": cell})


def test_builtin_qm9_names_its_extra_when_the_package_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("unite.data.ingest.atoms.installed.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"builtin:qm9 needs the package qm9pack.*\.\[qm9\]"):
        plan(ingest("builtin:qm9", tmp_path))
    with pytest.raises(ValueError, match=r"tests needs the package nowhere.*\.\[chem\]"):
        require("nowhere.at_all", "chem", "tests")


def test_builtin_qm9_is_made_once_from_the_installed_package(tmp_path, monkeypatch):
    package = tmp_path / "qm9pack"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "data" / "qm9_part1.csv").write_text(csv_text())
    monkeypatch.syspath_prepend(str(tmp_path))
    assert folder_of("builtin:qm9", "builtin:qm9", "qm9pack", "qm9") == str(package / "data")
    store = Store.open(tmp_path / "runs" / "data" / "qm9")
    prepare_builtin("builtin:qm9", store)
    before = (tmp_path / "runs" / "data" / "qm9" / "manifest.json").stat().st_mtime_ns
    prepare_builtin("builtin:qm9", store)
    assert (tmp_path / "runs" / "data" / "qm9" / "manifest.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="builtin:qm8 is unknown; there are builtin:digits, built"):
        prepare_builtin("builtin:qm8", store)


def test_the_real_subset_has_the_split_of_the_hash(shared_dir):
    table = pq.read_table(shared_dir / "data" / "qm9_dft" / "qm9_dft_40k.parquet").to_pydict()
    names = {"val": "validation"}
    wanted = {str(i): names.get(s, s) for i, s in zip(table["index"], table["split"], strict=True)}
    assert wanted == {each: qm9_split()[each] for each in wanted}
