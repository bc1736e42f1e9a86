"""Raw arrays of drawn structures, as chunks keep them."""

import numpy as np
import pytest
import torch

from unite.domains.atoms.structure import Structure
from unite.evaluation.atoms.samples import check_finite, from_arrays, to_arrays
from unite.metrics.errors import MetricError


@pytest.mark.parametrize("crystals", [False, True])
def test_structures_come_back_as_they_were(crystals):
    generator = np.random.default_rng(0)
    made = []
    for size in (3, 1, 5):
        positions = generator.normal(size=(size, 3))
        cell = {"frac": positions % 1, "lengths": np.full(3, 4.5), "angles": np.full(3, 91.5)}
        numbers = generator.integers(1, 99, size)
        made.append(Structure(numbers=numbers, positions=positions, **(cell if crystals else {})))
    for before, after in zip(made, from_arrays(to_arrays(made)), strict=True):
        for name in ("numbers", "positions", "frac", "lengths", "angles"):
            assert np.array_equal(getattr(before, name), getattr(after, name)), name


def test_a_sample_that_is_not_finite_is_named():
    finite_B = torch.tensor([True, False, True])
    with pytest.raises(MetricError, match="sample 8 is not finite"):
        check_finite(finite_B, torch.tensor([7, 8, 9]), "sample")
