"""A request from its chunks to the written report: nothing is computed twice."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, replace

import pytest

from tiny_run import never, the_suite, value
from unite.evaluation import request
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.report import cells, markdown, print_outcomes
from unite.evaluation.request import conclude, open_suites, write_report
from unite.evaluation.results import Outcome, read_outcomes
from unite.storage import Store
from unite.tracking.results import RESULT_NAME


def test_a_finished_evaluation_computes_nothing(run_suites, monkeypatch):
    first = run_suites("generation", "entropy")
    monkeypatch.setattr("unite.evaluation.suite.write_chunk", never)
    monkeypatch.setattr("unite.sampling.generator.draw", never)
    second = run_suites("generation", "entropy")
    assert [row.card for o in first for row in o.rows] == [
        row.card for o in second for row in o.rows
    ]


def test_missing_chunks_alone_are_computed_again(request_of, run_suites, monkeypatch):
    (before,) = run_suites("generation", seed=3)
    suite = replace(the_suite(request_of()), seed=3)
    lost = suite.chunks()[1]
    suite.folder.delete(f"chunks/{lost}.npz")
    computed = []
    monkeypatch.setattr(type(suite), "measure", noting(type(suite).measure, computed))
    (after,) = run_suites("generation", seed=3)
    assert computed == [lost]
    assert value(after, "fd-pixels") == value(before, "fd-pixels")


def noting(measure, computed):
    def measured(self, instruments, chunk):
        computed.append(chunk)
        return measure(self, instruments, chunk)

    return measured


def test_results_and_report_are_written(run_suites, request_of, capsys):
    outcomes = run_suites("generation", "entropy")
    home = request_of().home
    kept = {outcome.suite: outcome for outcome in read_outcomes(home)}
    assert [kept[outcome.suite] for outcome in outcomes] == outcomes
    run_suites("compute")
    assert kept.keys() | {"compute"} == {outcome.suite for outcome in read_outcomes(home)}
    report = home.read("report.md").decode()
    assert report == markdown(read_outcomes(home))
    assert "FD-pixels" in report
    assert "2.12 (Table 1)" in report
    print_outcomes(outcomes)
    text = capsys.readouterr().out
    assert "FD-pixels" in text
    assert "euler, 4 steps, guidance 1.5" in text


def test_results_of_evaluations_that_end_together_are_all_kept(tmp_path, monkeypatch):
    def slowly(*inputs, merge=request.merge_outcomes):
        found = merge(*inputs)
        time.sleep(0.3)
        return found

    monkeypatch.setattr(request, "merge_outcomes", slowly)
    home = Store.open(tmp_path)
    outcomes = [Outcome(suite=name, rows=()) for name in ("generation", "entropy", "compute")]
    with ThreadPoolExecutor(len(outcomes)) as pool:
        list(pool.map(lambda outcome: write_report(home, [outcome]), outcomes))
    assert {each.suite for each in read_outcomes(home)} == {each.suite for each in outcomes}


def test_every_number_has_a_name_that_tracking_takes(run_suites):
    for outcome in run_suites():
        for row in outcome.rows:
            assert RESULT_NAME.fullmatch(f"eval/{outcome.suite}/{row.card.metric}")
            assert len(cells(row)) == 5
            json.dumps(asdict(row))


def test_remarks_of_the_request_stand_before_those_of_its_first_suite(
    run_suites, request_of, monkeypatch
):
    run_suites("entropy")
    evaluation = request_of(suite=("entropy",))
    before, *_ = conclude(evaluation, lambda name: [])
    monkeypatch.setattr(type(evaluation), "remarks", ("Somebody else's weights.",))
    texts = []

    def during(text):
        texts.append(text)
        return nullcontext()

    after, *_ = conclude(evaluation, lambda name: [], during)
    assert texts == ["computing the numbers of entropy"]
    assert after == replace(before, remarks=("Somebody else's weights.", *before.remarks))


def test_a_request_of_which_nothing_is_left_is_an_error(request_of, monkeypatch):
    target = request_of().target
    weights = replace(target, subject=replace(target.subject, trained_here=False))
    with pytest.raises(ValueError, match="nothing can be measured. no suite compute: what a run"):
        open_suites(EvaluateArguments(suite=("compute",)), weights)
    (left,) = open_suites(EvaluateArguments(suite=("compute", "entropy")), weights)
    assert left.suite == "entropy"


def test_the_title_of_weights_without_a_run_tells_no_length(request_of):
    evaluation = request_of(suite=("entropy",))
    assert "tiny after 256 images, averaged" in evaluation.title
    target = evaluation.target
    target = replace(target, subject=replace(target.subject, images=0))
    assert "tiny, averaged" in replace(evaluation, target=target).title
