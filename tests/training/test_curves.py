"""The picture of training dynamics: drawn from a history, the same for the same history."""

import io

import numpy as np
import pytest
from PIL import Image

from unite.training.curves import draw_curves

HISTORY = [
    {"images": 64, "loss/l1": 0.5, "loss/flow": 0.1, "latent/std": 0.05},
    {"images": 128, "loss/l1": 0.3, "loss/flow": 0.4, "latent/std": 0.5},
    {"images": 128, "eval/psnr": 12.0},
    {"images": 192, "loss/l1": 0.2, "loss/flow": 0.6, "latent/std": 0.8},
    {"images": 192, "eval/psnr": 20.0},
]


def pixels(history) -> np.ndarray:
    png = draw_curves(history, metric="eval/psnr", collapse_std=0.1)
    return np.asarray(Image.open(io.BytesIO(png)).convert("L"))


@pytest.mark.parametrize("name", ["loss/l1", "loss/flow", "eval/psnr", "latent/std"])
def test_each_series_is_drawn(name):
    without = [{key: value for key, value in row.items() if key != name} for row in HISTORY]
    assert not np.array_equal(pixels(HISTORY), pixels(without))


def test_the_same_history_gives_the_same_file():
    assert np.array_equal(pixels(HISTORY), pixels(HISTORY))


def test_an_empty_history_is_drawn_empty():
    assert pixels([]).ndim == 2
