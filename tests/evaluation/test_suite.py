import json
from dataclasses import replace

import pytest

from tiny_run import the_suite
from unite.drivers.progress import Meter
from unite.drivers.session import make_worker
from unite.evaluation.suite import identity, read_chunks, work_items
from unite.metrics.errors import MetricError


def entropy(request_of, **changes):
    (suite,) = request_of(suite=("entropy",)).suites
    return replace(suite, **changes)


def test_the_digest_names_what_numbers_depend_on(request_of):
    suite = entropy(request_of)
    assert entropy(request_of).digest == suite.digest
    assert entropy(request_of, bins=128).digest != suite.digest
    raw = replace(suite.subject, ema=False)
    assert entropy(request_of, subject=raw).digest != suite.digest


def test_the_digest_does_not_depend_on_where_things_are(request_of):
    suite = entropy(request_of)
    moved = replace(suite.subject, uri="s3://elsewhere/tiny", home="s3://elsewhere/evaluations")
    assert entropy(request_of, subject=moved, home="s3://elsewhere").digest == suite.digest


def test_library_versions_are_part_of_it(request_of, monkeypatch):
    before = entropy(request_of).digest
    monkeypatch.setattr("unite.evaluation.suite.library_versions", lambda: {"torch": "9"})
    assert entropy(request_of).digest != before


def test_identity_leaves_places_out(request_of):
    suite = entropy(request_of)
    assert identity(suite)["subject"] == {"digest": suite.subject.digest, "ema": True}
    assert "home" not in identity(suite)


def test_samples_of_the_progress_line_are_those_that_are_measured(request_of):
    suites = request_of(suite=("reconstruction", "entropy", "compute")).suites
    counted = {s.suite: Meter("", work_items(s)).total_samples for s in suites}
    assert counted == {"reconstruction": suites[0].total, "entropy": 0, "compute": 0}


def test_a_repeated_or_missing_chunk_is_never_counted(request_of, run_suites):
    run_suites("generation")
    suite = the_suite(request_of())
    chunks = list(read_chunks(suite))
    with pytest.raises(MetricError, match="more than once"):
        suite.combine([*chunks[:-1], chunks[0]])
    with pytest.raises(ValueError, match="argument 2 is longer"):
        suite.combine([*chunks, chunks[0]])
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        suite.combine(chunks[:-1])


def test_workers_of_one_process_reuse_their_model(request_of, run_suites):
    run_suites("entropy")
    (suite,) = request_of(suite=("entropy",)).suites
    worker = make_worker(False, 64)
    for work in work_items(suite):
        worker(work)
    (instruments,) = worker.args
    assert suite.model(instruments) is suite.model(instruments)


def test_held_out_rows_that_cannot_be_decoded_are_left_out_of_the_counts(run_suites, break_row):
    outcomes = run_suites(
        "reconstruction", "alignment", "trajectory", eval_data=str(break_row("validation", 5))
    )
    for outcome in outcomes:
        assert {row.card.num_samples for row in outcome.rows} == {296}, outcome.suite
        assert any("1 of the first 297 rows" in remark for remark in outcome.remarks)


def test_curves_carry_their_protocol(run_suites):
    outcomes = {o.suite: o for o in run_suites("alignment", "trajectory", "entropy", seed=7)}
    for name, file in (("alignment", "alignment.json"), ("trajectory", "trajectory.json")):
        card = json.loads(outcomes[name].files[file])["card"]
        assert (card["suite"], card["seed"], card["num_samples"]) == (name, 7, 297)
        assert {row.card.seed for row in outcomes[name].rows} == {7}
    card = json.loads(outcomes["entropy"].files["entropy.json"])["card"]
    assert "Xavier" in card["details"]["baseline"]
    assert "Xavier" in outcomes["entropy"].protocol
    assert "metric" not in card
