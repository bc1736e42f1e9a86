"""Figs. 6 and 7, weight entropy and the guidance scale: contents of their figures."""

from __future__ import annotations

import pytest

from unite.figures.alignment import AlignmentCurves, alignment_figure
from unite.figures.entropy import bars, entropy_figure, paper_bars
from unite.figures.guidance import guidance_figure
from unite.figures.sheet import picture
from unite.figures.trajectory import CLEAN, TrajectoryCurve, to_the_input, trajectory_figure
from unite.paper import TABLES

LEVELS = (0.1, 0.5, 0.9)


def curves(shift=0.0, depth=4):
    block = [[0.9 - 0.1 * number - shift for number in range(depth)] for _ in LEVELS]
    return AlignmentCurves.of(
        {
            "config": {"levels": LEVELS, "rows": "register", "neighbors": 10, "condition": "label"},
            "num_images": 1200, "num_neighbor_rows": 64,
            "cka": block, "cknna": block, "cosine": block, "latent_cosine": [0.6, 0.7, 0.8],
        }
    )  # fmt: skip


def test_one_model_has_a_line_for_each_noise_level_and_its_settings():
    figure = alignment_figure({"model": curves()})
    assert [label for _, label in figure.legend] == ["t = 0.1", "t = 0.5", "t = 0.9"]
    assert figure.caption == "1,200 images, rows: registers, CKNNA: k = 10 of 64 rows, class: label"
    assert figure.panels[3].series[0].index not in {index for index, _ in figure.legend}


def test_several_models_have_a_mean_in_a_band_each():
    figure = alignment_figure({"a": curves(), "b": curves(0.2, depth=8)})
    assert [label for _, label in figure.legend] == ["a", "b"]
    first = figure.panels[0].series[0]
    assert first.points[0] == pytest.approx((1.0, 0.9)) and len(first.band) == 4
    assert [name for _, name in figure.panels[0].x_ticks] == [str(block) for block in range(1, 9)]
    assert "bands reach" in figure.caption


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"config": {"levels": [0.5]}, "num_images": 1}']
)
def test_what_is_no_alignment_is_refused(data):
    with pytest.raises((ValueError, KeyError, TypeError)):
        AlignmentCurves.read(data)


def test_curves_must_fit_their_levels():
    text = (
        b'{"config": {"levels": [0.5]}, "num_images": 1, "cka": [[1, 1]], "cknna": [[1]],'
        b' "cosine": [[1, 1]], "latent_cosine": [1]}'
    )
    with pytest.raises(ValueError, match="1 noise levels"):
        AlignmentCurves.read(text)


def test_a_trajectory_has_a_line_and_apart_from_it_the_clean_latent():
    curve = TrajectoryCurve(metric="psnr", levels=LEVELS, values=(9.0, 15.0, 22.0), clean=30.0)
    (panel,) = trajectory_figure({"shared": curve}).panels
    line, clean = panel.series
    assert line.points == [(0.1, 9.0), (0.5, 15.0), (0.9, 22.0)]
    assert clean.points == [(CLEAN, 30.0)] and clean.dashed
    assert panel.y_label == "PSNR to the input (dB)"


def test_any_metric_can_stand_along_a_trajectory():
    assert to_the_input("closeness") == "closeness to the input"


def test_entropy_stands_beside_the_papers():
    figure = entropy_figure({"trained": {"norm": 30.0, "total": 30.0}}, bins=256, fits=2048)
    ours, paper = figure.panels
    assert "256 bins" in ours.note and "2048 fit" in ours.note
    assert ours.bars[0].total == 30.0, "the total is no part"
    text = picture(figure).svg.decode()
    assert "179.2 MB" in text and "norms, adaLN" in text
    assert len(paper.bars) == len(TABLES["entropy_mb"].rows)


def test_bars_of_the_paper_say_where_norms_stand_alone():
    (alone,) = [bar for bar in paper_bars().bars if bar.label.startswith("separate denoiser")]
    assert alone.label.endswith("norms alone") and alone.total == 42.0


def test_bars_carry_the_origin_of_their_totals():
    assert bars("t", {"a": {"norm": 1.0}}, sources={"a": "card"}).bars[0].source == "card"


def test_scales_seen_on_a_part_of_the_samples_are_hollow():
    figure = guidance_figure({1.0: 9.0, 1.2: 7.0, 1.4: 6.0}, {1.0: 0.1, 1.2: 1, 1.4: 1}, 1.4, "fid")
    whole, part, best = figure.panels[0].series
    assert whole.points == [(1.2, 7.0), (1.4, 6.0)] and not whole.dashed
    assert part.points == [(1.0, 9.0)] and part.dashed
    assert {x for x, _ in best.points} == {1.4} and figure.panels[0].y_label == "FID"
