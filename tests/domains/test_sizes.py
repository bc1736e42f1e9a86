"""Sizes of samples: counted, drawn by address, and as masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unite.domains.sizes import draw_sizes, mask_of, size_histogram
from unite.flow.random import stream_keys


def test_sizes_are_counted_over_batches():
    histogram_M = size_histogram(iter([np.array([3, 1, 3]), np.array([], int), np.array([4])]), 5)
    assert histogram_M.tolist() == [0, 1, 0, 2, 1, 0]
    with pytest.raises(ValueError, match="size 6, above the most, 5"):
        size_histogram([np.array([2, 6])], 5)


def test_sizes_are_drawn_with_the_frequencies_of_the_training_set():
    histogram_M = torch.tensor([0, 1, 0, 6, 3])
    keys_B = stream_keys(0, torch.arange(20_000))
    sizes_B = draw_sizes(keys_B, histogram_M)
    shares = torch.bincount(sizes_B, minlength=5) / len(sizes_B)
    # Four standard deviations of a share of 20,000 draws.
    torch.testing.assert_close(shares, histogram_M / 10, rtol=0, atol=4 * 0.5 / 20_000**0.5)
    assert not shares[[0, 2]].any()
    assert torch.equal(draw_sizes(keys_B[7:9], histogram_M), sizes_B[7:9]), "its own address"


def test_a_mask_marks_the_first_places():
    assert mask_of(torch.tensor([0, 2, 3]), 3).int().tolist() == [[0, 0, 0], [1, 1, 0], [1, 1, 1]]
