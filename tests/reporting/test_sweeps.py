"""A sweep on the page: which trials count, what is left out or missing, and how it is judged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from unite import tracking
from unite.ablation.verdict import Estimate
from unite.config.axes import AXES
from unite.reporting.sweep_trials import read_trials
from unite.reporting.sweeps import Value, view_sweep

FD = "FD-pixels"


def sweep_of(seen, axis):
    (found,) = [each for each in seen.sweeps if each.axis.name == axis]
    return found


def point(sweep, name, metric=FD):
    (cohort,) = sweep.cohorts
    values = dict(cohort.points)[name]
    return values[list(cohort.metrics).index(metric)]


def test_only_trials_of_the_sweeps_own_plan_are_averaged(seen, rich):
    sweep = sweep_of(seen, "flow_ratio")
    found = point(sweep, "F = 14, shared").estimate
    assert found == Estimate(values=(0.63, 0.643)), "the one of an older recipe is at 1e6"
    (problem,) = sweep.problems
    assert problem.startswith("1 trial not in its plan") and rich.foreign in problem
    assert any(each.name == sweep.name and each.words == problem for each in seen.problems)


def parent_of(collected, axis):
    (found,) = [each for each in collected.sweeps if each.tags["axis"] == axis]
    return found


def test_without_its_plan_a_sweep_shows_nothing_and_says_so(seen, collected, monkeypatch):
    def refuse(handle):
        raise tracking.TrackingError("the artifact store is away")

    monkeypatch.setattr(tracking.RunFiles, "open", refuse)
    found = view_sweep(parent_of(collected, "noise"), collected, seen.catalogue)
    assert found.cohorts == [] and found.missing == ()
    assert "cannot be read" in found.problems[0] and "is away" in found.problems[0]
    assert found.problems[1].startswith("4 trials not in its plan")


def test_a_trial_that_is_there_twice_counts_once(seen, collected):
    def doubled(run):
        return replace(run, infos=tuple(replace(i, run_id=f"{i.run_id}-2") for i in run.infos))

    parent = parent_of(collected, "noise")
    again = tuple(
        replace(doubled(run), info=replace(run.info, run_id=f"{run.info.run_id}-2"))
        for run in collected.runs
    )
    twice = replace(collected, runs=(*collected.runs, *again))
    found = view_sweep(parent, twice, seen.catalogue)
    assert len(point(found, "sigma = 0.7").estimate.values) == 2
    assert found.problems[0].startswith("4 trials in MLflow twice")


def test_values_that_an_axis_does_not_have_are_left_out_aloud(seen, collected):
    def renamed(info):
        tags = dict(info.tags)
        if tags.get("axis") == "noise" and tags.get("value") == "0.7":
            tags["value"] = "0.65"
        return replace(info, tags=tags)

    runs = tuple(replace(r, infos=tuple(map(renamed, r.infos))) for r in collected.runs)
    found = view_sweep(parent_of(collected, "noise"), replace(collected, runs=runs), seen.catalogue)
    assert [name for name, _ in found.cohorts[0].points] == ["sigma = 0.0"]
    assert found.problems[0].startswith("2 trials at a value or an arm that axis noise")


def test_a_training_that_serves_several_trials_is_none_itself(seen, collected, rich):
    def serves(info):
        mine = info.name == rich.foreign
        return replace(info, tags=info.tags | {"training": "0" * 12}) if mine else info

    runs = tuple(replace(r, infos=tuple(map(serves, r.infos))) for r in collected.runs)
    parent = parent_of(collected, "flow_ratio")
    assert view_sweep(parent, replace(collected, runs=runs), seen.catalogue).problems == ()


def test_a_collapsed_latent_is_told_of_a_run_of_many_small_steps(seen, collected):
    """38,400 images are 1,200 steps of 32, though fewer than 200 of the default batch."""

    def collapsed(info):
        changes = {
            "metrics": {**info.metrics, "eval/latent/std": 0.02},
            "params": {**info.params, "training.batch_size": "32"},
        }
        return replace(info, **changes) if info.tags.get("axis") == "noise" else info

    runs = tuple(replace(r, infos=tuple(map(collapsed, r.infos))) for r in collected.runs)
    parent = parent_of(collected, "noise")
    (cohort,) = view_sweep(parent, replace(collected, runs=runs), seen.catalogue).cohorts
    assert [word for word, _ in cohort.verdict].count("COLLAPSED") == 4


def test_an_unknown_axis_is_named(seen):
    (problem,) = [each for each in seen.problems if each.name == "sweep-colour"]
    assert "'colour'" in problem.words and "flow_ratio" in problem.words


def test_what_is_missing_says_why(seen, rich):
    missing = sweep_of(seen, "flow_ratio").missing
    (half,) = [line for line in missing if line.startswith(rich.half_written)]
    assert "half written" in half and "is not JSON" in half
    assert sum(line.endswith("not started") for line in missing) == len(missing) - 1 == 4


def test_table_6_has_every_kind_of_number_with_the_papers_beside_its_own(seen):
    (cohort,) = sweep_of(seen, "noise").cohorts
    assert list(cohort.metrics) == [
        FD, "CS-digits-cnn", "rFD-pixels", "held-out PSNR (dB)", "latent/std",
    ]  # fmt: skip
    papers = [value.paper for value in dict(cohort.points)["sigma = 0.7"]]
    assert papers == ["gFID 2.71", "IS 282.2", "rFID 1.01", "", ""]
    titles = [panel.title for panel in cohort.figure.panels]
    assert titles[-3:] == [f"Paper: {n}, ImageNet 256x256" for n in ("gFID", "rFID", "IS")]
    labels = {panel.title: panel.y_label for panel in cohort.figure.panels}
    assert labels["Ours: rFD-pixels"] == "lower is better"
    words = " ".join(sentence for _, sentence in cohort.verdict)
    assert "rFD-pixels at sigma = 1.0" in words and "PSNR" not in words


def test_a_number_of_a_sweep_leads_to_its_cards(seen):
    entries = point(sweep_of(seen, "flow_ratio"), "F = 1, separate").entries
    assert [entry.card.metric for entry in entries] == ["fd-pixels", "fd-pixels"]
    assert [seen.data.runs[entry.run].name[-6:] for entry in entries] == ["seed 0", "seed 1"]


def test_trials_of_different_protocols_are_judged_apart(seen, collected, index):
    """One trial's cards say another N: it goes into a group of its own, and the field is named."""
    name = "F = 1, shared, seed 1"
    entries = tuple(
        replace(e, row=replace(e.row, card=replace(e.card, num_samples=50)))
        if e.run == index[name]
        else e
        for e in seen.catalogue.entries
    )
    catalogue = replace(seen.catalogue, entries=entries)
    found = view_sweep(parent_of(collected, "flow_ratio"), collected, catalogue)
    assert [len(c.points) for c in found.cohorts] == [4, 1]
    assert all("num_samples 64 (A), 50 (B)" in cohort.warning for cohort in found.cohorts)


