"""A finished sweep, typed again, says its verdict at once."""

import pytest

from typed import typed
from unite.ablation.finished import FILE, find_finished, keep_finished
from unite.ablation.options import SweepOptions
from unite.checkpoints.layout import MARKER, folder_of
from unite.config.axes import find_axis
from unite.storage import Store

AXIS = find_axis("noise")
LINES = ["Best FD-pixels: 22.11", "", "place"]


@pytest.fixture
def options(tmp_path):
    return SweepOptions(scale="smoke", storage=str(tmp_path / "runs"))


@pytest.fixture
def run(options):
    """A trial's run with one committed checkpoint, of a sweep that is finished."""
    run = Store.open(options.storage) / "smoke-1"
    folder_of(run, 256).write_json(MARKER, {"sha256": {}})
    keep_finished(AXIS, options, {run.uri: 256}, LINES)
    return run


def test_a_whole_sweep_is_found(run, options):
    assert find_finished(AXIS, options) == LINES


def test_other_sweeps_and_runs_that_changed_are_not(run, options):
    storage = options.storage
    assert find_finished(AXIS, SweepOptions(scale="smoke", storage=storage, seeds=2)) is None
    assert find_finished(find_axis("shift"), options) is None
    assert find_finished(AXIS, SweepOptions(scale="smoke", storage=storage, out="there")) is None
    folder_of(run, 512).write_json(MARKER, {"sha256": {}})
    assert find_finished(AXIS, options) is None, "the run trained on"
    run.delete()
    assert find_finished(AXIS, options) is None, "the run is gone"


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}"])
def test_a_broken_record_is_no_finished_sweep(run, options, content):
    (Store.open(options.storage) / "sweeps" / "sweep-noise-smoke").write(FILE, content)
    assert find_finished(AXIS, options) is None


def test_the_command_loads_nothing_heavy(run, options):
    words = ["ablations/sweep_noise.py", "--scale", "smoke", "--storage", options.storage]
    done = typed(*words)
    assert "finished; nothing to do" in done.stdout and LINES[0] in done.stdout
