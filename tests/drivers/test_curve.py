"""Fig. 4 with the distance: each kept checkpoint has a point, and so has one that was pruned."""

import json
import shutil
from dataclasses import replace

import pytest

from tiny_run import train_tiny
from unite.drivers.curve import CURVE_FILE, draw, drawn, main, points_of, prepare_all, run_at
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
    assert points == {"generation/fd-pixels": {32: 5.0, 64: 3.0, 128: 2.0}}
    assert list(points["generation/fd-pixels"]) == [32, 64, 128]


def test_parts_of_a_joint_model_have_curves_of_their_own(tmp_path):
    home = Store.open(tmp_path) / "evaluations" / "c64"
    rows = [
        row(64, value, metric="match_pct", suite=f"reconstruction-{part}")
        for part, value in (("molecules", 90.0), ("structures", 20.0))
    ]
    write_outcomes(home, [Outcome(suite=each.card.suite, rows=(each,)) for each in rows])
    assert points_of(Store.open(tmp_path), drawn(rows)) == {
        "reconstruction-molecules/match_pct": {64: 90.0},
        "reconstruction-structures/match_pct": {64: 20.0},
    }


@pytest.mark.parametrize(
    ("suite", "metrics", "left"),
    [
        ("generation", ["is", "fid", "kid", "fd-pixels"], ["fid", "fd-pixels"]),
        ("reconstruction", ["psnr", "rfd-pixels", "ssim"], ["rfd-pixels"]),
        ("generation", ["unique_pct", "valid_pct", "w1_bonds"], ["w1_bonds"]),
        ("generation-structures", ["unique_pct", "valid_pct"], ["valid_pct"]),
        ("entropy", ["total_mb"], []),
    ],
)
def test_drawn_is_what_speaks_for_a_run_of_any_domain(suite, metrics, left):
    rows = [row(8, 1.0, metric=metric, suite=suite) for metric in metrics]
    assert [each.card.metric for each in drawn(rows)] == left


def test_the_drawing_has_a_panel_per_distance():
    history = [{"images": 32.0, "loss/l1": 0.3, "loss/flow": 0.1}]
    points = {"generation/fd-pixels": {32: 5.0}}
    assert draw(history, points).startswith(b"\x89PNG")
    assert draw(history, points, "molecule") != draw(history, points), "which names the axis"


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


@pytest.mark.slow
def test_mlflow_that_is_away_costs_no_curve(run, caplog):
    """Each checkpoint is measured and drawn; what was to be sent is kept."""
    record = {"mlflow_uri": "http://127.0.0.1:9", "mlflow_run_id": "0" * 32}
    (run / "run.json").write_text(json.dumps(record))
    wanted = CurveArguments(
        run="three", num_samples=20, num_steps=2, solver="euler", extractor=("pixels",),
        num_workers=0,
    )  # fmt: skip
    assert main(wanted, str(run.parent)) == 1
    assert (run / CURVE_FILE).exists() and len(list(run.glob("evaluations/*/unsent/*"))) == 3
    assert caplog.text.count("evaluate.py --push ") == 3
    assert record_of(settle(wanted, str(run.parent))).lines() is None


def test_what_is_no_run_is_refused(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ValueError, match=r"is no run, as it has no config\.json"):
        run_at(str(tmp_path))


@pytest.mark.parametrize("changes", [{"recipe": "smoke"}, {"push": "file"}])
def test_options_of_a_single_evaluation_are_refused(changes, tmp_path):
    with pytest.raises(ValueError, match="no effect on the curve of a run"):
        prepare_all(replace(CurveArguments(), **changes), str(tmp_path))
