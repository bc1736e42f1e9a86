"""A finished sweep, typed again, says its verdict at once."""

from dataclasses import replace

import pytest

from typed import typed
from unite.ablation.finished import FILE, keep, record_of
from unite.ablation.options import SweepOptions
from unite.checkpoints.layout import MARKER, folder_of
from unite.config.axes import find_axis
from unite.config.schema import TrackingConfig
from unite.storage import Store

AXIS = find_axis("noise")
LINES = ["Best FD-pixels: 22.11", "", "place"]


@pytest.fixture(autouse=True)
def untracked(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def options(tmp_path):
    return SweepOptions(scale="smoke", storage=str(tmp_path / "runs"))


@pytest.fixture
def figure(tmp_path):
    return Store.open(tmp_path / "runs" / "sweeps" / "sweep-noise-smoke") / "table6_top.png"


@pytest.fixture
def run(options, figure):
    """A trial's run with one committed checkpoint, of a sweep that is finished."""
    run = Store.open(options.storage) / "smoke-1"
    folder_of(run, 256).write_json(MARKER, {"sha256": {}})
    figure.write("", b"a figure")
    keep(record_of(AXIS, options), LINES, [figure], [run.uri, run.uri])
    return run


def told(options, axis=AXIS):
    return record_of(axis, options).lines()


def test_a_whole_sweep_is_found(run, options, figure):
    *lines, last = told(options)
    assert lines == LINES
    assert last.endswith(f"nothing to do. To do it again, delete {figure.uri[:-14]}{FILE}")
    assert told(replace(options, wait_s=9.0))[:-1] == LINES


def test_other_sweeps_and_runs_that_changed_are_not(run, options):
    assert told(replace(options, seeds=2)) is None
    assert told(options, find_axis("shift")) is None
    assert told(replace(options, out="there")) is None
    folder_of(run, 512).write_json(MARKER, {"sha256": {}})
    assert told(options) is None, "the run trained on"
    run.delete()
    assert told(options) is None, "the run is gone"


def test_a_figure_that_was_deleted_is_drawn_again(run, options, figure):
    figure.delete()
    assert told(options) is None


def test_a_sweep_that_another_server_is_to_have_is_not_finished(run, options, monkeypatch):
    assert told(replace(options, tracking=TrackingConfig(enabled=False))) is None
    assert told(replace(options, tracking=TrackingConfig(uri="http://there"))) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there")
    assert told(options) is None


def test_other_code_may_judge_otherwise(run, options, monkeypatch):
    monkeypatch.setattr("unite.ablation.finished.code_digest", lambda package: "0" * 64)
    assert told(options) is None


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}"])
def test_a_broken_record_is_no_finished_sweep(run, options, figure, content):
    Store(figure.uri.rpartition("/")[0]).write(FILE, content)
    assert told(options) is None


def test_the_command_loads_nothing_heavy(run, options):
    words = ["ablations/sweep_noise.py", "--scale", "smoke", "--storage", options.storage]
    done = typed(*words)
    assert "nothing to do" in done.stdout and LINES[0] in done.stdout
