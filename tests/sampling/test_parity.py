"""Samples of the authors' implementation, from random weights in their layout."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from unite.checkpoints.load import load
from unite.sampling.generator import sample

FOLDER = Path(__file__).resolve().parents[1] / "parity" / "authors_tiny"
"""The authors sampled in float32, whose rounding has a say in dopri5's steps. Ours are drawn in
float64, so that every machine takes the same steps and only theirs are off."""


@pytest.fixture(scope="module")
def authors():
    return load_file(FOLDER / "activations.safetensors")


@pytest.fixture(scope="module")
def draw(authors):
    model = load(str(FOLDER)).double()
    noise = authors["sample_noise"].double()

    def draw(interval):
        z, images = sample(model, authors["labels"], noise, cfg_scale=2.0, cfg_interval=interval)
        return z.float(), images.float()

    return draw


def test_dopri5_with_guidance_interval(draw, authors):
    z, images = draw((0.1, 1.0))
    torch.testing.assert_close(z, authors["sample_z_cfg2_interval"], rtol=0, atol=2e-4)
    # They were kept in float16, whose unit is 1e-3 from 1 on.
    expected = authors["sample_image_cfg2_interval"].float()
    torch.testing.assert_close(images, expected, rtol=1e-3, atol=1e-3)


def test_dopri5_guided_everywhere(draw, authors):
    """Their steps differ here from those of exact arithmetic, which is worth 3e-3."""
    z, _ = draw((0.0, 1.0))
    torch.testing.assert_close(z, authors["sample_z_cfg2_full"], rtol=0, atol=5e-3)
