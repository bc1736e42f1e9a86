"""The compute suite on the tiny run."""

from dataclasses import replace

import numpy as np
import pytest

from tiny_run import value


def test_costs_follow_from_the_config_and_speed_needs_a_record(run_suites):
    (compute,) = run_suites("compute")
    assert value(compute, "epochs") == pytest.approx(256 / 1500)
    assert value(compute, "params_m") == pytest.approx(
        sum(value(compute, f"params_{part}_m") for part in ("embedder", "tokenizer", "decoder"))
    )
    assert any("throughput" in remark for remark in compute.remarks)


def test_a_run_whose_workers_varied_has_no_device_hours(request_of):
    (suite,) = request_of(suite=("compute",)).suites
    cluster = replace(suite.subject.config.cluster, num_workers="1..4")
    config = replace(suite.subject.config, cluster=cluster)
    suite = replace(suite, images_per_s=10.0, subject=replace(suite.subject, config=config))
    outcome = suite.outcome({"parameters": Parameters()})
    assert "device_hours" not in {row.card.metric for row in outcome.rows}
    assert outcome.remarks == ("No device hours: the run had 1..4 workers, as there were",)


def test_weights_that_do_not_say_their_length_have_none(request_of):
    (suite,) = request_of(suite=("compute",)).suites
    suite = replace(suite, subject=replace(suite.subject, images=0))
    outcome = suite.outcome({"parameters": Parameters()})
    assert not {"epochs", "total_flop"} & {row.card.metric for row in outcome.rows}
    assert any("do not say how long they were trained" in line for line in outcome.remarks)


class Parameters:
    """The total of a model with one part."""

    def result(self):
        return {"decoder": np.array([5])}
