import numpy as np

from unite.domains.atoms.structure import Structure
from unite.domains.atoms.verdicts.native import Verdict, fragments, native_verdict


def molecule(numbers, positions) -> Structure:
    return Structure(numbers=np.array(numbers), positions=np.array(positions, float))


def test_textbook_structures_are_good(textbook_molecules, textbook_crystals):
    for name, parts in textbook_molecules.items():
        assert native_verdict(molecule(*parts), 0.25) == Verdict(True, "stable"), name
    for name, cell in textbook_crystals.items():
        arrays = {k: np.array(v) for k, v in cell.items()}
        crystal = Structure(positions=np.zeros((len(cell["frac"]), 3)), **arrays)
        assert native_verdict(crystal, 0.25) == Verdict(True, "valid"), name


def test_reasons(textbook_molecules, textbook_crystals):
    numbers, positions = textbook_molecules["water"]
    away = [positions[0], positions[1], [9, 9, 9]]
    assert native_verdict(molecule(numbers, away), 0.25).reason == "2 fragments"
    radical = molecule(numbers[:2], positions[:2])
    assert native_verdict(radical, 0.25).reason == "1 of 2 valences"
    broken = molecule(numbers, np.full((3, 3), np.nan))
    assert native_verdict(broken, 0.25).reason == "not finite"
    cell = {k: np.array(v) for k, v in textbook_crystals["NaCl"].items()}
    cell["numbers"] = np.array([11] * 6 + [9] * 2)
    charged = Structure(positions=np.zeros((8, 3)), **cell)
    assert native_verdict(charged, 0.25).reason == "no neutral oxidation states"


def test_fragments_are_connected_parts():
    bonded = np.zeros((5, 5), bool)
    for i, j in ((0, 1), (3, 4), (4, 1)):
        bonded[i, j] = bonded[j, i] = True
    assert fragments(bonded) == 2
    assert fragments(np.zeros((3, 3), bool)) == 3
