"""Decoded predictions by noise level: means over samples that do not depend on the split."""

import math

import numpy as np
import pytest
import torch

from unite.evaluation.instruments import Rows
from unite.evaluation.suites.trajectory import decode_levels, levels_grid
from unite.metrics.accumulator import Sums
from unite.metrics.noise_levels import TrajectoryConfig, level_means, level_sums
from unite.sampling.passes import tokenize_rows

CONFIG = TrajectoryConfig(levels=(0.3, 1.0))


@pytest.fixture(scope="module")
def data():
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return images, torch.arange(6) + 100, torch.arange(6)


def batch_of(images, rows, labels=None):
    return Rows(rows_B=rows, sample=images, labels_B=labels, mask_BK=None)


def sums_of(config, model, images, rows, labels=None):
    """The decoded predictions of a batch, as the suite counts them."""
    with torch.inference_mode():
        decoded = decode_levels(config, model, batch_of(images, rows, labels))
        return level_sums([model.domain.reconstruction_metrics(each, images) for each in decoded])


def measure(model, data, *batches):
    images, rows, labels = data
    sums = Sums()
    for batch in batches:
        sums.update(**sums_of(CONFIG, model, images[batch], rows[batch], labels[batch]))
    return sums


class IdealModel:
    """Latent = the image's own pixels; the prediction is z_t itself, so errors are known."""

    class Config:
        class encoder:  # noqa: N801
            tokenize_t_max = 0.01

    config, noise_shape = Config, (16, 4)

    def __init__(self, domain):
        self.domain = domain

    def tokenize(self, sample, noise, t, activations=None):
        return sample.reshape(-1, 16, 4)

    def denoise(self, z, t, labels, mask_BK=None, activations=None):
        return z

    def decode(self, z, mask=None):
        return z.reshape(-1, 1, 8, 8)


def test_levels_are_what_they_say(model, data):
    """At t = 1 the model sees clean data; PSNR follows from the known error at t = 0.9."""
    images, rows, _ = data
    config = TrajectoryConfig(levels=(0.0, 0.9, 1.0), condition="null")
    ideal = IdealModel(model.domain)
    noise, near, clean, direct = decode_levels(config, ideal, batch_of(images, rows))
    assert torch.equal(clean, images) and torch.equal(direct, images)
    eps = noise.flatten()
    assert abs(float(eps.mean())) < 0.2 and float(eps.std()) == pytest.approx(1.0, abs=0.15)
    torch.testing.assert_close(near, 0.9 * images + 0.1 * noise)
    _, means = level_means(sums_of(config, ideal, images, rows))
    errors = (near.clamp(0, 1) - images).square().mean(dim=(1, 2, 3))
    expected = np.mean([-10 * math.log10(e) for e in errors.tolist()])
    assert means["psnr"][1] == pytest.approx(expected, abs=1e-4)


def test_last_column_decodes_the_clean_latent(model, data):
    images, rows, labels = data
    _, means = level_means(measure(model, data, slice(0, 6)).result())
    assert len(means["psnr"]) == 3
    with torch.inference_mode():
        direct = model.decode(tokenize_rows(model, images, rows, seed=0))
    psnr = model.domain.reconstruction_metrics(direct, images)["psnr"].mean()
    assert means["psnr"][-1] == pytest.approx(float(psnr), abs=1e-5)


def test_batches_and_workers_do_not_change_the_result(model, data):
    num, whole = level_means(measure(model, data, slice(0, 6)).result())
    merged = measure(model, data, slice(4, 6))
    part = measure(model, data, slice(0, 1), slice(1, 4))
    merged.merge(part.to_arrays())
    merged.merge(Sums().to_arrays())
    merged_num, found = level_means(merged.result())
    assert merged_num == num == 6
    for name, values in whole.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4)


def test_grid_has_inputs_on_top(model, data):
    images, rows, labels = data
    batch = batch_of(images, rows, labels)
    with torch.inference_mode():
        pictures = decode_levels(CONFIG, model, batch)
    grid = levels_grid(model.domain, batch, pictures)
    assert grid.dtype == np.uint8 and grid.ndim == 3
    # 8 x 8 pixels are enlarged eightfold, with two pixels of white between the pictures.
    assert grid.shape == (4 * 66 - 2, 6 * 66 - 2, 1)
    for row, batch in enumerate([images, *pictures]):
        for column in (0, 5):
            corner = grid[row * 66 : row * 66 + 64 : 8, column * 66 : column * 66 + 64 : 8]
            np.testing.assert_array_equal(corner, model.domain.render(batch)[column].numpy())


def test_what_cannot_be_measured_is_refused(model, data):
    images, rows, _ = data
    with pytest.raises(ValueError, match="'label' needs labels_B"):
        sums_of(CONFIG, model, images, rows)
    with pytest.raises(ValueError, match="no samples"):
        level_means(Sums().result())
    with pytest.raises(ValueError, match="levels"):
        TrajectoryConfig(levels=())
