"""What a drill reads from outside, and what it makes of it; the drills themselves are in fault/."""

from __future__ import annotations

import json
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from unite.checkpoints.store import CheckpointWriter, latest, read_checkpoint
from unite.cli import main
from unite.config.schema import CheckpointConfig
from unite.drivers import drill
from unite.drivers.drill import (
    DRILLS,
    EQUAL,
    Drill,
    images_lost,
    longest_pause,
    run_drills,
    weight_difference,
)
from unite.drivers.faults import Disturbed, Scratch
from unite.drivers.followed import Seen
from unite.storage import Store


def seen(*states: tuple[float, int]) -> list[Seen]:
    return [Seen(time=time, images=images) for time, images in states]


@pytest.mark.parametrize(
    ("states", "lost"),
    [
        ([(1, 32), (2, 320), (3, 640)], 0),
        ([(1, 320), (2, 700), (9, 544), (10, 900)], 700 - 512),  # from 512 on, a step of 32
        ([(1, 320), (2, 700), (9, 32), (10, 900)], 700),  # from the start
        ([(1, 700), (2, 544), (3, 800), (4, 544)], 188 + 288),  # twice
        ([], 0),
    ],
)
def test_images_that_are_trained_again_are_lost(states, lost):
    assert images_lost(seen(*states), 32) == lost


def test_the_longest_pause_begins_with_the_fault():
    states = seen((0, 1), (50, 2), (51, 3), (71, 4), (72, 5))
    assert longest_pause(states, 50.5) == 20
    assert longest_pause(states, 60) == 11
    assert longest_pause(states, 100) == 0


def moved(run: Store) -> Store:
    """The run with one weight of its checkpoint moved by a quarter."""
    place = latest(run)
    kept = read_checkpoint(place)
    next(iter(kept.parts["model"].values())).flatten()[0] += 0.25
    place.delete()
    CheckpointWriter(run=run, config=CheckpointConfig(asynchronous=False)).save(
        kept.parts, kept.state
    )
    return run


def test_weights_are_equal_or_their_difference_is_told(untrained_run, tmp_path):
    runs = [untrained_run(tmp_path / "a"), moved(untrained_run(tmp_path / "b"))]
    assert weight_difference(runs[0], runs[0]) == EQUAL
    assert weight_difference(*runs) == "differ by 0.25 at most"
    longer = untrained_run(tmp_path / "c", images=(512,))
    assert weight_difference(longer, runs[0]) == "are of 512 images, not of 256"


@pytest.fixture
def played(monkeypatch, untrained_run, tmp_path):
    """Drills without a training: `outcome` is what the disturbed one looked like."""
    run = untrained_run(tmp_path)
    other = moved(untrained_run(tmp_path / "other"))
    outcome = SimpleNamespace(seen=seen((0, 512), (1, 544)), typed=1, run=run, lacking="")

    def fault(scratch: Scratch, stack: ExitStack) -> Disturbed:
        return Disturbed(training=outcome, at=0.0, lacking=outcome.lacking)

    rows = {"worker": Drill(does="nothing", fault=fault, saves_lost=1)}
    monkeypatch.setattr(drill, "DRILLS", rows)
    monkeypatch.setattr(drill, "_undisturbed", lambda *_: run)
    return outcome, other


def test_each_promise_can_be_broken(played):
    outcome, other = played
    scratch = Scratch(recipe="smoke", folder=None)
    (kept,) = run_drills(["worker"], scratch)
    assert kept.broken == () and kept.weights == EQUAL and kept.most_images == 16 * 32
    outcome.seen = seen((0, 2048), (1, 32))
    outcome.typed, outcome.run, outcome.lacking = 2, other, "MLflow lacks 3 of 4 points"
    (broken,) = run_drills(["worker"], scratch)
    assert broken.broken[0] == "2,048 images lost, promised at most 512"
    assert broken.broken[1] == "typed 2 times, promised at most 1"
    assert broken.broken[2].startswith("the weights differ by ")
    assert broken.broken[3] == "MLflow lacks 3 of 4 points"


def test_the_command_ends_with_1_when_a_promise_is_broken(played, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["drill", "worker", "--json"])
    assert not ended.value.code
    assert json.loads(capsys.readouterr().out)[0]["broken"] == []
    played[0].typed = 2
    with pytest.raises(SystemExit) as ended:
        main(["drill", "worker"])
    assert ended.value.code == 1
    assert "broken: typed 2 times" in capsys.readouterr().out


def test_a_recipe_that_needs_data_is_refused_before_anything_starts(tmp_path):
    with pytest.raises(ValueError, match="unite-b needs data of yours"):
        list(run_drills(["worker"], Scratch(recipe="unite-b", folder=tmp_path)))


def test_no_drill_is_no_success(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["drill"])
    assert ended.value.code == 2
    assert "name one drill or several: worker, node, " in capsys.readouterr().err


def test_the_command_line_names_every_drill():
    assert set(DRILLS) == {"worker", "node", "driver", "spot", "storage", "tracking"}
