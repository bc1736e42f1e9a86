"""Numbers of judged structures against counts by hand."""

import math

import numpy as np
import pytest

from unite.metrics.atoms.judged import (
    alike_numbers,
    by_kind,
    chosen,
    crystal_distances,
    crystal_rates,
    halves,
    jackknife,
    molecule_distances,
    molecule_rates,
    set_numbers,
)

JUDGED = {
    "rdkit": np.array([True, True, False, True]),
    "strict": np.array([True, False, False, True]),
    "stable": np.array([2, 3, 0, 1]),
    "atoms": np.array([2, 3, 1, 2]),
    "poses": np.array([[True, True], [True, False], [False, True]]),
    "numbers": np.array([1, 1, 6, 1, 8, 9, 7, 6]),
    "bonds": np.array([1, 2, 0, 1]),
    "bond_kinds": np.array(["H-H", "H-C", "H-O", "C-N"]),
    "bond_lengths": np.array([0.7, 1.1, 0.9, 1.2]),
    "angles": np.array([0, 1, 0, 0]),
    "bond_angles": np.array([104.0]),
    "rings": np.array([1, 1, 1, 2]),
    "ring_sizes": np.array([0, 0, 0, 3, 5]),
}


def test_structures_are_taken_with_all_that_belongs_to_them():
    kept = chosen(JUDGED, np.array([False, True, False, True]))
    assert kept["numbers"].tolist() == [6, 1, 8, 7, 6]
    assert kept["bond_kinds"].tolist() == ["H-C", "H-O", "C-N"]
    assert kept["bond_angles"].tolist() == [104.0]
    assert kept["ring_sizes"].tolist() == [0, 3, 5]
    assert kept["poses"].tolist() == [[True, False]]


def test_rates_are_shares_with_binomial_errors():
    rates = molecule_rates(JUDGED, ("first", "second"))
    assert rates["valid_rdkit_pct"] == (75.0, pytest.approx(100 * math.sqrt(0.75 * 0.25 / 4)), 4)
    assert rates["valid_strict_pct"][0] == 50.0
    assert "valid_pct" not in rates
    assert rates["stable_atoms_pct"][0] == 100 * 6 / 8
    assert rates["stable_molecules_pct"][0] == 50.0
    assert rates["pb_all_pct"][0] == pytest.approx(100 / 3)
    assert rates["pb_second_pct"][::2] == (50.0, 2)


def test_names_are_unique_and_novel_over_the_valid_ones():
    found = set_numbers(["C", "C", "N", "O"], {"C"}, {"C", "N"})
    assert [found[name][0] for name in ("unique_pct", "novel_pct", "novel_all_pct")] == [75, 50, 25]


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = np.arange(10.0) ** 2
    value, error, num = jackknife(lambda part: part["x"].mean(), {"x": values}, 10)
    assert (value, num) == (28.5, 10)
    assert error == pytest.approx(values.std(ddof=1) / math.sqrt(10), rel=1e-12)


def test_equal_sets_have_no_distance_and_halves_are_every_other_one():
    assert all(number[0] == 0 for number in molecule_distances(JUDGED, JUDGED).values())
    even, odd = halves(JUDGED, 4)
    assert even["numbers"].tolist() == [1, 1, 9] and odd["numbers"].tolist() == [6, 1, 8, 7, 6]
    assert molecule_distances(even, odd)["tv_elements"][0] > 0
    assert by_kind(odd)["C-N"].tolist() == [1.2]


def test_crystals_are_valid_by_structure_and_composition():
    judged = {
        "struct": np.array([True, True, False]),
        "comp": np.array([True, False, True]),
        "density": np.array([2.0, 4.0, np.nan]),
        "num_elements": np.array([2, 3, 3]),
    }
    rates = crystal_rates(judged)
    assert [round(rates[f"{name}_pct"][0]) for name in ("struct", "comp", "valid")] == [67, 67, 33]
    shifted = {**judged, "density": judged["density"] + 1}
    found = crystal_distances(judged, shifted)
    assert found["w1_density"][::2] == (1.0, 2) and found["w1_num_elements"][0] == 0


def test_groups_of_crystals_are_over_valid_ones_and_novel_groups_over_groups():
    found = alike_numbers({"valid": 8, "groups": 4, "novel": 3, "novel_all": 1})
    assert {name: number[0] for name, number in found.items()} == {
        **{"unique_pct": 50.0, "novel_pct": 75.0, "novel_all_pct": 25.0}
    }
    assert [number[2] for number in found.values()] == [8, 4, 4]
    assert math.isnan(
        alike_numbers(dict.fromkeys(("valid", "groups", "novel", "novel_all"), 0))["novel_pct"][0]
    )


def test_one_structure_has_no_standard_error():
    value, error, num = jackknife(lambda part: 1.0 * len(part["x"]), {"x": np.ones(1)}, 1)
    assert (value, num) == (1.0, 1) and math.isnan(error)
