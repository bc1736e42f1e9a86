"""Crystals from arrays and CIF texts: reduced cells, kept atoms, and reasons for refusals."""

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unite.config.domains import CrystalsConfig
from unite.data.ingest.atoms.cif import MOST_LINES, look, read_cif
from unite.data.ingest.atoms.crystals import MP20Ingest, Perov5Ingest, reduced
from unite.data.ingest.atoms.niggli import cell_parameters, cell_vectors
from unite.data.ingest.atoms.rows import Faults
from unite.data.ingest.atoms.text import MOST_ATOMS
from unite.data.ingest.prepare import plan
from unite.data.ingest.source import Record
from unite.data.manifest import ShardError
from unite.data.shards import ShardSet
from unite.domains import build_domain

NEEDS_CHEM = "extra [chem] is not installed"
RIGHT = [90.0, 90.0, 90.0]
# Textbook lattice constants in A; the cell of NaCl and Si is their primitive one.
CRYSTALS = {
    "NaCl": ([11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], [3.988] * 3, [60.0] * 3),
    "CsCl": ([55, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], [4.123] * 3, RIGHT),
    "Si": ([14, 14], [[0, 0, 0], [0.25, 0.25, 0.25]], [3.840] * 3, [60.0] * 3),
    "TiO2": (
        [22, 22, 8, 8, 8, 8],
        [[0, 0, 0], [0.5, 0.5, 0.5], [0.305, 0.305, 0], [0.695, 0.695, 0]]
        + [[0.195, 0.805, 0.5], [0.805, 0.195, 0.5]],
        [4.594, 4.594, 2.959],
        RIGHT,
    ),
    "SrTiO3": (
        [38, 22, 8, 8, 8],
        [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
        [3.905] * 3,
        RIGHT,
    ),
}
SPLITS = dict(zip(CRYSTALS, ("train", "train", "train", "val", "test"), strict=True))


def parquet(path: Path, crystals=CRYSTALS, **columns) -> Path:
    table = {
        "material_id": list(crystals),
        "split": [SPLITS.get(name, "train") for name in crystals],
        "numbers": [each[0] for each in crystals.values()],
        "frac": [np.ravel(each[1]).astype(float).tolist() for each in crystals.values()],
        "lengths": [each[2] for each in crystals.values()],
        "angles": [each[3] for each in crystals.values()],
    }
    pq.write_table(pa.table({k: v for k, v in (table | columns).items() if v is not None}), path)
    return path


def cif(name: str) -> str:
    from unite.domains.atoms.elements import SYMBOLS

    numbers, frac, lengths, angles = CRYSTALS[name]
    head = [f"data_{name}", "_symmetry_space_group_name_H-M   'P 1'"]
    head += [f"_cell_length_{axis} {value}" for axis, value in zip("abc", lengths, strict=True)]
    names = ("alpha", "beta", "gamma")
    head += [f"_cell_angle_{axis} {value}" for axis, value in zip(names, angles, strict=True)]
    head += [
        "loop_",
        " _symmetry_equiv_pos_site_id",
        " _symmetry_equiv_pos_as_xyz",
        "  1  'x, y, z'",
    ]
    columns = ("type_symbol", "label", "symmetry_multiplicity", "fract_x", "fract_y", "fract_z")
    head += ["loop_", *(f" _atom_site_{column}" for column in (*columns, "occupancy"))]
    for index, (number, (x, y, z)) in enumerate(zip(numbers, frac, strict=True)):
        symbol = SYMBOLS[number]
        head.append(f"  {symbol}  {symbol}{index}  1  {x:.8f}  {y:.8f}  {z:.8f}  1")
    return "\n".join(head) + "\n"


def ingest(source: Path | str, tmp_path: Path, **changes) -> MP20Ingest:
    return MP20Ingest(source=str(source), out=str(tmp_path / "out"), **changes)


def metric(row) -> np.ndarray:
    """Distances between all atoms and their neighbours in 5 x 5 x 5 cells, sorted."""
    cell = cell_vectors(row["lengths"], row["angles"])
    frac = row["frac"].reshape(-1, 3)
    shifts = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), -1).reshape(-1, 3)
    apart = frac[:, None, None] - frac[None, :, None] + shifts
    found = np.linalg.norm(apart @ cell, axis=-1).ravel()
    return np.sort(found)[: 12 * len(frac) ** 2]


