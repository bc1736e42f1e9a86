import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from unite.domains.atoms.structure import Structure
from unite.metrics.atoms.distributions import (
    MISSING,
    bond_angles,
    bond_lengths,
    ring_sizes,
    total_variation,
    w1_bonds,
    wasserstein_1,
)

TOLERANCE = 0.25


def molecule(textbook_molecules, name: str) -> Structure:
    numbers, positions = textbook_molecules[name]
    return Structure(numbers=np.array(numbers), positions=np.array(positions, float))


def ring(size: int, bond: float = 1.5) -> Structure:
    """A regular polygon of carbon atoms."""
    angles = 2 * np.pi * np.arange(size) / size
    radius = bond / (2 * np.sin(np.pi / size))
    positions = radius * np.stack([np.cos(angles), np.sin(angles), 0 * angles], 1)
    return Structure(numbers=np.full(size, 6), positions=positions)


def test_wasserstein_agrees_with_scipy():
    generator = np.random.default_rng(0)
    for sizes in ((5, 9), (100, 37), (1, 4)):
        first, second = (generator.normal(size=n) for n in sizes)
        expected = wasserstein_distance(first, second)
        assert wasserstein_1(first, second) == pytest.approx(expected, rel=1e-12)
    assert wasserstein_1(np.array([1.0, 2]), np.array([1.5, 2.5])) == pytest.approx(0.5)
    assert np.isnan(wasserstein_1(np.zeros(0), np.ones(2)))


def test_total_variation_is_half_the_difference_of_frequencies():
    assert total_variation({"a": 1, "b": 1}, {"a": 2, "c": 2}) == 0.5
    assert total_variation({"a": 3}, {"a": 700}) == 0
    assert total_variation({"a": 3}, {"b": 1}) == 1
    assert np.isnan(total_variation({}, {"b": 1}))


def test_bonds_are_sorted_by_kind(textbook_molecules):
    whole = molecule(textbook_molecules, "formaldehyde")
    kinds, lengths = bond_lengths(whole, whole.bonds(TOLERANCE))
    assert kinds.tolist() == ["H-C", "H-C", "C-O"]
    assert lengths[2] == pytest.approx(1.205)
    other = molecule(textbook_molecules, "methane")
    kinds, lengths = bond_lengths(other, other.bonds(TOLERANCE))
    assert kinds.tolist() == ["H-C"] * 4
    assert lengths == pytest.approx([1.087] * 4, abs=1e-3)


def test_distance_of_bonds_is_weighted_and_a_missing_kind_counts():
    data = {"C-O": np.array([1.2, 1.2]), "H-C": np.array([1.1] * 6)}
    assert w1_bonds(data, data) == 0
    longer = {"C-O": np.array([1.3]), "H-C": np.array([1.1])}
    assert w1_bonds(longer, data) == pytest.approx(0.1 * 2 / 8)
    assert w1_bonds({"H-C": np.array([1.1])}, data) == pytest.approx(MISSING * 2 / 8)


def test_angles_of_methane(textbook_molecules):
    found = {
        name: bond_angles(each, each.bonds(TOLERANCE))
        for name in ("methane", "hydrogen fluoride")
        for each in [molecule(textbook_molecules, name)]
    }
    np.testing.assert_allclose(found["methane"], [109.47122] * 6, atol=1e-4)
    assert len(found["hydrogen fluoride"]) == 0


def test_rings_are_found_by_size(textbook_molecules):
    cases = [(ring(size), size) for size in (3, 6, 9)]
    cases += [(molecule(textbook_molecules, "methane"), 0), (ring(10), 0)]
    for structure, size in cases:
        assert ring_sizes(structure.bonds(TOLERANCE)) == [size]


def test_fused_rings_are_told_apart():
    """Two squares that share an edge: two rings of four, not one of six."""
    flat = [[0, 0, 0], [1.5, 0, 0], [1.5, 1.5, 0], [0, 1.5, 0], [3, 0, 0], [3, 1.5, 0]]
    squares = Structure(numbers=np.full(6, 6), positions=np.array(flat))
    assert ring_sizes(squares.bonds(TOLERANCE)) == [4, 4]
