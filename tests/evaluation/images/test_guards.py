import logging

import numpy as np
import pytest
import torch

from unite.evaluation.images.extractors import Pixels
from unite.evaluation.images.features import Features
from unite.evaluation.images.guards import ImageGuard, bias_warning, self_test
from unite.metrics.errors import MetricError

SHAPE = (1, 4, 4)


def images(num: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num, *SHAPE), generator=generator, dtype=torch.uint8)


def look(*batches: torch.Tensor, first: int = 0) -> None:
    """Show batches to a guard, as samples first, first + 1, ..., and ask it."""
    guard = ImageGuard()
    for batch in batches:
        guard.add(batch, np.arange(len(batch)) + first + guard.num)
    guard.check()


def test_good_images_pass_in_silence(caplog):
    look(images(5))
    look(images(5).float() / 255)
    assert not caplog.records


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_images_that_are_not_finite_are_refused(bad):
    broken = images(4).float()
    broken[2, 0, 1, 1] = bad
    with pytest.raises(MetricError, match="1 of 4 images hold NaN .* first sample 12"):
        ImageGuard().add(broken, np.arange(10, 14))


def test_a_collapsed_model_is_refused_and_single_blanks_are_warned_of(caplog):
    pictures = images(4)
    pictures[1] = 7
    with caplog.at_level(logging.WARNING):
        look(pictures, first=10)
    assert "1 of 4 images are of a single colour, first sample 11" in caplog.text
    pictures[2:] = 0
    with pytest.raises(MetricError, match="3 of 4 images are of a single colour, first sample 11"):
        look(pictures, first=10)


def test_a_coloured_image_without_structure_is_constant_too():
    flat = torch.tensor([10, 20, 30], dtype=torch.uint8)[None, :, None, None].expand(2, 3, 4, 4)
    with pytest.raises(MetricError, match="single colour"):
        look(flat)


def test_one_blank_image_in_a_batch_of_its_own_condemns_nobody():
    pictures = images(4)
    pictures[1] = 7
    look(*pictures.split(1))
    with pytest.raises(MetricError, match="1 of 1 images hold NaN"):
        look(*torch.full((2, *SHAPE), torch.nan).split(1))


def test_too_few_samples_are_warned_of():
    assert bias_warning(2049, 2048) is None
    assert "2048 samples for 2048 features" in bias_warning(2048, 2048)
    assert "biased upwards" in bias_warning(100, 2048)


class Broken(Pixels):
    """Pixels, damaged on purpose."""

    def __init__(self, damage: str) -> None:
        super().__init__(SHAPE)
        self.damage = damage

    def features(self, images_BCHW: torch.Tensor) -> Features:
        made = super().features(images_BCHW)
        x = made["features"]
        damaged = {
            "shape": x[:, :-1],
            "nan": x * torch.nan,
            "batch": x - x.mean(dim=0),
            "logits": x,
        }[self.damage]
        logits = x if self.damage == "logits" else None
        return {"features": damaged, "logits": logits}


def test_the_self_test_passes_a_good_extractor():
    self_test(Pixels(SHAPE), images(8))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("shape", r"\(8, 15\), not \(samples, 16\)"),
        ("nan", "8 of 8 samples are NaN"),
        ("batch", "change by .* with its batch"),
        ("logits", "gave 16 logits instead of 0"),
    ],
)
def test_the_self_test_finds_a_broken_extractor(damage, message):
    with pytest.raises(MetricError, match=message):
        self_test(Broken(damage), images(8))
