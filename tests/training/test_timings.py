"""Times are kept by machine, and what is expected says what it rests on."""

import pytest

from unite.config.recipes import recipe
from unite.config.serialise import replace
from unite.storage import Store
from unite.training import timings
from unite.training.flops import training_flops
from unite.training.timings import (
    KEPT,
    RAY,
    TYPICAL,
    WORKERS,
    Expected,
    Timings,
    expect_training,
    note_training,
)


@pytest.fixture
def config(tmp_path):
    return replace(recipe("smoke"), {"storage": str(tmp_path)})


def test_the_last_values_are_kept_and_their_median_counts(tmp_path):
    kept = Timings(Store.open(tmp_path))
    assert kept.seconds(RAY) == TYPICAL[RAY]
    for value in range(10):
        kept.add({RAY: value})
    assert kept.values(RAY) == [float(value) for value in range(10)][-KEPT:]
    assert kept.seconds(RAY) == 7


def test_another_machine_is_asked_of_its_own(tmp_path, monkeypatch):
    kept = Timings(Store.open(tmp_path))
    kept.add({RAY: 3})
    monkeypatch.setattr(timings, "machine", lambda: "a laptop")
    assert kept.values(RAY) == []
    kept.add({RAY: 5})
    assert kept.values(RAY) == [5]
    monkeypatch.undo()
    assert kept.values(RAY) == [3]


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"x": 1}', b"\xff"])
def test_a_broken_file_is_no_reason_to_fail(tmp_path, content):
    (tmp_path / timings.FILE).write_bytes(content)
    kept = Timings(Store.open(tmp_path))
    assert kept.values(RAY) == []
    kept.add({RAY: 1})


def test_without_history_or_a_rate_nothing_is_promised(config):
    assert expect_training(config, 1000) is None
    flops = training_flops(config).total
    expected = expect_training(config, 1000, rate=flops * 100)
    assert expected.parts["training"] == pytest.approx(10)
    assert "timed now" in str(expected)


def test_a_run_like_an_earlier_one_takes_as_long(config):
    note_training(config, images=500, seconds=10)
    Timings(Store.open(config.storage)).add({RAY: 8, WORKERS: 12})
    expected = expect_training(config, 1000)
    assert expected.parts["training"] == pytest.approx(20, rel=1e-3)
    assert expected.parts["start-up"] == 20
    assert str(expected).endswith("(from 1 earlier run of smoke on this machine)")
    wider = replace(config, {"cluster.num_workers": 2})
    assert expect_training(wider, 1000) is None, "two workers are another rate"


def test_moments_say_nothing_about_a_rate(config):
    note_training(config, images=0, seconds=10)
    note_training(config, images=32, seconds=0.1)
    assert expect_training(config, 1000) is None


def test_a_session_stopped_before_its_second_evaluation_says_nothing_about_a_rate(config):
    interval = config.evaluation.every_images
    note_training(config, images=interval - 1, seconds=76, stopped=True)
    assert expect_training(config, 1000) is None
    note_training(config, images=interval, seconds=10, stopped=True)
    expected = expect_training(config, interval * 3)
    assert expected.parts["training"] == pytest.approx(30, rel=1e-3)


def test_the_words():
    expected = Expected(parts={"start-up": 80, "training": 30}, basis="typical")
    assert str(expected) == "about 2 min: 1:20 start-up, 0:30 training (typical)"
