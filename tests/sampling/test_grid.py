"""Grids, PNGs and npz files."""

import io

import numpy as np
import pytest
from PIL import Image

from unite.sampling.grid import GAP, image_grid, read_png, save_png, save_samples
from unite.storage import Store

RNG = np.random.default_rng(0)


def pictures(num, size=8, channels=3):
    return RNG.integers(0, 255, (num, size, size, channels), dtype=np.uint8)


def test_grid_places_enlarged_images_row_by_row():
    images = pictures(5)
    grid = image_grid(images, columns=2, scale=3)
    step = 8 * 3 + GAP
    assert grid.shape == (3 * step - GAP, 2 * step - GAP, 3) and grid.dtype == np.uint8
    for index, image in enumerate(images):
        top, left = index // 2 * step, index % 2 * step
        cell = grid[top : top + 24, left : left + 24]
        np.testing.assert_array_equal(cell[1::3, 1::3], image)
        np.testing.assert_array_equal(cell[::3, ::3], cell[2::3, 2::3])
    assert (grid[2 * step :, step:] == 255).all()


@pytest.mark.parametrize(("size", "side"), [(8, 64), (32, 64), (48, 96), (64, 64), (256, 256)])
def test_tiny_images_are_enlarged(size, side):
    assert image_grid(pictures(1, size), columns=1).shape == (side, side, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_round_trip(tmp_path, channels):
    image = pictures(1, 9, channels)[0]
    save_png(Store.open(tmp_path), "a/b.png", image)
    read = np.asarray(Image.open(tmp_path / "a/b.png"))
    np.testing.assert_array_equal(read, image if channels == 3 else image[..., 0])
    np.testing.assert_array_equal(read_png((tmp_path / "a/b.png").read_bytes()), image)


def test_samples_round_trip(s3):
    images, labels = pictures(4), np.array([3, 1, 2, 0], np.int32)
    store = Store.open(s3)
    save_samples(store, "out/samples.npz", images, labels)
    with np.load(io.BytesIO(store.read("out/samples.npz"))) as read:
        assert sorted(read.files) == ["arr_0", "images", "labels"]
        np.testing.assert_array_equal(read["images"], images)
        np.testing.assert_array_equal(read["labels"], labels)
        assert read["labels"].dtype == np.int64


def test_wrong_input_is_refused(tmp_path):
    store = Store.open(tmp_path)
    with pytest.raises(ValueError, match="uint8"):
        image_grid(pictures(2).astype(np.float32), columns=2)
    with pytest.raises(ValueError, match="uint8"):
        image_grid(pictures(2).transpose(0, 3, 1, 2), columns=2)
    with pytest.raises(ValueError, match="columns"):
        image_grid(pictures(2), columns=0)
    with pytest.raises(ValueError, match="4 images, but 3 labels"):
        save_samples(store, "x.npz", pictures(4), np.zeros(3))
    with pytest.raises(ValueError, match="uint8"):
        save_png(store, "x.png", pictures(1, channels=3)[0, ..., :2])
