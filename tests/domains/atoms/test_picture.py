import numpy as np

from unite.domains.atoms.picture import SIDE, picture
from unite.domains.atoms.structure import Structure


def painted(picture_HWC: np.ndarray) -> int:
    """Number of pixels that are not white."""
    return int((picture_HWC < 250).any(-1).sum())


def molecule(textbook_molecules, name: str) -> Structure:
    numbers, positions = textbook_molecules[name]
    return Structure(numbers=np.array(numbers), positions=np.array(positions, float))


def test_a_molecule_shows_its_colours_and_fits(textbook_molecules):
    seen = picture(molecule(textbook_molecules, "formaldehyde"), 0.25)
    assert seen.shape == (SIDE, SIDE, 3) and seen.dtype == np.uint8
    red = (seen[..., 0] > 90) & (seen[..., 1] < 80) & (seen[..., 2] < 80)
    assert red.sum() > 20, "no oxygen"
    border = np.concatenate([seen[0], seen[-1], seen[:, 0], seen[:, -1]])
    assert (border == 255).all()


def test_bonds_are_drawn(textbook_molecules):
    whole = molecule(textbook_molecules, "carbon dioxide")
    assert painted(picture(whole, 0.25)) > painted(picture(whole, -1.0))


def test_a_crystal_shows_its_cell(textbook_crystals):
    cell = {name: np.array(values) for name, values in textbook_crystals["CsCl"].items()}
    atoms = {"numbers": cell["numbers"], "positions": cell["frac"] * 4.123}
    whole = Structure(**atoms, frac=cell["frac"], lengths=cell["lengths"], angles=cell["angles"])
    alone = Structure(**atoms)
    bluish = [
        int(((p[..., 2] > p[..., 0].astype(int) + 15) & (p[..., 2] < 220)).sum())
        for p in (picture(whole, 0.25), picture(alone, 0.25))
    ]
    assert bluish[0] > bluish[1]


def test_what_is_not_finite_leaves_the_picture_white():
    broken = Structure(numbers=np.array([6, 1]), positions=np.array([[0, 0, np.nan], [0, 0, 1.0]]))
    assert painted(picture(broken, 0.25)) == 0
    angles = np.array([30.0, 30.0, 120.0])  # of no cell
    flat = {"lengths": np.full(3, 4.0), "angles": angles, "frac": np.zeros((1, 3))}
    crystal = Structure(numbers=np.array([6]), positions=np.zeros((1, 3)), **flat)
    assert painted(picture(crystal, 0.25)) == 0
