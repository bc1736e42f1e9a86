"""When a trial counts as finished: the storage says so, and nothing else."""

from __future__ import annotations

import logging

import pytest
import torch

from unite.ablation.options import SweepOptions
from unite.ablation.results import (
    Result,
    is_finished,
    is_trained,
    read_result,
    result_file,
    total_images,
    write_result,
)
from unite.ablation.trials import expand
from unite.checkpoints.store import CheckpointWriter, checkpoint_digest, latest
from unite.config.axes import find_axis
from unite.config.schema import CheckpointConfig
from unite.data.ingest.digits import prepare_digits
from unite.storage import Store
from unite.training.runs import open_run


@pytest.fixture
def work(tmp_path):
    prepare_digits(Store.open(tmp_path / "data" / "digits"))
    options = SweepOptions(scale="smoke", storage=str(tmp_path), values=("shared",))
    return expand(find_axis("weight_sharing"), options).works[0]


def save(work, images: int):
    run = open_run(work.config)
    writer = CheckpointWriter(run=run.folder, config=CheckpointConfig(asynchronous=False))
    parts = {part: {"w": torch.full((1,), images)} for part in ("model", "ema", "optimizer")}
    writer.save(parts, {"images": images, "step": 0, "metrics": {}})
    return run


def result_of(run) -> Result:
    return Result(
        metrics={"eval/generation/fd-pixels": 0.5},
        images=256,
        parameters=1,
        flops=1.0,
        checkpoint=checkpoint_digest(latest(run.folder)),
        remarks=("a remark",),
    )


def test_a_trial_is_finished_with_its_last_checkpoint_and_its_result(work):
    run = save(work, 128)
    assert total_images(run) == 256
    assert not is_trained(run) and not is_finished(work)
    run = save(work, 256)
    assert is_trained(run) and not is_finished(work)
    write_result(run, work.trials[0], result_of(run))
    assert is_finished(work)
    assert read_result(run, work.trials[0]) == result_of(run)


def test_a_result_of_an_older_checkpoint_does_not_count(work):
    run = save(work, 256)
    write_result(run, work.trials[0], result_of(run))
    save(work, 512)
    assert not is_finished(work)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b'{"metrics": {}', b'{"metrics": {}}', b'{"metrics": {}, "remarks": []}'],
)
def test_a_half_written_result_is_made_again_and_said(work, content, caplog):
    run = save(work, 256)
    run.folder.write(result_file(work.trials[0]), content)
    with caplog.at_level(logging.WARNING):
        assert read_result(run, work.trials[0]) is None
    assert "is measured again" in caplog.text


def test_another_protocol_is_another_result(work, tmp_path):
    options = SweepOptions(scale="smoke", storage=str(tmp_path), values=("shared",), samples=70)
    other = expand(find_axis("weight_sharing"), options).works[0]
    run = save(work, 256)
    write_result(run, work.trials[0], result_of(run))
    assert other.digest == work.digest
    assert not is_finished(other)
