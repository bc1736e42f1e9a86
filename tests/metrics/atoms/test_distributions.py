import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from unite.domains.atoms.structure import Structure
from unite.metrics.atoms.distributions import (
    MISSING,
    bond_angles,
    bond_lengths,
    ring_counts,
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
    both = [molecule(textbook_molecules, name) for name in ("formaldehyde", "methane")]
    found = bond_lengths(both, TOLERANCE)
    assert {kind: len(lengths) for kind, lengths in found.items()} == {"C-O": 1, "H-C": 6}
    assert found["C-O"][0] == pytest.approx(1.205)
    assert sorted(found["H-C"])[0] == pytest.approx(1.087, abs=1e-3)


def test_distance_of_bonds_is_weighted_and_a_missing_kind_counts():
    data = {"C-O": np.array([1.2, 1.2]), "H-C": np.array([1.1] * 6)}
    assert w1_bonds(data, data) == 0
    longer = {"C-O": np.array([1.3]), "H-C": np.array([1.1])}
    assert w1_bonds(longer, data) == pytest.approx(0.1 * 2 / 8)
    assert w1_bonds({"H-C": np.array([1.1])}, data) == pytest.approx(MISSING * 2 / 8)


def test_angles_of_methane(textbook_molecules):
    angles = bond_angles([molecule(textbook_molecules, "methane")], TOLERANCE)
    np.testing.assert_allclose(angles, [109.47122] * 6, atol=1e-4)
    assert len(bond_angles([molecule(textbook_molecules, "hydrogen fluoride")], TOLERANCE)) == 0


def test_rings_are_found_by_size(textbook_molecules):
    counts = ring_counts([ring(3), ring(6), molecule(textbook_molecules, "methane")], TOLERANCE)
    assert counts == {3: 1, 6: 1, 0: 1}
    assert ring_counts([ring(9)], TOLERANCE) == {9: 1}
    assert ring_counts([ring(10)], TOLERANCE) == {0: 1}


def test_fused_rings_are_told_apart():
    """Two squares that share an edge: two rings of four, not one of six."""
    flat = [[0, 0, 0], [1.5, 0, 0], [1.5, 1.5, 0], [0, 1.5, 0], [3, 0, 0], [3, 1.5, 0]]
    squares = Structure(numbers=np.full(6, 6), positions=np.array(flat))
    assert ring_counts([squares], TOLERANCE) == {4: 2}
