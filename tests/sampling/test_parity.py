"""Samples of the authors' implementation, from random weights in their layout."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from unite.checkpoints.load import load
from unite.sampling.generator import sample

FOLDER = Path(__file__).resolve().parents[1] / "parity" / "authors_tiny"
TOLERANCE = 5e-3


@pytest.fixture(scope="module")
def authors():
    return load_file(FOLDER / "activations.safetensors")


@pytest.fixture(scope="module")
def model():
    return load(str(FOLDER))


def test_dopri5_with_guidance_interval(model, authors):
    z, images = sample(
        model, authors["labels"], authors["sample_noise"], cfg_scale=2.0, cfg_interval=(0.1, 1.0)
    )
    torch.testing.assert_close(z, authors["sample_z_cfg2_interval"], rtol=0, atol=TOLERANCE)
    expected = authors["sample_image_cfg2_interval"].float()
    torch.testing.assert_close(images, expected, rtol=0, atol=TOLERANCE)


def test_dopri5_guided_everywhere(model, authors):
    z, _ = sample(
        model, authors["labels"], authors["sample_noise"], cfg_scale=2.0, cfg_interval=(0.0, 1.0)
    )
    torch.testing.assert_close(z, authors["sample_z_cfg2_full"], rtol=0, atol=TOLERANCE)