def test_arrays_become_reduced_cells_of_the_same_crystals(tmp_path, prepare, rows_of):
    manifests = prepare(ingest(parquet(tmp_path / "x.parquet"), tmp_path))
    assert {name: m.domain for name, m in manifests.items()} == dict.fromkeys(
        ("train", "eval", "test"), "crystals"
    )
    found = rows_of(tmp_path / "out", manifests)
    assert set(found) == set(CRYSTALS)
    for name, (numbers, frac, lengths, angles) in CRYSTALS.items():
        row = found[name]
        assert row["numbers"].tolist() == numbers, "atoms keep their order"
        assert (np.diff(row["lengths"]) >= -1e-9).all()
        assert ((row["frac"] >= 0) & (row["frac"] < 1)).all()
        source = {
            "frac": np.ravel(frac).astype(float),
            "lengths": np.array(lengths),
            "angles": np.array(angles),
        }
        np.testing.assert_allclose(metric(row), metric(source), atol=1e-6)
    assert found["TiO2"]["lengths"].tolist() == pytest.approx([2.959, 4.594, 4.594])


def test_prepared_crystals_are_read_by_their_domain(tmp_path, prepare):
    prepare(ingest(parquet(tmp_path / "x.parquet"), tmp_path))
    domain = build_domain(CrystalsConfig())
    shards = ShardSet.open(tmp_path / "out", "train", domain.columns)
    fields, bad = domain.decode_rows(shards.read(0).to_pydict())
    assert not bad and fields["num_atoms"].tolist() == [2, 2, 2]


def test_lattice_vectors_of_either_hand_are_rebuilt_from_their_parameters(
    tmp_path, prepare, rows_of
):
    vectors = [cell_vectors(np.array(c[2]), np.array(c[3])) for c in CRYSTALS.values()]
    vectors[0] = vectors[0] * [1, 1, -1]
    lattice = [each.ravel().tolist() for each in vectors]
    columns = {"lattice": lattice, "lengths": None, "angles": None}
    source = parquet(tmp_path / "lattice.parquet", **columns)
    found = rows_of(tmp_path / "out", prepare(ingest(source, tmp_path)))
    other = MP20Ingest(source=str(parquet(tmp_path / "x.parquet")), out=str(tmp_path / "other"))
    straight = rows_of(tmp_path / "other", prepare(other))
    for name, row in straight.items():
        np.testing.assert_allclose(found[name]["lengths"], row["lengths"], rtol=1e-9)
        np.testing.assert_allclose(found[name]["angles"], row["angles"], rtol=1e-9)
        np.testing.assert_allclose(metric(found[name]), metric(row), atol=1e-6)


def test_a_source_without_training_rows_says_how_to_train_on_validation(tmp_path, prepare):
    source = parquet(tmp_path / "x.parquet", split=["val"] * 3 + ["test"] * 2)
    with pytest.raises(ShardError, match="no rows of the training split; --train-on-validation"):
        plan(Perov5Ingest(source=str(source), out=str(tmp_path / "out")))
    chosen = Perov5Ingest(source=str(source), out=str(tmp_path / "out"), train_on_validation=True)
    manifests = prepare(chosen)
    assert {name: m.shards[0].num_rows for name, m in manifests.items()} == {"train": 3, "eval": 2}
    assert manifests["train"].preparation["data_set"] == "perov5"


