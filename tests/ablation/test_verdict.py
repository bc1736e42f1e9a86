"""Agree, disagree or undecided: the rule, and that plain words come of it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from unite.ablation.files import report_files
from unite.ablation.options import SweepOptions
from unite.ablation.results import Result
from unite.ablation.trials import expand
from unite.ablation.verdict import (
    Estimate,
    Measured,
    counterparts,
    decide,
    estimate,
    metrics_of,
    shown_metrics,
    verdict,
)
from unite.config.axes import find_axis
from unite.evaluation.card import MetricCard

FD, CNN, CS, RFD, RFID, PSNR, STD = (
    "eval/generation/fd-pixels",
    "eval/generation/fd-digits-cnn",
    "eval/generation/cs-digits-cnn",
    "eval/reconstruction/rfd-pixels",
    "eval/reconstruction/rfid",
    "eval/reconstruction/psnr",
    "eval/latent/std",
)


@pytest.mark.parametrize(
    ("better", "worse", "word"),
    [
        ((0.5, 0.6), (0.9, 1.0), "AGREES"),
        ((0.9, 1.0), (0.5, 0.6), "DISAGREES"),
        ((0.5, 0.9), (0.6, 1.0), "UNDECIDED"),
        # Each beyond twice its standard error, as equal points are in one case of six.
        ((0.5, 0.6), (0.7, 0.8), r"UNDECIDED \(.* standard error is 0.071: beyond 0.3 it"),
        ((97.5, 95.5, 97.1), (90.2, 9.4, 39.5), "UNDECIDED"),
        ((0.5,), (0.9,), r"UNDECIDED \(one seed; the direction is the paper's"),
        ((0.9,), (0.5, 0.6), r"UNDECIDED \(one seed; the direction is the opposite"),
    ],
)
def test_a_difference_counts_beyond_its_confidence_interval(better, worse, word):
    assert re.match(word, decide(Estimate(values=better), Estimate(values=worse), 1.0))


def test_the_rule_is_the_stated_one_at_its_edge():
    spread = Estimate(values=(0.0, 2.0))  # s^2 = 2, so the standard error of a difference is sqrt 2
    apart = 4.302652729749464 * 2**0.5  # Student's t of 2 degrees of freedom at 97.5%
    near, far = (Estimate(values=(x, x + 2.0)) for x in (apart - 1e-9, apart + 1e-9))
    assert decide(spread, near, 1.0).startswith("UNDECIDED")
    assert decide(spread, far, 1.0).startswith("AGREES")


def measured(tmp_path, axis, values, **options):
    """Trials of an axis with metrics made by `values(trial)`."""
    sweep = expand(
        find_axis(axis), SweepOptions(scale="laptop", storage=str(tmp_path), seeds=2, **options)
    )
    found = [
        Measured(
            trial=trial,
            result=Result(
                metrics=values(trial),
                images=19_200,
                parameters=trial.parameters,
                flops=1e12,
                checkpoint="c",
            ),
            run=f"/runs/{trial.digest}",
            run_id=f"id-{trial.digest}",
        )
        for trial in sweep.trials
    ]
    return sweep, found


def like_the_paper(trial):
    noise = 0.01 * trial.seed
    separate = 0.2 if trial.arm == "separate" else 0.0
    value = float(trial.value)
    return {
        FD: 1.0 - 0.03 * value + separate + noise,
        CNN: 12.0 + noise,
        PSNR: 30.0 - 2 * separate + noise,
        STD: 0.6,
    }


def test_a_sweep_like_the_papers_agrees_and_names_the_metric(tmp_path):
    sweep, found = measured(tmp_path, "flow_ratio", like_the_paper)
    lines = verdict(sweep.axis, found)
    assert sum(line.startswith("AGREES") for line in lines) == 3
    assert "FD-pixels is 0.585" in lines[0] and "gFID 2.12 against 3.33" in lines[0]
    assert lines[1].startswith("UNDECIDED") and "FD-digits-cnn is 12" in lines[1]
    assert "higher is better" in lines[4]


def test_higher_psnr_is_better(tmp_path):
    def upside_down(trial):
        return {**like_the_paper(trial), PSNR: 60.0 - like_the_paper(trial)[PSNR]}

    sweep, found = measured(tmp_path, "flow_ratio", upside_down)
    assert verdict(sweep.axis, found)[4].startswith("DISAGREES")


def noisy_reconstructions(trial):
    """PSNR as the paper's rFID would have it, distances of reconstructions the other way round."""
    noise = 0.01 * trial.seed
    good = 2.0 if trial.value == "0.7" else 1.0
    return {
        FD: 1.0 + noise,
        CS: 9.0 + noise,
        RFD: good + noise,
        PSNR: 20.0 + good + noise,
        STD: 0.5,
    }


