"""The compute suite on the tiny run."""

import pytest

from tiny_run import value


def test_costs_follow_from_the_config_and_speed_needs_a_record(run_suites):
    (compute,) = run_suites("compute")
    assert value(compute, "epochs") == pytest.approx(256 / 1500)
    assert value(compute, "params_m") == pytest.approx(
        sum(value(compute, f"params_{part}_m") for part in ("embedder", "tokenizer", "decoder"))
    )
    assert any("throughput" in remark for remark in compute.remarks)