@pytest.mark.parametrize(("unit", "length"), [("nm", 10.0), ("bohr", 0.529177210903)])
def test_another_unit_is_noticed_and_can_be_given(tmp_path, prepare, rows_of, unit, length):
    crystals = {"NaCl": CRYSTALS["NaCl"], "CsCl": CRYSTALS["CsCl"]}
    if unit == "bohr":  # short bonds in bohr look like long ones in A
        crystals = {"CsCl": CRYSTALS["CsCl"]}
    lengths = [(np.array(each[2]) / length).tolist() for each in crystals.values()]
    source = parquet(tmp_path / "other.parquet", crystals, lengths=lengths)
    with pytest.raises(ValueError, match=f"1 to 4 A are usual: give --unit {unit}"):
        plan(ingest(source, tmp_path))
    found = rows_of(tmp_path / "out", prepare(ingest(source, tmp_path, unit=unit)))
    assert found["CsCl"]["lengths"] == pytest.approx([4.123] * 3)


GOOD = {
    "numbers": np.array([11, 17]),
    "frac": np.array([0, 0, 0, 0.5, 0.5, 0.5]),
    "lengths": np.array([4.1, 4.1, 4.1]),
    "angles": np.array(RIGHT),
}


def reason(tmp_path, **changes) -> str:
    """Reason for which a crystal is refused; empty when it is taken."""
    chosen = ingest("x", tmp_path, max_atoms=4)
    try:
        row = chosen.encode(Record(cells={**GOOD, "id": "1", **changes}, path="x"))
    except ValueError as error:
        return str(error)
    return chosen.refused([row]).get(0, "")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"frac": np.array([0, 0, 0, 0.5, np.nan, 0.5])}, "nonfinite: frac"),
        ({"frac": np.array([0, 0, 0, 0.5, 2e3, 0.5])}, "nonfinite: frac"),
        ({"frac": np.zeros(5)}, "shape: frac holds 5 numbers, not 6"),
        ({"frac": None}, "shape: frac"),
        ({"frac": np.array([0, 0, 0, 0.05, 0, 0])}, "overlap"),
        ({"frac": np.array([0, 0, 0, 0.99, 0.01, 0])}, "overlap: two atoms are 0.06 A apart"),
        ({"lengths": np.array([4.1, 4.1, np.inf])}, "nonfinite: lengths"),
        ({"lengths": np.array([4.1, 4.1, 0.4])}, "bad_cell: lengths"),
        ({"angles": np.array([90, 90, 0.0])}, "bad_cell: angles"),
        ({"angles": np.array([60, 60, 120.0])}, "bad_cell: angles"),
        ({"numbers": np.array([0, 17])}, "unknown_element"),
        ({"numbers": np.array([-1, 17])}, "unknown_element"),
        ({"numbers": np.array([100, 17])}, "unknown_element"),
        ({"numbers": np.array([], int), "frac": np.zeros(0)}, "empty"),
        ({"numbers": None}, "empty"),
        ({"numbers": bytes([11, 17])}, "shape: numbers holds bytes, not a list of numbers"),
        ({"numbers": ["Na", "Cl"]}, "shape: numbers is no list of numbers"),
        ({"numbers": np.array([11, 17.5])}, "unknown_element: atomic number 17.5"),
        ({"frac": [[0.0, 0.5], [0.0, 0.5], [0.0, 0.5]]}, "shape: frac is no list of numbers"),
        ({"numbers": np.ones(5, int), "frac": np.linspace(0, 0.9, 15)}, "too_many_atoms"),
        ({"numbers": np.ones(MOST_ATOMS + 1)}, "too_large: 10,001 atoms"),
        ({"cif": "x" * 2**20 + "x"}, "too_large: a CIF of 1,048,577 characters"),
    ],
)
def test_what_is_refused(tmp_path, changes, text):
    assert reason(tmp_path, **changes).startswith(text)


def test_coordinates_outside_the_cell_are_wrapped(tmp_path):
    assert reason(tmp_path, frac=np.array([1.0, -2.0, 7.0, 0.5, 1.5, -0.5])) == ""
    assert reason(tmp_path, frac=[[1.0, -2.0, 7.0], [0.5, 1.5, -0.5]]) == ""
    row = reduced({**GOOD, "frac": np.array([1.0, -2.0, 7.0, 0.5, 1.5, -0.5])})
    np.testing.assert_allclose(row["frac"] % 1, [0, 0, 0, 0.5, 0.5, 0.5], atol=1e-12)


