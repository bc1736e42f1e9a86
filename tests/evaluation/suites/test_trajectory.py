"""The trajectory suite on the tiny run."""

from tiny_run import value


def test_predictions_are_measured_and_drawn(run_suites):
    (trajectory,) = run_suites("trajectory")
    assert value(trajectory, "psnr_z0") > 0
    assert trajectory.files["trajectory.png"].startswith(b"\x89PNG")
    assert trajectory.remarks == ()


def test_rows_that_cannot_be_decoded_are_told(run_suites, break_row):
    place = break_row("validation", 5)
    (trajectory,) = run_suites("trajectory", eval_data=str(place), analysis_images=8)
    assert {row.card.num_samples for row in trajectory.rows} == {7}
    (remark,) = trajectory.remarks
    assert "1 of the first 8 rows of" in remark and str(place) in remark
