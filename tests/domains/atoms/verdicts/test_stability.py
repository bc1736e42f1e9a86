import numpy as np
import pytest

from unite.domains.atoms.structure import Structure
from unite.domains.atoms.verdicts.stability import stable_atoms


def test_textbook_molecules_are_stable(textbook_molecules):
    for name, (numbers, positions) in textbook_molecules.items():
        molecule = Structure(numbers=np.array(numbers), positions=np.array(positions, float))
        assert stable_atoms(molecule).all(), name


def test_a_hydrogen_that_leaves_makes_two_atoms_unstable(textbook_molecules):
    numbers, positions = textbook_molecules["methane"]
    positions = np.array(positions, float)
    positions[1] *= 3
    stable = stable_atoms(Structure(numbers=np.array(numbers), positions=positions))
    assert stable.tolist() == [False, False, True, True, True]


def test_elements_without_a_valence_are_refused():
    with pytest.raises(ValueError, match="not atomic number 16"):
        stable_atoms(Structure(numbers=np.array([16]), positions=np.zeros((1, 3))))
