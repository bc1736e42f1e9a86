"""Fig. 6: lines of one model and of several."""

from __future__ import annotations

import pytest

from unite.figures.alignment import AlignmentCurves, alignment_figure

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
