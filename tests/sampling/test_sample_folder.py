"""PNGs of a folder of samples, read as they were written."""

import numpy as np
import pytest

from unite.sampling.grid import save_png
from unite.sampling.sample_folder import read_sample
from unite.storage import Store


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sample_is_read_to_the_bit_with_its_channels(tmp_path, channels):
    store = Store.open(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
    save_png(store, "one.png", pixels)
    found = read_sample(store, "one.png")
    assert found.shape == pixels.shape and np.array_equal(found, pixels)
