"""The entropy suite on the tiny run, beside the figures of the paper."""

import pytest

from tiny_run import value


def test_the_groups_add_up(run_suites):
    (entropy,) = run_suites("entropy")
    assert value(entropy, "total_mb") == pytest.approx(
        sum(value(entropy, f"{group}_mb") for group in ("norm", "functional", "other"))
    )
    assert "2048 bins" in entropy.protocol


def test_the_papers_entropy_is_told_apart(run_suites):
    (usual,) = run_suites("entropy")
    (few,) = run_suites("entropy", entropy_bins=256)
    note = {row.card.metric: row.note for row in usual.rows}
    assert note["functional_mb"] == "the paper counts `other` in"
    assert note["norm_mb"] == "", "at 2048 bins it may stand beside the paper's"
    note = {row.card.metric: row.note for row in few.rows}
    assert note["norm_mb"] == "paper: bins not given, 2048 fit"


def test_separate_weights_are_analysed_as_two(run_suites, separate_export, data):
    alignment, entropy = run_suites("entropy", "alignment", run=separate_export, data=data)
    names = {row.card.metric: row for row in entropy.rows}
    assert {"total_mb", "denoiser_total_mb", "denoiser_random_norm_mb"} <= set(names)
    assert names["denoiser_norm_mb"].paper.value == 42.0
    assert names["total_mb"].paper.value == 121.9
    assert 0 <= value(alignment, "cka_mean") <= 1
