from dataclasses import replace

import numpy as np
import pytest

from unite.config.domains import CrystalsConfig, MoleculesConfig
from unite.domains.atoms.featurise import OVERLAP, decode, smallest_distances

KINDS = {"numbers": "<u1", "positions": "<f4"}


def as_bytes(rows: dict[str, list]) -> dict[str, list]:
    """The cells as our shards hold them."""
    return {
        name: [np.asarray(cell, KINDS.get(name, "<f8")).ravel().tobytes() for cell in cells]
        for name, cells in rows.items()
    }


def molecule_rows(textbook_molecules) -> dict[str, list]:
    cells = textbook_molecules.values()
    flat = [np.ravel(positions).tolist() for _, positions in cells]
    return {"numbers": [numbers for numbers, _ in cells], "positions": flat}


def crystal_rows(textbook_crystals) -> dict[str, list]:
    names = ("numbers", "frac", "lengths", "angles")
    return {k: [np.ravel(c[k]).tolist() for c in textbook_crystals.values()] for k in names}


def test_molecules_are_centred_and_padded_with_zeros(textbook_molecules):
    fields, bad = decode(molecule_rows(textbook_molecules), MoleculesConfig())
    assert bad == []
    for row, (numbers, positions) in enumerate(textbook_molecules.values()):
        size = len(numbers)
        assert fields["num_atoms"][row] == size
        assert fields["numbers"][row].tolist() == numbers + [0] * (29 - size)
        centred = np.array(positions) - np.mean(positions, axis=0)
        np.testing.assert_allclose(fields["positions"][row, :size], centred, atol=1e-7)
        assert not fields["positions"][row, size:].any()


def test_crystals_are_wrapped_and_keep_their_cell(textbook_crystals):
    fields, bad = decode(crystal_rows(textbook_crystals), CrystalsConfig())
    assert bad == []
    for row, cell in enumerate(textbook_crystals.values()):
        frac = fields["frac"][row, : len(cell["numbers"])]
        assert (frac >= 0).all() and (frac < 1).all()
        np.testing.assert_allclose(frac, np.mod(cell["frac"], 1.0), atol=6e-8)
        np.testing.assert_array_equal(fields["lengths"][row], np.float32(cell["lengths"]))


def test_a_hair_under_a_cell_wraps_to_zero():
    rows = {"numbers": [[14]], "frac": [[-1e-12, 1 - 1e-12, 3.25]]}
    rows |= {"lengths": [[4.0] * 3], "angles": [[90.0] * 3]}
    fields, _ = decode(rows, CrystalsConfig())
    assert fields["frac"][0, 0].tolist() == [0, 0, 0.25]


def test_lists_and_bytes_are_the_same(textbook_molecules, textbook_crystals):
    for rows, config in (
        (molecule_rows(textbook_molecules), MoleculesConfig()),
        (crystal_rows(textbook_crystals), CrystalsConfig()),
    ):
        lists, bytes_ = decode(rows, config)[0], decode(as_bytes(rows), config)[0]
        for name, values in lists.items():
            np.testing.assert_allclose(values, bytes_[name], atol=1e-7)


def test_bytes_decode_alike_together_and_one_by_one(textbook_molecules, textbook_crystals):
    """Rows that have nothing wrong go together; a list among the bytes goes by itself."""
    for rows, config in (
        (molecule_rows(textbook_molecules), MoleculesConfig()),
        (crystal_rows(textbook_crystals), CrystalsConfig()),
    ):
        cells = as_bytes(rows)
        together, bad = decode(cells, config)
        assert bad == []
        alone = {
            name: [np.frombuffer(cell, KINDS.get(name, "<f8")).tolist() for cell in values]
            for name, values in cells.items()
        }
        for name, values in decode(alone, config)[0].items():
            np.testing.assert_array_equal(values, together[name], err_msg=name)


