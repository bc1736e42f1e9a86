"""Differences and verdicts of the ablation of the decoder's fine-tuning, from numbers by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from unite.ablation.decoder_gan import (
    ARMS,
    CONTROL,
    GE,
    PARENT,
    RULE,
    Measured,
    better,
    claims,
    cost_lines,
    difference,
    table,
    unchanged,
)
from unite.ablation.decoder_gan_figure import before_and_after, gan_figure
from unite.ablation.decoder_gan_options import GanSweepOptions, gan_folder, settle

RFD, FD, PSNR = "reconstruction/rfd-x", "generation/fd-x", "reconstruction/psnr"


def one(arm, seed, rfd, fd=10.0, psnr=20.0, parent="p", spread=0.2) -> Measured:
    return Measured(
        parent=parent,
        arm=arm,
        seed=seed,
        metrics={RFD: rfd, FD: fd, PSNR: psnr},
        spread={FD: spread},
        training={} if arm in (PARENT, CONTROL) else {"disc/accuracy": 0.55},
        run="",
    )


MEASURED = [
    one(PARENT, 0, 30.0, 30.0),
    *(one(CONTROL, seed, 14.0 + seed, 12.0) for seed in range(3)),
    *(one(GE, seed, 7.0 + seed + 0.1 * seed, 12.0 + (seed - 1)) for seed in range(3)),
]


def test_differences_are_paired_so_that_what_seeds_share_drops_out():
    found = difference(MEASURED, GE, RFD)
    assert found.mean == pytest.approx(-6.9) and found.pairs == 3
    assert found.error == pytest.approx(0.1 / math.sqrt(3))
    assert found.relative == pytest.approx((-7 / 14 - 6.9 / 15 - 6.8 / 16) / 3)


def verdict(measured, metric):
    """Is the adversary better than its control?"""
    return better(difference(measured, GE, metric), metric)


def test_verdicts():
    assert verdict(MEASURED, RFD) == "HOLDS"
    assert verdict(MEASURED, FD) == "UNDECIDED"
    worse = [*MEASURED[:4], *(one(GE, seed, 20.0 + seed) for seed in range(3))]
    assert verdict(worse, RFD) == "FAILS"
    sharper = [one(CONTROL, s, 1.0, psnr=20.0 + s) for s in (0, 1, 2)]
    sharper += [one(GE, s, 1.0, psnr=21.0 + s + 0.01 * s) for s in (0, 1, 2)]
    assert verdict(sharper, PSNR) == "HOLDS"  # higher is better


def test_two_pairs_decide_nothing_and_none_says_nothing():
    for seeds in ((0,), (0, 1)):
        few = [m for m in MEASURED if m.seed in seeds]
        assert verdict(few, RFD) == "UNDECIDED"
        fresh = [one("random, trained", seed, 9.0 + seed) for seed in seeds]
        assert not any(line.startswith("HOLDS: init") for line in claims([*few, *fresh], RFD, FD))
    assert difference([MEASURED[4]], GE, RFD) is None
    assert difference([one(CONTROL, 0, 1.0), one(GE, 1, 1.0)], GE, RFD) is None


def test_generation_is_unchanged_within_the_spread_of_its_sets_of_samples():
    assert unchanged(MEASURED, GE, FD) == "FAILS"
    same = [one(PARENT, 0, 1.0, 10.0), *(one(GE, s, 1.0, 10.0 + 0.1 * s) for s in range(3))]
    assert unchanged(same, GE, FD) == "HOLDS"
    assert unchanged([m for m in same if m.arm != PARENT], GE, FD) is None


def test_every_claim_stands_beside_its_control_and_the_rule():
    lines = claims(MEASURED, RFD, FD)
    assert lines[0] == (
        "HOLDS: GE, trained lowers rfd-x against the control: -6.9 (-46%; +- 0.058, 3 pairs)"
    )
    assert lines[-1] == RULE


def test_the_initialisation_is_judged_by_its_own_pairs():
    fresh = [one("random, trained", seed, 9.0 + seed) for seed in range(3)]
    lines = claims([*MEASURED, *fresh], RFD, FD)
    assert any(line.startswith("HOLDS: initialising from the GE lowers rfd-x") for line in lines)


def test_the_table_has_the_control_and_standard_errors():
    lines = table(MEASURED, [RFD])
    assert "| control | 15 +- 0.58 | - | 3 |" in lines
    assert "| GE, trained | 8.1 +- 0.64 | 0.55 +- 0 | 3 |" in lines
    assert "| parent | 30 | - | 1 |" in lines


def test_a_metric_that_only_some_results_have_leaves_the_others_as_they_are():
    """LPIPS, whose weights were there for the first seed alone."""
    first, *others = MEASURED[4:]
    some = replace(first, metrics={**first.metrics, "reconstruction/lpips": 0.25})
    lines = table([*MEASURED[:4], some, *others], [RFD, "reconstruction/lpips"])
    assert "| GE, trained | 8.1 +- 0.64 | 0.25 | 0.55 +- 0 | 3 |" in lines
    assert "| parent | 30 | - | - | 1 |" in lines


def test_the_cost_counts_what_was_counted():
    assert cost_lines(MEASURED) == []
    spent = [
        replace(m, cpu_seconds={"training": 60.0 + 2 * m.seed, "measuring": 3.0})
        for m in MEASURED
        if m.arm == GE
    ]
    assert cost_lines([*MEASURED, *spent]) == [
        "CPU time of 3 results: 3.2 min; medians in seconds, training + measuring: "
        "GE, trained 62 + 3"
    ]


def test_the_figure_has_a_dot_for_every_run():
    figure = gan_figure(MEASURED, [RFD, FD], "")
    dots = [series for series in figure.panels[0].series if series.faint]
    assert sum(len(series.points) for series in dots) == len(MEASURED)


def test_names_of_arms_are_broken_so_that_neighbours_fit():
    (panel,) = gan_figure([one(arm, 0, 1.0) for arm in ARMS], [RFD], "").panels
    lines = [part for _, name in panel.x_ticks for part in name.split(", ")]
    assert len(panel.x_ticks) == len(ARMS) and max(map(len, lines)) <= 8
    assert "GE no, latent, noise" in [name for _, name in panel.x_ticks]


def test_pictures_are_those_that_changed_most():
    still = np.zeros((20, 8, 8, 1), np.uint8)
    after = still.copy()
    after[7], after[3] = 200, 100
    grid = before_and_after({"held out": still, PARENT: still, CONTROL: still, GE: after})
    last = grid[3 * 66 :]
    assert last[:64, :64].min() == 200 and last[:64, 66:130].min() == 100
    assert last[:64, 132:196].max() == 0


def test_options_take_the_scales_values_and_keep_the_control():
    options = settle(GanSweepOptions(arms=(GE,)))
    assert options.arms == (CONTROL, GE) and (options.parents, options.seeds) == (2, 3)
    assert settle(GanSweepOptions(run=("a",))).parents == 1
    assert settle(GanSweepOptions()).arms == tuple(ARMS)
    assert settle(GanSweepOptions(scale="cifar10", data="d")).arms == (CONTROL, GE)
    asked = GanSweepOptions(scale="cifar10", data="d", arms=("GE, frozen",))
    assert settle(asked).arms == (CONTROL, "GE, frozen")
    assert options.data == "builtin:digits"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": ("ge",)}, "--arms 'ge' is no arm; there are 'control'"),
        ({"seeds": -1}, "--seeds -1 must not be negative"),
        ({"num_workers": -2}, "--num-workers -2 must not be negative"),
        ({"run": ("a",), "parents": 2}, "--parents has no effect with --run"),
        ({"run": ("a",), "data": "b"}, "--data has no effect with --run"),
        ({"scale": "cifar10"}, "--scale cifar10 trains cifar10-small, which needs --data"),
    ],
)
def test_impossible_options_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        settle(GanSweepOptions(**changes))


def test_sweeps_with_other_options_have_folders_of_their_own(tmp_path):
    """The later one wrote over the table and the figure of the one before."""

    def folder(**changes) -> str:
        return gan_folder(settle(GanSweepOptions(storage=str(tmp_path), **changes))).name

    assert folder() == folder(seeds=3) == "decoder-gan-laptop"
    assert folder(scale="cifar10", data="d") == "decoder-gan-cifar10"
    assert folder(samples=100, epochs=0.5) == "decoder-gan-laptop-epochs-0.5-samples-100"
    others = [folder(arms=(GE,)), folder(run=("a",)), folder(run=("b",)), folder(parents=1)]
    others += [folder(extractor=("pixels",)), folder(scale="gpu", run=("runs/a",))]
    assert len({*others, "decoder-gan-laptop", "decoder-gan-gpu"}) == len(others) + 2
