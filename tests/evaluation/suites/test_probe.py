"""The probe suite on the tiny run."""

from tiny_run import value


def test_five_guesses_are_right_as_often_as_one_at_least(run_suites):
    (probe,) = run_suites("probe")
    assert 0 < value(probe, "top1_pct") <= value(probe, "top5_pct") <= 100


def test_the_probe_reads_the_mean_and_all_registers(run_suites):
    (outcome,) = run_suites("probe")
    read = {row.card.metric: row.card.details["features"] for row in outcome.rows}
    assert read["top1_pct"] == "mean"
    assert read["flat_top1_pct"] == "flatten"