GOOD = {"numbers": [8, 1, 1], "positions": [0, 0, 0.1, 0, 0.76, -0.5, 0, -0.76, -0.5]}
CELL = {"numbers": [11, 17], "frac": [0, 0, 0, 0.5, 0.5, 0.5]}
CELL |= {"lengths": [4.0, 4.0, 4.0], "angles": [90.0, 90.0, 90.0]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"positions": [float("nan")] + [0.0] * 8}, "nonfinite: positions"),
        ({"positions": [2e4] + [0.0] * 8}, "nonfinite: positions"),
        ({"positions": [0.0] * 8}, "shape: positions holds 8 numbers, not 9"),
        ({"positions": "word"}, "shape: positions"),
        ({"positions": b"12345"}, "shape: positions holds 5 bytes"),
        ({"numbers": []}, "empty"),
        ({"numbers": [1] * 30, "positions": [0.0] * 90}, "too_many_atoms: 30 atoms"),
        ({"numbers": [8, 1, 0]}, "unknown_element: atomic number 0; known: H C N O F"),
        ({"numbers": [8, 1, -6]}, "unknown_element: atomic number -6"),
        ({"numbers": [8, 1, 119]}, "unknown_element: atomic number 119"),
        ({"numbers": [8, 1, 16]}, "unknown_element: S; known: H C N O F"),
        ({"numbers": ["O", "H", "D"]}, "shape: numbers"),
        ({"positions": [0, 0, 0, 0, 0.3, 0, 0, 0, 2]}, "overlap: two atoms are 0.30 A apart"),
    ],
)
def test_bad_molecules_are_named_and_zeroed(change, reason):
    rows = {name: [value, change.get(name, value)] for name, value in GOOD.items()}
    fields, bad = decode(rows, MoleculesConfig())
    assert [row for row, _ in bad] == [1]
    assert bad[0][1].startswith(reason)
    assert fields["num_atoms"].tolist() == [3, 0]
    assert not fields["numbers"][1].any() and not fields["positions"][1].any()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"lengths": [4.0, 4.0, 0.2]}, "bad_cell: lengths 4 4 0.2"),
        ({"lengths": [4.0, 4.0, -4.0]}, "bad_cell: lengths"),
        ({"lengths": [4.0, 4.0, float("inf")]}, "nonfinite: lengths"),
        ({"angles": [90.0, 90.0, 175.0]}, "bad_cell: angles 90 90 175 must lie in 10..170"),
        ({"angles": [30.0, 30.0, 120.0]}, "bad_cell: angles 30 30 120 span no volume"),
        ({"angles": [60.0, 60.0, 120.0]}, "bad_cell: angles 60 60 120 span no volume"),
        ({"frac": [0, 0, 0, 2e3, 0.5, 0.5]}, "nonfinite: frac"),
        ({"frac": [0.0, 0, 0, 0.99, 1, 0]}, "overlap: two atoms are 0.04 A apart"),
        ({"numbers": [11, 100]}, "unknown_element: atomic number 100; known: atomic numbers 1..99"),
    ],
)
def test_bad_crystals_are_named(change, reason):
    rows = {name: [value, change.get(name, value)] for name, value in CELL.items()}
    _, bad = decode(rows, CrystalsConfig())
    assert [row for row, _ in bad] == [1]
    assert bad[0][1].startswith(reason)


def test_bad_rows_of_bytes_have_the_reasons_of_lists():
    changes = [
        *({"positions": [float("nan")] + [0.0] * 8}, {"positions": [2e4] + [0.0] * 8}),
        *({"positions": [0.0] * 8}, {"numbers": []}, {"numbers": [8, 1, 16]}),
        *({"numbers": [8, 1, 0]}, {"numbers": [1] * 30, "positions": [0.0] * 90}),
        {"positions": [0, 0, 0, 0, 0.3, 0, 0, 0, 2]},
    ]
    cases = [{}, *changes, {}]
    rows = {name: [case.get(name, value) for case in cases] for name, value in GOOD.items()}
    listed, packed = decode(rows, MoleculesConfig()), decode(as_bytes(rows), MoleculesConfig())
    assert [row for row, _ in packed[1]] == list(range(1, len(changes) + 1))
    assert packed[1] == listed[1]
    for name, values in listed[0].items():
        np.testing.assert_array_equal(packed[0][name][[0, -1]], values[[0, -1]])


def test_a_config_says_which_elements_it_knows():
    rows = {name: [value] for name, value in CELL.items()}
    config = replace(CrystalsConfig(), elements=(11, 17))
    assert decode(rows, config)[1] == []
    assert decode(rows, replace(config, elements=(11,)))[1][0][1].startswith("unknown_element: Cl")


def test_smallest_distances_tell_units_apart(textbook_molecules):
    fields, _ = decode(molecule_rows(textbook_molecules), MoleculesConfig())
    assert 0.8 < np.median(smallest_distances(fields)) < 1.5


@pytest.mark.parametrize("angles", [(90, 90, 90), (60, 60, 60), (20, 25, 30), (110, 140, 100)])
def test_atoms_overlap_where_the_distances_over_all_images_say_so(angles):
    rng, num = np.random.default_rng(sum(angles)), 400
    sizes = rng.integers(1, 9, num)
    rows = {
        "numbers": [[11] * size for size in sizes],
        "frac": [rng.random(3 * size).tolist() for size in sizes],
        "lengths": rng.uniform(2, 9, (num, 3)).tolist(),
        "angles": [list(angles)] * num,
    }
    config = replace(CrystalsConfig(), max_atoms=8)
    fields, bad = decode(rows, config)
    every, _ = decode({**rows, "lengths": [[x * 1e2 for x in y] for y in rows["lengths"]]}, config)
    every["lengths"] = np.float32(rows["lengths"])
    expected = np.flatnonzero(smallest_distances(every) < OVERLAP).tolist()
    assert 0 < len(expected) < num
    assert [row for row, reason in bad if reason.startswith("overlap")] == expected
