"""The run that the report opens with."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

from unite.evaluation.card import MetricCard
from unite.evaluation.results import Outcome, Row
from unite.reporting.catalogue import Catalogue
from unite.reporting.evaluations import Evaluations, Found
from unite.reporting.headline import headline
from unite.reporting.summary import summarise


def best_of(runs):
    catalogue = Catalogue.of(runs)
    return headline(runs, catalogue, summarise(runs, catalogue), [])


def test_the_best_training_run_stands_first_with_its_numbers_and_samples(seen, collected, rich):
    run = collected.runs[seen.headline.run]
    assert run.name in (rich.good, rich.other) and not run.trials
    shown = {column.title: cell.text for column, cell in seen.headline.numbers}
    assert {"PSNR", "FD-digits-cnn", "rFD-digits-cnn"} <= set(shown)
    assert seen.headline.samples == list(run.samples.values())[-1]
    assert seen.headline.losses.run == seen.headline.run


def test_only_numbers_of_one_protocol_rank_runs(collected, rich, index):
    """FD-digits-cnn is 7.988 of 3,000 samples and 8.038 of 1,000: no one of them is the better."""
    found = best_of(collected.runs)
    assert found.reason.endswith(" of one protocol; 1 more run by other protocols")
    good = collected.runs[index[rich.good]]
    assert best_of([good]).reason == "the only run with FD-digits-cnn"


def test_among_runs_measured_alike_the_lowest_distance_wins(collected, index, rich):
    good = collected.runs[index[rich.good]]
    worse = replace(good, evaluations=_worse(good.evaluations))
    for runs, place in (([good, worse], 0), ([worse, good], 1)):
        found = best_of(runs)
        assert (found.run, found.reason) == (place, "lowest FD-digits-cnn of 2 runs")


def test_parts_of_a_joint_model_are_not_ranked_against_each_other():
    """Two runs, each measured on molecules and on crystals: the molecules decide, of two runs."""
    runs: list[Any] = []
    for molecules, crystals in ((90.0, 99.0), (95.0, 10.0)):
        made = partial(MetricCard, metric="match_pct", step=1, checkpoint="c")
        parts = (("molecules", molecules), ("crystals", crystals))
        rows = [Row(card=made(suite=f"reconstruction-{p}", value=value)) for p, value in parts]
        found = [
            Found(outcome=Outcome(suite=r.card.suite, rows=(r,)), step=1, newest=True, read=bytes)
            for r in rows
        ]
        evaluations = Evaluations(found=tuple(found))
        none = {"logged": lambda name: None, "trials": [], "samples": {}, "kind": "structures"}
        runs.append(SimpleNamespace(evaluations=evaluations, **none))
    assert (best_of(runs).run, best_of(runs).reason) == (1, "highest match, molecules of 2 runs")
    assert best_of(runs[:1]).reason == "the only run with match, molecules"


def test_without_evaluations_psnr_in_training_ranks_and_without_that_the_newest_stands(
    collected, index, rich
):
    hostile = collected.runs[index[rich.hostile]]
    logged = _with_metric(hostile, 20.0), _with_metric(hostile, 25.0)
    assert (best_of(logged).run, "25" in best_of(logged).reason) == (1, True)
    bare = _with_metric(hostile, None)
    assert best_of([bare, bare]).run == 0 and "newest" in best_of([bare]).reason
    assert best_of([]) is None


def test_trials_stand_first_only_when_there_is_no_other_run(collected):
    trials = [run for run in collected.runs if run.trials and run.evaluations.found]
    assert best_of(trials) is not None
    assert not collected.runs[best_of(collected.runs).run].trials


def _with_metric(run, value):
    metrics = {k: v for k, v in run.info.metrics.items() if k != "eval/psnr"}
    info = replace(run.info, metrics=metrics | ({"eval/psnr": value} if value else {}))
    return replace(run, info=info)


def _worse(evaluations):
    def row(each):
        return replace(each, card=replace(each.card, value=each.card.value + 1))

    def found(each):
        rows = tuple(map(row, each.outcome.rows))
        return replace(each, outcome=replace(each.outcome, rows=rows))

    return replace(evaluations, found=tuple(map(found, evaluations.found)))
