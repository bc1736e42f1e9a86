"""CIF texts of other programs: operations of symmetry, settings, sites that a parser leaves out."""

from importlib.util import find_spec

import pytest

from unite.data.ingest.atoms.cif import look, read_cif

needs_chem = pytest.mark.skipif(
    find_spec("pymatgen") is None,
    reason="extra [chem] is not installed",
)
CUBE, HEXAGONAL = (5.64, 5.64, 5.64, 90, 90, 90), (4.546, 4.546, 11.86, 90, 90, 120)
RHOMBOHEDRAL = (4.746, 4.746, 4.746, 57.23, 57.23, 57.23)
COLUMNS = ("label", "fract_x", "fract_y", "fract_z")
SALT, BISMUTH = ("Na1 0 0 0", "Cl1 .5 .5 .5"), ("Bi1 .234 .234 .234",)
INVERSION = "loop_\n_symmetry_equiv_pos_as_xyz\n'x, y, z'\n'-x, -y, -z'"


def cif(cell, rows, head="", columns=COLUMNS) -> str:
    names = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = ["data_x", *(f"_cell_{n} {v}" for n, v in zip(names, cell, strict=True)), head]
    return "\n".join([*lines, "loop_", *(f"_atom_site_{name}" for name in columns), *rows, ""])


@needs_chem
@pytest.mark.parametrize(
    ("cell", "rows", "head", "atoms"),
    [
        (CUBE, SALT, "_symmetry_space_group_name_H-M 'F m -3 m'", 8),
        (CUBE, SALT, "_space_group_IT_number 225", 8),
        (CUBE, SALT, "_symmetry_space_group_name_H-M 'P 1'\n_symmetry_Int_Tables_number 1", 2),
        (CUBE, SALT, "_symmetry_space_group_name_H-M ?\n_cell_volume 179.4", 2),
        (CUBE, SALT, "_symmetry_space_group_name_H-M 'P 1'  # as drawn", 2),
        (CUBE, SALT, "_symmetry_space_group_name_H-M P 1", 2),
        (CUBE, SALT, "", 2),
        (HEXAGONAL, ("Bi1 0 0 .234",), "_symmetry_space_group_name_H-M 'R -3 m'", 6),
        (RHOMBOHEDRAL, BISMUTH, f"_symmetry_space_group_name_H-M 'R -3 m :R'\n{INVERSION}", 2),
    ],
)
def test_symmetry_is_that_of_the_text_or_of_a_name_that_is_known(cell, rows, head, atoms, recwarn):
    assert len(read_cif(cif(cell, rows, head))["numbers"]) == atoms
    assert not recwarn.list  # a reader of thousands of files would print thousands of lines


@needs_chem
@pytest.mark.parametrize(
    ("cell", "rows", "head", "why"),
    [
        (CUBE, SALT, "_symmetry_space_group_name_Hall '-F 4 2 3'", "'-F 4 2 3' are not known"),
        (CUBE, SALT, "_space_group_name_H-M_alt 'F d -3 m S'", "'F d -3 m S' are not known"),
        (HEXAGONAL, BISMUTH, "_symmetry_space_group_name_H-M 'R -3 m :H'", "are not known"),
        (RHOMBOHEDRAL, BISMUTH, "_symmetry_space_group_name_H-M 'R -3 m'", "another setting"),
        (RHOMBOHEDRAL, BISMUTH, "_symmetry_Int_Tables_number 166", "another setting"),
    ],
)
def test_a_crystal_whose_symmetry_is_not_known_is_refused(cell, rows, head, why):
    """pymatgen takes it for P 1, and hexagonal operations for those of any cell."""
    with pytest.raises(ValueError, match=f"^symmetry: .*{why}"):
        read_cif(cif(cell, rows, head))


@pytest.mark.parametrize(
    ("column", "values", "why"),
    [
        ("attached_hydrogens", ("0", "2"), "hydrogens: some are attached"),
        ("occupancy", ("1", "."), "disordered: the occupancy of a site"),
    ],
)
def test_sites_that_the_parser_would_leave_out_are_refused(column, values, why):
    rows = [f"{row} {value}" for row, value in zip(SALT, values, strict=True)]
    with pytest.raises(ValueError, match=f"^{why}"):
        look(cif(CUBE, rows, columns=(*COLUMNS, column)))


@needs_chem
def test_columns_that_say_nothing_of_the_kind_are_passed_over():
    rows = [f"{row} 0 ?" for row in SALT]
    columns = (*COLUMNS, "attached_hydrogens", "occupancy")
    assert read_cif(cif(CUBE, rows, columns=columns))["numbers"].tolist() == [11, 17]


@pytest.mark.parametrize(
    "rows",
    [
        ("O1 0 0 0 O", "", "D1 .1 0 0 D"),
        ("O1 0 0 0 O", "# hydrogens", "D1 .1 0 0 D"),
        ("O1 0 0 0", "O", "D1 .1 0", "0 D"),
        ("'O 1' 0 0 0 O", "'H 1' .1 0 0 D"),
        ("O1 0 0 0 O", ";", "H1", ";", ".1 0 0 D"),
    ],
    ids=["blank line", "comment", "broken rows", "quotes", "text field"],
)
def test_deuterium_is_found_however_the_rows_are_written(rows):
    with pytest.raises(ValueError, match="unknown_element: 'D'"):
        look(cif(CUBE, rows, columns=(*COLUMNS, "type_symbol")))


@needs_chem
def test_rows_over_several_lines_and_labels_in_quotes_are_read():
    rows = ("'Na 1' 0 0 0", "Na", "Cl1'A' .5", ".5 .5 Cl", "# the end")
    found = read_cif(cif(CUBE, rows, columns=(*COLUMNS, "type_symbol")))
    assert found["numbers"].tolist() == [11, 17]
    assert found["frac"].tolist() == [0, 0, 0, 0.5, 0.5, 0.5]
