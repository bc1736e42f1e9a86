"""The trajectory suite on the tiny run."""

from tiny_run import value


def test_predictions_are_measured_and_drawn(run_suites):
    (trajectory,) = run_suites("trajectory")
    assert value(trajectory, "psnr_z0") > 0
    assert trajectory.files["trajectory.png"].startswith(b"\x89PNG")
