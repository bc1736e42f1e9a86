"""Ranges of workers: what they may be, and the micro-batches that bound memory at each size."""

from __future__ import annotations

import pytest

from unite.config.finetune import FinetuneRunConfig, as_trained
from unite.config.recipes import recipe
from unite.config.schema import ClusterConfig, RunConfig, TrainingConfig
from unite.config.serialise import digest, from_dict, replace, to_dict
from unite.config.validate import validate
from unite.config.workers import accumulation, bounds, is_range, most_workers, sizes


def cluster(workers: int | str) -> ClusterConfig:
    return ClusterConfig(num_workers=workers)


def test_a_number_is_itself_and_a_range_has_two_ends():
    assert bounds(cluster(4)) == bounds(cluster("4..4")) == (4, 4)
    assert bounds(cluster("8..64")) == (8, 64) and most_workers(cluster("8..64")) == 64
    assert is_range(cluster("8..64"))
    assert not is_range(cluster(8)) and not is_range(cluster("8..8"))


@pytest.mark.parametrize(
    "text", ["", "8", "8..", "..8", "0..4", "8..4", "8-64", "8..64..1", "1.5..2"]
)
def test_text_that_is_no_range_is_named_with_what_one_is(text):
    config = replace(recipe("smoke"), {"cluster.num_workers": text})
    with pytest.raises(ValueError, match=r"cluster\.num_workers = .* such as 8\.\.64"):
        validate(config)


def test_only_numbers_that_divide_the_batch_count():
    assert sizes(cluster("3..12"), 32) == [4, 8]
    assert sizes(cluster("8..64"), 1024) == [8, 16, 32, 64]
    assert sizes(cluster(3), 32) == [3]
    config = replace(recipe("smoke"), {"cluster.num_workers": "5..7"})
    with pytest.raises(ValueError, match=r"5\.\.7: no number .* training\.batch_size = 32"):
        validate(config)


@pytest.mark.parametrize("micro_batch", [0, 3, 16])
@pytest.mark.parametrize("given", [1, 2])
def test_no_group_has_a_larger_micro_batch_than_the_largest(micro_batch, given):
    training = TrainingConfig(batch_size=192, accumulation=given, micro_batch=micro_batch)
    workers = cluster("2..24")
    most = micro_batch or 192 // (24 * given)
    for size in sizes(workers, 192):
        count = accumulation(training, workers, size)
        assert 192 % (size * count) == 0
        assert 192 // (size * count) <= most
        fewer = [n for n in range(1, count) if 192 % (size * n) == 0]
        assert all(192 // (size * n) > most for n in fewer), "no more than are needed"
    if not micro_batch:
        assert accumulation(training, workers, 24) == given


def test_half_the_workers_of_a_range_accumulate_twice_as_often():
    training = TrainingConfig(batch_size=1024, accumulation=2)
    assert [accumulation(training, cluster("4..8"), n) for n in (4, 8)] == [4, 2]
    assert accumulation(training, cluster(8), 8) == 2


def test_a_range_is_kept_and_changes_no_identity():
    plain = recipe("smoke")
    ranged = replace(plain, {"cluster.num_workers": "2..8"})
    assert from_dict(RunConfig, to_dict(ranged)) == ranged
    assert digest(ranged) == digest(plain)
    stored = to_dict(plain)
    del stored["training"]["micro_batch"]  # as of a run before it
    assert from_dict(RunConfig, stored) == plain
    assert stored["cluster"]["num_workers"] == 1


def test_a_fine_tuning_bounds_its_own_micro_batch():
    """Its batch and its networks are others than its parent's."""
    config = FinetuneRunConfig(
        training=TrainingConfig(micro_batch=64), cluster=ClusterConfig(num_workers="2..8")
    )
    trained = as_trained(config)
    assert accumulation(trained.training, trained.cluster, 8) == config.finetune.accumulation
