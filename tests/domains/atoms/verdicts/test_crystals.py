from dataclasses import replace

import numpy as np
import pytest

from unite.domains.atoms.elements import SYMBOLS
from unite.domains.atoms.structure import Structure
from unite.domains.atoms.verdicts.crystals import (
    composition_valid,
    density,
    smact_digest,
    smact_table,
    structure_problem,
)


def crystal(textbook_crystals, name: str) -> Structure:
    cell = {k: np.array(v) for k, v in textbook_crystals[name].items()}
    return Structure(positions=np.zeros((len(cell["numbers"]), 3)), **cell)


def numbers(*symbols: str) -> list[int]:
    return [SYMBOLS.index(symbol) for symbol in symbols]


def test_textbook_crystals_are_structurally_valid(textbook_crystals):
    for name in textbook_crystals:
        assert structure_problem(crystal(textbook_crystals, name)) == "", name


def test_reasons_of_invalid_structures(textbook_crystals):
    salt = crystal(textbook_crystals, "CsCl")
    close = np.array([[0.0, 0, 0], [0.98, 0, 0]])
    cases = {
        "0.08 A apart": {"frac": close},
        "not finite": {"frac": np.full((2, 3), np.nan)},
        "length is not positive": {"lengths": np.array([4.0, 4, -4])},
        "outside 50..130": {"angles": np.array([90.0, 90, 130])},
        "volume is under 0.1": {"lengths": np.array([4.0, 4, 0.005])},
    }
    for reason, change in cases.items():
        assert reason in structure_problem(replace(salt, **change)), reason


def test_an_atoms_own_images_do_not_count():
    flat = {"lengths": np.array([4.0, 4, 0.4]), "angles": np.full(3, 90.0)}
    origin = np.zeros((1, 3))
    alone = Structure(numbers=np.array([6]), positions=origin, frac=origin, **flat)
    assert structure_problem(alone) == ""


@pytest.mark.parametrize(
    ("symbols", "valid"),
    [
        (("Na", "Cl"), True),
        (("Na", "Na", "Cl"), False),  # two cations of +1 and one anion, which has -1 .. 7
        (("Ti", "O", "O"), True),
        (("Sr", "Ti", "O", "O", "O"), True),
        (("Si", "Si"), True),  # one element
        (("Cu", "Zn", "Au"), True),  # metals
        (("Na", "Na", "Cl", "Cl"), True),  # divided by what the counts share
        (("He", "O"), False),  # an element without states
        (("F", "Cl"), True),
        (("Na", "Na", "Na", "F"), False),
    ],
)
def test_compositions_by_hand(symbols, valid):
    assert composition_valid(numbers(*symbols)) is valid


def test_the_pauling_test_refuses_cations_that_attract_more():
    """Cl+2 with two H-1 would be neutral, and so S+3 with three H-1 the other way round."""
    assert composition_valid(numbers("H", "Cl"))
    assert not composition_valid(numbers("H", "H", "Cl"))
    assert composition_valid(numbers("H", "H", "S"))
    assert not composition_valid(numbers("H", "H", "H", "S"))


def test_the_table_is_frozen():
    assert len(smact_table()) == 103
    assert smact_table()["Fe"].states == (-2, -1, 1, 2, 3, 4, 5, 6)
    assert smact_table()["Fe"].metal and not smact_table()["C"].metal
    assert len(smact_digest()) == 12


def test_densities_of_textbook_crystals(textbook_crystals):
    known = {"NaCl": 2.163, "Si": 2.329, "rutile": 4.25, "CsCl": 3.988}
    for name, expected in known.items():
        assert density(crystal(textbook_crystals, name)) == pytest.approx(expected, rel=5e-3), name
