"""Figs. 4, 6 and 7 and the entropy bars, from the rich experiment."""

from __future__ import annotations

from dataclasses import replace

import pytest

from unite.figures.trajectory import CLEAN
from unite.reporting import charts
from unite.reporting.catalogue import Catalogue


def test_dynamics_have_a_panel_for_each_run_that_logged_losses(seen, index, rich):
    runs = {panel.run for panel in seen.dynamics}
    assert runs == {index[name] for name in (rich.good, rich.other, rich.hostile)}
    panel = next(panel for panel in seen.dynamics if panel.run == index[rich.good])
    assert [series.label for series in panel.series] == ["reconstruction", "flow"]
    assert [len(series.points) for series in panel.series] == [12, 12] and panel.log_y


def test_one_runs_broken_curves_take_nothing_from_the_others(seen, rich):
    (figure,) = seen.alignment
    labels = {label for _, label in figure.legend}
    assert labels == {rich.good, rich.other}
    assert len(figure.panels) == 4
    assert "bands reach" in figure.caption and "297" in figure.caption


def test_a_run_alone_has_a_line_for_each_noise_level(seen, index, rich):
    alone = [seen.data.runs[index[rich.good]]]
    (figure,) = charts.alignment(alone, Catalogue.of(alone))
    assert [label for _, label in figure.legend] == [
        f"t = {t:g}" for t in (0.1, 0.3, 0.5, 0.7, 0.9)
    ]


def test_broken_curves_alone_say_where_the_reason_stands(seen, index, rich):
    alone = [seen.data.runs[index[rich.broken]]]
    (figure,) = charts.alignment(alone, Catalogue.of(alone))
    assert figure.panels == () and "cannot be read" in figure.caption


def test_runs_of_different_depth_share_an_axis(seen, index, rich):
    deep = replace(seen.data.runs[index[rich.good]])
    curves = deep.alignment
    twice = {name: [[*c, *c] for c in block] for name, block in curves.blocks.items()}
    deep = replace(deep, alignment=replace(curves, blocks=twice))
    runs = [seen.data.runs[index[rich.other]], deep]
    (figure,) = charts.alignment(runs, Catalogue.of(runs))
    assert [name for _, name in figure.panels[0].x_ticks] == [str(block) for block in range(1, 9)]


def test_trajectories_have_curves_a_point_for_the_clean_latent_and_pictures(seen, index, rich):
    (figure,) = seen.trajectory
    (panel,) = figure.panels
    curves = {series.label: series.points for series in panel.series}
    assert len(curves[rich.good]) == 5
    assert curves[f"{rich.good}, D(z0)"] == [(CLEAN, 33.22)]
    assert {shown.run for shown in figure.pictures} == {index[rich.good], index[rich.other]}
    assert "prediction at t = 0.9" in figure.pictures[0].caption


def test_runs_of_one_name_in_three_storages_all_have_their_curves(seen, index, rich):
    run = seen.data.runs[index[rich.good]]
    copies = [replace(run, info=replace(run.info, run_id=f"{n}" * 32)) for n in range(3)]
    (figure,) = charts.trajectory(copies, Catalogue.of(copies))
    names = [run.name, f"{run.name}, {run.folder_name}", f"{run.name}, {'2' * 32}"]
    assert [label for _, label in figure.legend] == names
    assert [shown.run for shown in figure.pictures] == [0, 1, 2]


def test_measurements_of_different_protocols_never_share_a_chart(seen, index, rich):
    good, other = (seen.data.runs[index[name]] for name in (rich.good, rich.other))
    found = []
    for each in other.evaluations.found:
        rows = tuple(replace(r, card=replace(r.card, num_samples=50)) for r in each.outcome.rows)
        found.append(replace(each, outcome=replace(each.outcome, rows=rows)))
    other = replace(other, evaluations=replace(other.evaluations, found=tuple(found)))
    figures = charts.trajectory([good, other], Catalogue.of([good, other]))
    assert len(figures) == 2
    assert all("num_samples 297 (A), 50 (B)" in figure.warning for figure in figures)


def test_entropy_bars_hold_the_groups_and_link_the_totals(seen, index, rich):
    bars = next(group for group in seen.entropy if group.run == index[rich.good])
    assert [bar.label for bar in bars.bars] == ["encoder, at the start", "encoder, trained"]
    assert bars.bars[1].total == pytest.approx(0.215) and bars.note == "2048 bins"
    assert bars.bars[1].source.card.metric == "total_mb"