@pytest.mark.parametrize(
    ("values", "text", "spread"),
    [
        ((), "", ""),
        ((0.84,), "0.84", ""),
        ((0.8, 0.8), "0.8", "0"),
        ((0.91234, 0.92345), "0.9179", "0.0079"),
        ((281.1, 267.9), "274.5", "9.3"),
        ((1200.0, 1500.0), "1,350", "212"),
    ],
)
def test_a_mean_has_as_many_digits_as_its_spread_leaves_meaning(values, text, spread):
    value = Value(estimate=Estimate(values=values) if values else None)
    assert (value.text, value.spread) == (text, spread)


def test_psnr_has_no_counterpart(seen):
    for sweep in seen.sweeps:
        for cohort in sweep.cohorts:
            place = list(cohort.metrics).index("held-out PSNR (dB)")
            assert {values[place].paper for _, values in cohort.points} == {""}, "PSNR is no rFID"


def test_numbers_of_a_trial_are_found_by_the_cards_that_its_result_keeps(seen, collected):
    """Another number of the same value and metric is not taken for it."""
    noise = next(sweep for sweep in collected.sweeps if sweep.tags["axis"] == "noise")
    name = "eval/generation/fd-pixels"
    (first, *_) = read_trials(AXES["noise"], noise, collected, seen.catalogue).finished
    entry = first.entries[name]
    twin = replace(entry, id=-1, row=replace(entry.row, card=replace(entry.card, seed=7)))
    doubled = replace(seen.catalogue, entries=(twin, *seen.catalogue.entries))
    (again, *_) = read_trials(AXES["noise"], noise, collected, doubled).finished
    assert again.entries[name] is entry
    assert len(first.measured.result.cards) == 4
