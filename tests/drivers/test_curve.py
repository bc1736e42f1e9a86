"""Fig. 4 with the distance: each kept checkpoint has a point, and so has one that was pruned."""

import shutil
from dataclasses import replace

import pytest

from tiny_run import train_tiny
from unite.drivers.curve import CURVE_FILE, draw, main, points_of, prepare_all
from unite.evaluation.arguments import CurveArguments
from unite.evaluation.card import MetricCard
from unite.evaluation.finished import record_of, settle
from unite.evaluation.results import Outcome, Row, write_outcomes
from unite.storage import Store


def row(step, value, **fields):
    known = {"metric": "fd-pixels", "suite": "generation", "checkpoint": f"c{step}"}
    return Row(card=MetricCard(**{**known, "num_samples": 20, **fields}, step=step, value=value))


def test_points_are_of_one_protocol_and_in_order(tmp_path):
    run = Store.open(tmp_path)
    rows = [row(64, 3.0), row(32, 5.0), row(96, 9.0, num_samples=40), row(128, 2.0)]
    for each in rows:
        home = run / "evaluations" / each.card.checkpoint
        write_outcomes(home, [Outcome(suite="generation", rows=(each,))])
    points = points_of(run, [row(128, 2.0)])
    assert points == {"fd-pixels": {32: 5.0, 64: 3.0, 128: 2.0}}
    assert list(points["fd-pixels"]) == [32, 64, 128]


def test_the_drawing_has_a_panel_per_distance():
    history = [{"images": 32.0, "loss/l1": 0.3, "loss/flow": 0.1}]
    assert draw(history, {"fd-pixels": {32: 5.0}}).startswith(b"\x89PNG")


@pytest.fixture
def run(tmp_path):
    """Three steps of 32 images, a checkpoint at each."""
    changes = {
        "training.epochs": 3 * 32 / 1500,
        "checkpoint.every_images": 32,
        "checkpoint.keep_last": 3,
    }
    train_tiny(tmp_path, name="three", **changes)
    return tmp_path / "three"


@pytest.mark.slow
def test_the_command_measures_every_checkpoint_and_draws(run, capsys):
    wanted = CurveArguments(
        run="three", num_samples=20, num_steps=2, solver="euler", extractor=("pixels",),
        num_workers=0, track=False,
    )  # fmt: skip
    storage = str(run.parent)
    assert main(wanted, storage) == 0
    assert (run / CURVE_FILE).read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert [line.split()[0] for line in lines if line.lstrip().startswith(("32 ", "64 ", "96 "))]
    assert "3 checkpoints are kept (checkpoint.keep_last = 3" in printed

    *told, _ = record_of(settle(wanted, storage)).lines()
    assert told == lines
    (run / CURVE_FILE).write_bytes(b"another")
    assert record_of(settle(wanted, storage)).lines() is None

    shutil.rmtree(run / "checkpoints" / f"{32:012d}")
    assert main(wanted, storage) == 0
    table = capsys.readouterr().out.partition("FD-pixels")[2].splitlines()
    assert [line.split()[0] for line in table[1:4]] == ["32", "64", "96"]


@pytest.mark.parametrize("changes", [{"recipe": "smoke"}, {"push": "file"}])
def test_options_of_a_single_evaluation_are_refused(changes, tmp_path):
    with pytest.raises(ValueError, match="no effect on the curve of a run"):
        prepare_all(replace(CurveArguments(), **changes), str(tmp_path))
