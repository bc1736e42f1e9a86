"""Defaults of the domains' base class."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unite.config.recipes import recipe
from unite.domains import build_domain
from unite.domains.base import matrix_weights

CONFIG = recipe("smoke")
DOMAIN = build_domain(CONFIG.domain)


def test_samples_are_taken_out_of_tensors_and_dicts():
    sample = {"points": torch.arange(12).view(4, 3), "mask": None}
    assert DOMAIN.take(sample, slice(1, 3))["points"].tolist() == [[3, 4, 5], [6, 7, 8]]
    assert DOMAIN.take(sample, torch.tensor([3]))["points"].tolist() == [[9, 10, 11]]
    assert DOMAIN.take(sample, slice(1))["mask"] is None
    assert DOMAIN.take(sample["points"], slice(2, 3)).tolist() == [[6, 7, 8]]
    with pytest.raises(TypeError, match="ImagesDomain.take does not know a list"):
        DOMAIN.take([1, 2], slice(1))


def test_samples_of_one_size_need_nothing_of_the_training_set():
    fields = {"image": None}
    assert DOMAIN.sizes(fields) is None and DOMAIN.trim(fields, 3) is fields

    def unread():
        raise AssertionError("the training set was read")
        yield

    assert DOMAIN.statistics(unread()) == {}
    assert DOMAIN.draw_mask(torch.arange(4), {}, torch.zeros(4)) is None


def test_operations_are_those_of_every_weight_on_every_token():
    width, patch = CONFIG.model.encoder.width, CONFIG.domain.patch**2
    assert DOMAIN.embedder_macs(CONFIG.model) == 16 * patch * width
    assert DOMAIN.head_macs(CONFIG.model) == 16 * patch * CONFIG.model.decoder.width
    assert matrix_weights(nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5))) == 15
