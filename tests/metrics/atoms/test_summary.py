import math

import numpy as np
import pytest

from unite.metrics.atoms.summary import mean, percentage, reconstruction


def test_percentages_have_binomial_errors():
    assert percentage(50, 100) == (50, pytest.approx(5))
    assert percentage(7, 7) == (100, 0)
    assert all(map(math.isnan, percentage(0, 0)))


def test_means_have_standard_errors():
    assert mean(np.array([1.0, 2, 3])) == (2, pytest.approx(1 / 3**0.5))
    assert all(map(math.isnan, mean(np.zeros(0))))


def test_a_reconstruction_is_told_by_all_samples_and_by_the_matched_ones():
    metrics = {"match_pct": np.array([100, 0, 100, 100]), "rmsd_all": np.array([0.1, 3, 0.2, 0.3])}
    found = reconstruction(metrics)
    assert found["match_pct"] == 75
    assert found["rmsd_all"] == pytest.approx(0.9)
    assert found["rmsd_matched"] == pytest.approx(0.2)
    assert found["rmsd_median"] == pytest.approx(0.25)
    assert 0.3 < found["rmsd_p90"] < 3
    nothing = {"match_pct": np.zeros(2), "rmsd_all": np.ones(2)}
    assert math.isnan(reconstruction(nothing)["rmsd_matched"])
