"""The Niggli cell is one of the same crystal, the most compact, and unique."""

import numpy as np
import pytest

from unite.data.ingest.atoms.niggli import cell_parameters, cell_vectors, reduce_cell


def matrix(lengths, angles):
    return cell_vectors(np.array(lengths, float), np.array(angles, float))


def unimodular(seed: int) -> np.ndarray:
    """A product of shears: integers, determinant 1."""
    rng = np.random.default_rng(seed)
    total = np.eye(3, dtype=int)
    for _ in range(4):
        shear = np.eye(3, dtype=int)
        first, second = rng.permutation(3)[:2]
        shear[first, second] = rng.integers(-2, 3)
        total = shear @ total
    return total


def test_vectors_and_parameters_are_inverse():
    lengths, angles = np.array([3.0, 4.0, 5.0]), np.array([70.0, 85.0, 100.0])
    found = cell_parameters(matrix(lengths, angles))
    np.testing.assert_allclose(found["lengths"], lengths, rtol=1e-14)
    np.testing.assert_allclose(found["angles"], angles, rtol=1e-10)
    assert np.linalg.det(matrix(lengths, angles)) > 0


@pytest.mark.parametrize("seed", range(20))
def test_every_cell_of_a_lattice_comes_to_one(seed):
    """All angles acute, or none: far from the borders, so that no comparison is of equals."""
    rng = np.random.default_rng(seed)
    lengths = np.sort(rng.uniform(3, 8, 3))
    low, high = ((70, 85), (95, 105))[seed % 2]
    cell = matrix(lengths, rng.uniform(low, high, 3))
    first = reduce_cell(cell)
    other_cell = unimodular(seed) @ cell
    other = reduce_cell(other_cell)
    assert round(np.linalg.det(first)) == round(np.linalg.det(other)) == 1
    one, two = cell_parameters(first @ cell), cell_parameters(other @ other_cell)
    np.testing.assert_allclose(one["lengths"], two["lengths"], rtol=1e-9)
    np.testing.assert_allclose(one["angles"], two["angles"], rtol=1e-7)
    assert (np.diff(one["lengths"]) >= 0).all()
    assert (one["angles"] < 90).all() or (one["angles"] >= 90).all()


def test_a_rhombohedral_cell_of_sharp_angles_becomes_compact():
    """One of MP20's, of 8 degrees."""
    cell = matrix((29.5517, 29.5517, 29.5517), (8.4364, 8.4364, 8.4364))
    found = cell_parameters(reduce_cell(cell) @ cell)
    np.testing.assert_allclose(found["lengths"], [4.34735, 4.34735, 29.5517], rtol=1e-5)
    assert 50 < found["angles"].min() and found["angles"].max() < 130


def test_cubic_cells_stay():
    cell = matrix((4.0, 4.0, 4.0), (90.0, 90.0, 90.0))
    found = cell_parameters(reduce_cell(cell) @ cell)
    assert found["lengths"].tolist() == [4, 4, 4] and found["angles"].tolist() == [90, 90, 90]


def test_it_agrees_with_pymatgen():
    core = pytest.importorskip("pymatgen.core", reason="extra [chem] is not installed")
    for seed in range(10):
        rng = np.random.default_rng(seed)
        cell = unimodular(seed) @ matrix(np.sort(rng.uniform(3, 8, 3)), rng.uniform(70, 85, 3))
        theirs = core.Lattice(cell).get_niggli_reduced_lattice()
        ours = cell_parameters(reduce_cell(cell) @ cell)
        np.testing.assert_allclose(ours["lengths"], theirs.lengths, rtol=1e-9)
        np.testing.assert_allclose(ours["angles"], theirs.angles, rtol=1e-7)


@pytest.mark.parametrize(
    ("lengths", "angles", "reason"),
    [
        ((3, 4, np.nan), (90, 90, 90), "nonfinite: lengths"),
        ((3, 4, 5), (90, np.inf, 90), "nonfinite: angles"),
        ((3, 4, 0.5), (90, 90, 90), "bad_cell: lengths .* must be above 0.5"),
        ((3, 4, -5), (90, 90, 90), "bad_cell: lengths"),
        ((3, 4, 5), (90, 180, 90), "bad_cell: angles .* must lie between 0 and 180"),
        ((3, 4, 5), (60, 60, 130), "bad_cell: angles .* span no volume"),
        ((3, 4, 5), (60, 60, 120), "bad_cell: angles .* span no volume"),
        ((3, 4), (90, 90, 90), "shape: lengths holds 2 numbers, not 3"),
    ],
)
def test_cells_that_are_none(lengths, angles, reason):
    with pytest.raises(ValueError, match=reason):
        matrix(lengths, angles)
