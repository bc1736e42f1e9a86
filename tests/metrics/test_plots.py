"""Figures: the same bytes for the same data, every series drawn, misuse refused."""

import io

import numpy as np
import pytest
from PIL import Image

from unite.metrics.noise_levels import Trajectory, TrajectoryConfig
from unite.metrics.pathways import Alignment, AlignmentConfig
from unite.metrics.plots import plot_alignment, plot_entropy, plot_trajectory
from unite.metrics.weight_entropy import TensorEntropy, WeightEntropy


def alignment(seed):
    curves = np.random.default_rng(seed).uniform(size=(3, 5, 4))
    return Alignment(
        config=AlignmentConfig(),
        num_images=20,
        num_rows=320,
        num_neighbor_rows=64,
        cka=curves[0],
        cknna=curves[1],
        cosine=curves[2],
        latent_cosine=curves[0, :, 0],
    )


def trajectory(offset):
    psnr = np.array([10.0, 20.0, 25.0, 30.0]) + offset
    return Trajectory(config=TrajectoryConfig(), num_samples=5, metrics={"psnr": psnr})


def entropy(bins):
    groups = ("norm", "functional", "other")
    tensors = tuple(TensorEntropy(name=g, group=g, num_elements=9, bits=3.0) for g in groups)
    return WeightEntropy(bins=bins, tensors=tensors)


def draw_all():
    return {
        "one": plot_alignment({"shared": alignment(0)}),
        "two": plot_alignment({"shared": alignment(0), "separate": alignment(1)}),
        "trajectory": plot_trajectory({"shared": trajectory(0), "separate": trajectory(3)}),
        "entropy": plot_entropy({"random": entropy(256), "trained": entropy(256)}),
    }


def test_figures_are_deterministic_pictures():
    first, second = draw_all(), draw_all()
    assert first == second
    for picture in first.values():
        width, height = Image.open(io.BytesIO(picture.png)).size
        assert width > height > 300
        assert picture.svg.startswith(b"<?xml") and picture.svg.rstrip().endswith(b"</svg>")


def test_data_and_labels_reach_the_figure():
    pictures = draw_all()
    assert plot_alignment({"shared": alignment(2)}).png != pictures["one"].png
    assert b"t = 0.3" in pictures["one"].svg and b"CKNNA: k = 10 of 64 rows" in pictures["one"].svg
    assert b"separate" in pictures["two"].svg
    assert b"PSNR to the input (dB)" in pictures["trajectory"].svg
    # Ours and the paper's, with the bin count.
    assert b"256 bins" in pictures["entropy"].svg and b"179.2" in pictures["entropy"].svg


def test_bin_counts_are_not_mixed():
    with pytest.raises(ValueError, match=r"bin counts \[256, 2048\] cannot be compared"):
        plot_entropy({"random": entropy(256), "trained": entropy(2048)})
