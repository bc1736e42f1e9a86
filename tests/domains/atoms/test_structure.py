import numpy as np
import pytest

from unite.domains.atoms.structure import Structure


def water(textbook_molecules) -> Structure:
    numbers, positions = textbook_molecules["water"]
    return Structure(numbers=np.array(numbers), positions=np.array(positions))


def test_xyz_has_the_count_a_comment_and_a_line_for_each_atom(textbook_molecules):
    lines = water(textbook_molecules).to_xyz("water").splitlines()
    assert lines[:2] == ["3", "water"]
    assert lines[3].split() == ["H", "0.00000000", "0.75720000", "-0.46920000"]
    with pytest.raises(ValueError, match="one line"):
        water(textbook_molecules).to_xyz("two\nlines")


def test_cif_holds_cell_and_atoms_and_a_molecule_has_none(textbook_crystals, textbook_molecules):
    cell = {name: np.array(values) for name, values in textbook_crystals["rutile"].items()}
    structure = Structure(positions=np.zeros((6, 3)), **cell)
    text = structure.to_cif("rutile")
    assert text.startswith("data_rutile\n")
    assert "_cell_length_c 2.95870000" in text
    assert "_chemical_formula_sum 'O4 Ti2'" in text
    assert text.count(" Ti Ti") == 2
    with pytest.raises(ValueError, match="no cell"):
        water(textbook_molecules).to_cif()