def test_reconstructions_are_judged_by_their_distance_where_it_is_measured(tmp_path):
    sweep, found = measured(tmp_path, "noise", noisy_reconstructions)
    assert metrics_of("reconstruction", found) == [RFD]
    line = next(line for line in verdict(sweep.axis, found) if "rFD-pixels is" in line)
    assert line.startswith("DISAGREES") and "rFID 1.01 against 1.6" in line
    assert "PSNR" not in line

    def with_rfid(trial):
        return {**noisy_reconstructions(trial), RFID: 1.0}

    _, found = measured(tmp_path, "noise", with_rfid)
    assert metrics_of("reconstruction", found) == [RFID]


def test_the_papers_figures_stand_beside_their_own_kind(tmp_path):
    sweep, found = measured(tmp_path, "noise", noisy_reconstructions)
    beside = counterparts(sweep.axis, found)
    cells = {metric: cells["", "0.7"].metric for metric, cells in beside.items()}
    assert cells == {FD: "fid", RFD: "rfid", CS: "is"}
    sweep, found = measured(tmp_path, "noise", lambda trial: {FD: 1.0, PSNR: 30.0, STD: 0.5})
    assert set(counterparts(sweep.axis, found)) == {FD}, "PSNR is no rFID"


def test_table_6_has_panels_for_every_kind_of_number_under_its_true_name(tmp_path):
    sweep, found = measured(tmp_path, "noise", noisy_reconstructions)
    assert shown_metrics(sweep.axis, found) == [FD, CS, RFD, PSNR, STD]
    svg = report_files(sweep, found, [])["table6_top.svg"].decode()
    for words in (
        "Ours: FD-pixels",
        "Ours: rFD-pixels",
        "Ours: CS-digits-cnn",
        "higher is better",
        "Paper: gFID, ImageNet 256x256",
        "Paper: rFID, ImageNet 256x256",
        "Paper: IS, ImageNet 256x256",
    ):
        assert f">{words}<" in svg, words


def test_the_verdicts_file_ends_with_the_means_of_every_panel(tmp_path):
    sweep, found = measured(tmp_path, "noise", noisy_reconstructions)
    lines = report_files(sweep, found, ["AGREES"])["table6_top-verdict.txt"].decode().splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("mean +- standard"))
    for name in ("FD-pixels", "CS-digits-cnn", "rFD-pixels", "held-out PSNR (dB)", "latent/std"):
        assert name in lines[head], name
    rows = lines[head + 1 :]
    assert len(rows) == len(sweep.axis.fields)
    for row, value in zip(rows, sweep.axis.fields, strict=True):
        assert row.startswith(f"sigma = {value}")
        for metric in shown_metrics(sweep.axis, found):
            assert str(estimate(found, ("", value), metric)) in row


def test_what_is_missing_or_collapsed_is_said(tmp_path):
    def collapsed(trial):
        only = {PSNR: 7.0, STD: 0.02}
        return only if trial.value == "14" else like_the_paper(trial)

    sweep, found = measured(tmp_path, "flow_ratio", collapsed)
    text = "\n".join(verdict(sweep.axis, found))
    assert "NOT MEASURED: FD-pixels at F = 14, shared" in text
    assert "COLLAPSED: latent/std is 0.02 at F = 14, separate, seed 1" in text