def test_a_sharp_cell_is_taken_and_becomes_compact(tmp_path):
    """A rhombohedral cell of 8 degrees, as MP20 has them: its reduced cell is an ordinary one."""
    sharp = {"lengths": np.array([29.5517] * 3), "angles": np.array([8.4364] * 3)}
    assert reason(tmp_path, **sharp) == ""
    assert reduced({**GOOD, **sharp})["angles"].min() > 50
    np.testing.assert_allclose(
        np.linalg.det(cell_vectors(**{k: reduced({**GOOD, **sharp})[k] for k in sharp})),
        np.linalg.det(cell_vectors(**sharp)),
        rtol=1e-6,
    )
    assert cell_parameters(cell_vectors(**sharp))["angles"] == pytest.approx(sharp["angles"])


def hostile(atoms: int) -> str:
    """A CIF of so many atoms."""
    text = cif("NaCl")
    last = text.splitlines()[-1]
    return text + "\n".join([last] * atoms) + "\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (cif("NaCl") + "x" * 2**20, "too_large: a CIF of"),
        (cif("NaCl") + "\n" * (MOST_LINES + 1), "too_large: a CIF of .* lines"),
        (hostile(MOST_ATOMS), "too_large: a CIF of 10,002 atoms"),
        (cif("NaCl").replace("Na  Na0", "D  D0"), "unknown_element: 'D'"),
        (cif("NaCl").replace("Na  Na0", "X  X0"), "unknown_element: 'X'"),
        (cif("NaCl")[:200], "parse: the CIF has no loop of atoms"),
        ("", "parse: the CIF has no loop of atoms"),
        (cif("NaCl").replace("length_b 3", "length_b -3"), r"bad_cell: .* -3.988, .* above 0"),
        (cif("NaCl").replace("length_b 3.988", "length_b 0(1)"), "bad_cell: .* must be above 0"),
        (cif("NaCl").replace("length_b 3.988", "length_b nan"), "nonfinite: lengths"),
        (cif("NaCl").replace("gamma 60.0", "gamma 120.0"), "bad_cell: .* span no volume"),
    ],
)
def test_a_hostile_cif_is_refused_before_a_parser_sees_it(tmp_path, monkeypatch, text, why):
    monkeypatch.setattr("unite.data.ingest.atoms.installed.require", None)
    with pytest.raises(ValueError, match=why):
        ingest("x", tmp_path).parse({"cif": text})


def test_charges_and_numbers_of_symbols_are_passed_over():
    look(cif("NaCl").replace("Na  Na0", "Na1+  Na0").replace("Cl  Cl1", "Cl1-  Cl1"))


def test_cif_needs_the_extra_and_arrays_do_not(tmp_path, monkeypatch):
    import importlib

    def absent(name):
        raise ModuleNotFoundError(name)

    assert reason(tmp_path) == ""
    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(
        ValueError, match=r"reading CIF files needs the package pymatgen.*\.\[chem\]"
    ):
        ingest("x", tmp_path).parse({"cif": cif("NaCl")})


def csvs(folder: Path) -> Path:
    """CDVAE's three tables, one of them packed."""
    folder.mkdir()
    for split, names in (
        ("train", ("NaCl", "CsCl", "Si")),
        ("val", ("TiO2",)),
        ("test", ("SrTiO3",)),
    ):
        lines = [",material_id,formation_energy_per_atom,cif,spacegroup.number"]
        lines += [f'{i},{name},-1.5,"{cif(name)}",194' for i, name in enumerate(names)]
        data = ("\n".join(lines) + "\n").encode()
        if split == "val":
            (folder / f"{split}.csv.gz").write_bytes(gzip.compress(data))
        else:
            (folder / f"{split}.csv").write_bytes(data)
    return folder


