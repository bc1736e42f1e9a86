"""Limits of a training's stages, by hand."""

import math

import pytest

from unite.config.recipes import recipe
from unite.training.bottleneck import Machines, stages
from unite.training.flops import training_flops

CONFIG = recipe("unite-b")


def limits(**changes) -> dict[str, float]:
    machines = Machines(**{"gpus": 64, "rate": 1e14, **changes})
    found = stages(CONFIG, machines, parameters=10**8, state=2 * 10**9)
    assert [each.images_per_s for each in found] == sorted(each.images_per_s for each in found)
    return {each.name: each.images_per_s for each in found}


def test_each_limit_is_the_one_counted_by_hand():
    found = limits(cores_per_gpu=2.0, decode_rate=300.0, storage_rate=2e9, network_rate=1e10)
    assert found["compute"] == pytest.approx(64e14 / training_flops(CONFIG).total)
    assert found["decoding"] == 64 * 2 * 300
    assert found["storage"] == pytest.approx(8 * 2e9 / 39_600)
    # 1024 images a step; 0.4 GB of gradients, 2 * 7 / 8 of them through each node's network
    assert found["all-reduce"] == pytest.approx(1024 / (1.75 * 0.4e9 / 1e10))
    assert found["checkpoint"] == pytest.approx(CONFIG.checkpoint.every_images * 2e9 / 2e9)


def test_within_one_node_the_network_is_no_limit():
    assert math.isinf(limits(gpus=8)["all-reduce"])
    assert not math.isinf(limits(gpus=16)["all-reduce"])


def test_a_gpu_without_an_image_is_refused():
    with pytest.raises(ValueError, match="--gpus 2048 must divide training.batch_size = 1024"):
        limits(gpus=2048)