def test_the_table_has_a_row_per_trial_with_its_run_and_the_papers_figures(tmp_path):
    sweep, found = measured(tmp_path, "noise", like_the_paper)
    rows = report_files(sweep, found, [])["table6_top.csv"].decode().splitlines()
    head, first = rows[0].split(","), rows[1].split(",")
    assert len(rows) == 1 + len(found)
    cells = dict(zip(head, first, strict=True))
    assert cells["mlflow_run_id"] == f"id-{found[0].trial.digest}"
    assert cells["run"] == f"/runs/{found[0].trial.digest}"
    assert (cells["paper_generation"], cells["paper_reconstruction"]) == ("2.87", "1.09")
    assert cells[FD] == "1.0"


def test_the_figure_names_metrics_links_runs_and_is_the_same_twice(tmp_path):
    sweep, found = measured(tmp_path, "flow_ratio", like_the_paper)
    files = report_files(sweep, found, ["a line"])
    again = report_files(sweep, found, ["a line"])
    assert files == again
    assert set(files) == {f"fig5{end}" for end in (".png", ".svg", ".csv", "-verdict.txt")}
    assert files["fig5.png"].startswith(b"\x89PNG")
    svg = files["fig5.svg"].decode()
    for each in found:
        assert f"/runs/{each.trial.digest}" in svg
    for words in (
        "Ours: FD-pixels",
        "Ours: FD-digits-cnn",
        "Paper: gFID, ImageNet 256x256",
        "lower is better",
    ):
        assert f">{words}<" in svg


@pytest.mark.parametrize("axis", ["stop_grad", "cfg", "shift", "weight_sharing"])
def test_every_kind_of_axis_can_be_drawn(tmp_path, axis):
    sweep, found = measured(tmp_path, axis, lambda trial: {FD: 1.0, PSNR: 30.0, STD: 0.5})
    assert report_files(sweep, found, [])[f"{sweep.axis.figure}.svg"]


def test_without_a_finished_trial_there_is_a_verdict_and_no_figure(tmp_path):
    sweep, _ = measured(tmp_path, "noise", like_the_paper)
    files = report_files(sweep, [], ["MISSING: everything"])
    assert sorted(files) == ["table6_top-verdict.txt", "table6_top.csv"]
    assert b"MISSING: everything" in files["table6_top-verdict.txt"]


def with_cards(found, torch_of):
    """The same trials with a card of every metric, of a version of torch for each trial."""
    return [
        replace(
            each,
            result=replace(
                each.result,
                cards={
                    name: MetricCard(
                        metric=name.rsplit("/")[-1],
                        value=value,
                        step=1,
                        suite=name.split("/")[1],
                        checkpoint=each.trial.digest,
                        cfg_scale=each.trial.protocol.sampling.cfg_scale,
                        versions={"torch": torch_of(each.trial)},
                    ).to_dict()
                    for name, value in each.result.metrics.items()
                },
            ),
        )
        for each in found
    ]


def test_trials_that_were_measured_differently_are_not_compared(tmp_path):
    """A sweep that goes on after an update finds the results from before it."""
    sweep, found = measured(tmp_path, "flow_ratio", like_the_paper)
    alike = with_cards(found, lambda trial: "2.15")
    assert verdict(sweep.axis, alike) == verdict(sweep.axis, found)
    mixed = with_cards(found, lambda trial: "2.11" if trial.point == ("shared", "1") else "2.15")
    lines = verdict(sweep.axis, mixed)
    assert lines[0].startswith(
        "UNDECIDED (not all measured alike: versions.torch 2.15 against 2.11): FD-pixels is 0.585"
    )
    assert sum(line.startswith("AGREES") for line in lines) == 2  # those without F = 1, shared
    (told,) = [line for line in lines if line.startswith("NOT ALIKE")]
    assert "2 trials measured otherwise than the others (versions.torch 2.11 against 2.15)" in told
    first = next(each for each in mixed if each.trial.point == ("shared", "1"))
    assert f"{first.run}/ablation/{first.trial.measurement}.json" in told


def test_what_an_axis_varies_itself_is_no_difference_of_measuring(tmp_path):
    sweep, found = measured(tmp_path, "cfg", lambda trial: {FD: 1.0})
    lines = verdict(sweep.axis, with_cards(found, lambda trial: "2.15"))
    assert not any("alike" in line.lower() for line in lines)