@pytest.mark.parametrize("form", ["csvs", "cifs"])
def test_texts_give_the_rows_of_the_arrays(tmp_path, prepare, rows_of, form):
    pytest.importorskip("pymatgen.core", reason=NEEDS_CHEM)
    source = csvs(tmp_path / "csvs")
    if form == "cifs":
        source = tmp_path / "cifs"
        for name, split in SPLITS.items():
            (source / split).mkdir(parents=True, exist_ok=True)
            (source / split / f"{name}.cif").write_text(cif(name))
    found = rows_of(tmp_path / "out", prepare(ingest(source, tmp_path)))
    other = MP20Ingest(source=str(parquet(tmp_path / "x.parquet")), out=str(tmp_path / "other"))
    for name, row in rows_of(tmp_path / "other", prepare(other)).items():
        for part in ("frac", "lengths", "angles"):
            np.testing.assert_allclose(found[name][part], row[part], atol=1e-8)
        assert found[name]["numbers"].tolist() == row["numbers"].tolist()
        assert found[name]["split"] == row["split"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (cif("NaCl").replace("0.50000000  1\n", "0.50000000  0.5\n"), "disordered"),
        (cif("NaCl").replace("_cell_length_a 3.988", "_cell_length_a"), "parse"),
        (cif("NaCl").replace("_cell_length_a 3.988\n", ""), "parse"),
    ],
)
def test_what_the_parser_stumbles_over_is_a_reason(tmp_path, text, why):
    pytest.importorskip("pymatgen.core", reason=NEEDS_CHEM)
    with pytest.raises(ValueError, match=f"^{why}: "):
        ingest("x", tmp_path).parse({"cif": text})


def test_a_cif_alone_is_read_and_each_block_of_one_is_a_crystal(tmp_path):
    """As those of a file of samples; a block without atoms is none."""
    (tmp_path / "NaCl.cif").write_text("data_global\n_journal_year 2026\n" + cif("NaCl"))
    (tmp_path / "drawn.cif").write_text(cif("NaCl") + "\n" + cif("Si") + "\n" + cif("TiO2"))
    found = {}
    for name in ("NaCl.cif", "drawn.cif"):
        rows = [
            record.cells
            for job in plan(ingest(tmp_path / name, tmp_path)).jobs
            for record in job.part.records()
        ]
        found[name] = {row["id"]: row["cif"] for row in rows}
        assert all(row["cif"].count("_cell_length_a") == 1 for row in rows)
    assert list(found["NaCl.cif"]) == ["NaCl"]
    assert sorted(found["drawn.cif"]) == ["drawn-1", "drawn-2", "drawn-3"]
    assert "data_TiO2" in found["drawn.cif"]["drawn-3"]


def test_a_loop_of_displacements_before_the_atoms_is_passed_over():
    names = ("label", "U_11", "U_22")
    loop = "\n".join(["loop_", *(f"_atom_site_aniso_{name}" for name in names), "Na0 0.01 0.01"])
    at = cif("NaCl").rindex("loop_")
    look(cif("NaCl")[:at] + loop + "\n" + cif("NaCl")[at:])
    with pytest.raises(ValueError, match="unknown_element: 'D'"):
        look(
            cif("NaCl")[:at].replace("Na", "D") + loop + "\n" + cif("NaCl")[at:].replace("Na", "D")
        )


def test_atoms_of_a_cif_come_by_electronegativity_and_then_as_they_stand():
    """As in the arrays of CDVAE and ADiT, which come from the same parser."""
    pytest.importorskip("pymatgen.core", reason=NEEDS_CHEM)
    lines = cif("TiO2").splitlines()
    found = read_cif("\n".join([*lines[:-6], *lines[-4:], *lines[-6:-4]]))
    assert found["numbers"].tolist() == CRYSTALS["TiO2"][0]
    np.testing.assert_allclose(found["frac"].reshape(-1, 3), CRYSTALS["TiO2"][1], atol=1e-8)


