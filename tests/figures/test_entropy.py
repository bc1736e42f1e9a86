"""Bars of the weight entropy, ours and the paper's."""

from __future__ import annotations

from unite.figures.entropy import bars, entropy_figure, paper_bars
from unite.figures.sheet import picture
from unite.paper import TABLES


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
