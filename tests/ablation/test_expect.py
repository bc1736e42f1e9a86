"""What a sweep is expected to take, and what it learns from earlier ones."""

import pytest

from unite.ablation.expect import expect_sweep, known_rate, note_sweep
from unite.ablation.options import SweepOptions
from unite.ablation.results import Result
from unite.ablation.trials import expand
from unite.config.axes import find_axis


@pytest.fixture
def sweep(tmp_path):
    return expand(find_axis("noise"), SweepOptions(scale="smoke", storage=str(tmp_path)))


def result(training: float, measuring: float, flops: float = 1e9) -> Result:
    seconds = {"training": training, "measuring": measuring}
    return Result(metrics={}, images=1, parameters=1, flops=flops, checkpoint="x", seconds=seconds)


def test_small_trials_mostly_wait_for_their_start(sweep):
    expected = expect_sweep(sweep, sweep.works, 2e9, rate=1e9, slots=2)
    assert expected.parts["training"] == pytest.approx(1.0)
    assert expected.parts["start-up"] > 30, "two seconds of steps are not two seconds of a sweep"
    assert "typical" in expected.basis


def test_runs_are_not_divided_among_more_slots_than_there_are_runs(sweep):
    two, eight = (
        expect_sweep(sweep, sweep.works, 2e9, rate=1e9, slots=slots).parts for slots in (2, 8)
    )
    assert len(sweep.works) == 2 and eight == two


def test_a_second_sweep_is_expected_to_take_what_the_first_took(sweep):
    works = sweep.works
    assert len(works) == 2 and known_rate(sweep) == 0
    # At once: 4 s of training and 6 s of measuring each, in a grid that took 40 s.
    note_sweep(sweep, works, [[result(4, 6)], [result(4, 6)]], 2, start_s=20, grid_s=40)
    assert known_rate(sweep) == pytest.approx(2.5e8)
    expected = expect_sweep(sweep, works, 2e9, rate=known_rate(sweep), slots=2)
    assert expected.seconds == pytest.approx(60, rel=0.01)
    assert expected.parts == pytest.approx({"start-up": 50, "training": 4, "measuring": 6})
    assert "1 earlier sweep like it" in str(expected)
    longer = expect_sweep(sweep, works * 2, 4e9, rate=known_rate(sweep), slots=2)
    assert longer.seconds == pytest.approx(100, rel=0.01), "two waves, one start"


def test_trials_that_were_not_done_in_one_go_teach_nothing(sweep):
    half = Result(
        metrics={}, images=1, parameters=1, flops=1e9, checkpoint="x", seconds={"measuring": 6}
    )
    note_sweep(sweep, sweep.works, [[result(4, 6)], [half]], 2, start_s=20, grid_s=40)
    note_sweep(sweep, sweep.works, [[result(4, 6)], []], 2, start_s=20, grid_s=40)
    assert known_rate(sweep) == 0