def test_a_row_without_atoms_is_counted_beside_others(tmp_path, prepare, rows_of):
    """Also while the distances of the first rows are looked at, which has none of its own."""
    crystals = {"none": ([], [], *CRYSTALS["Si"][2:]), "Si": CRYSTALS["Si"]}
    source = parquet(tmp_path / "crystals.parquet", crystals)
    manifests = prepare(ingest(source, tmp_path, max_bad_fraction=0.5))
    assert list(rows_of(tmp_path / "out", manifests)) == ["Si"]
    assert manifests["train"].shards[0].skipped == {"empty": 1}


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_an_id_of_0_is_one_and_an_empty_one_is_none(tmp_path, form):
    if form == "parquet":
        twice = {"NaCl": CRYSTALS["NaCl"], "Si": CRYSTALS["Si"]}
        named, none = ({"material_id": ids} for ids in ([0, 0], ["", ""]))
        leak = parquet(tmp_path / "a.parquet", twice, split=["train", "test"], **named)
        empty = parquet(tmp_path / "b.parquet", twice, split=["train", "train"], **none)
    else:
        rows = [f'{{}},{split},"{cif("Si")}"' for split in ("train", "test")]
        leak, empty = tmp_path / "a.csv", tmp_path / "b.csv"
        leak.write_text("\n".join(["material_id,split,cif", *(row.format(0) for row in rows)]))
        empty.write_text("\n".join(["material_id,split,cif", *(row.format("") for row in rows)]))
    with pytest.raises(ShardError, match="1 id in two splits, such as 0"):
        list(plan(ingest(leak, tmp_path)).jobs)
    ids = sorted(row.id for row in ingest(empty, tmp_path).rows(Faults()))
    assert ids == ["row-1", "row-2"]


def test_what_a_mac_leaves_beside_cifs_is_counted_and_not_read(tmp_path):
    folder = tmp_path / "cifs"
    folder.mkdir()
    for name in ("NaCl", "Si"):
        (folder / f"{name}.cif").write_text(cif(name))
        (folder / f"._{name}.cif").write_bytes(b"Mac OS X")
    planned = plan(ingest(folder, tmp_path))
    assert planned.num_rows == 2
    assert planned.splits[0].source.skipped == {"hidden or a system's own": 2}


def test_cif_files_of_one_name_in_folders_of_their_own_are_all_kept(tmp_path):
    """A folder of each material; names that differ stay identities, also across splits."""
    for name in CRYSTALS:
        (tmp_path / "tree" / name).mkdir(parents=True)
        (tmp_path / "tree" / name / "structure.cif").write_text(cif(name))
    planned = plan(ingest(tmp_path / "tree", tmp_path))
    rows = [each.cells for job in planned.jobs for each in job.part.records()]
    assert {row["id"]: row["cif"] for row in rows} == {
        f"row-{name}/structure.cif": cif(name) for name in CRYSTALS
    }
    for split in ("train", "test"):
        (tmp_path / "splits" / split).mkdir(parents=True)
        (tmp_path / "splits" / split / "mp-1.cif").write_text(cif("Si"))
    with pytest.raises(ShardError, match="1 id in two splits, such as mp-1"):
        plan(ingest(tmp_path / "splits", tmp_path))


def test_a_cif_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "Si.cif").write_text(cif("Si"), encoding="utf-8-sig")
    (row,) = ingest(tmp_path / "Si.cif", tmp_path).rows(Faults())
    assert row.cells["cif"] == cif("Si")


def test_tables_without_cif_and_folders_of_nothing_are_refused(tmp_path):
    (tmp_path / "train.csv").write_text("material_id,formula\nmp-1,NaCl\n")
    with pytest.raises(ShardError, match="train.csv has no column cif"):
        plan(ingest(tmp_path / "train.csv", tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ShardError, match="empty holds no .csv, .csv.gz, .parquet or .cif"):
        plan(ingest(tmp_path / "empty", tmp_path))
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"material_id,cif\n" * 200)[:30])
    with pytest.raises(ShardError, match="cut.csv.gz cannot be read, it may be damaged"):
        plan(ingest(tmp_path / "cut.csv.gz", tmp_path))
    data = bytearray(gzip.compress(b"material_id,cif\n" * 200))
    data[10] = 0xFF  # the first byte behind gzip's head: no kind of block
    (tmp_path / "bad.csv.gz").write_bytes(data)
    with pytest.raises(ShardError, match="bad.csv.gz cannot be read, it may be damaged"):
        plan(ingest(tmp_path / "bad.csv.gz", tmp_path))
