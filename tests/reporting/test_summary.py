"""The table of runs: its columns, cells, warnings, and the paper's rows."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from unite.evaluation.card import MetricCard
from unite.evaluation.results import Outcome, Row
from unite.metrics.specs import better_words
from unite.reporting.catalogue import Catalogue
from unite.reporting.evaluations import Evaluations, Found
from unite.reporting.summary import summarise


def cell(seen, index, name, title):
    place = [column.title for column in seen.summary.columns].index(title)
    return seen.summary.rows[index[name]][place]


def test_fid_and_rfid_have_columns_of_their_own_that_only_the_paper_fills(seen):
    titles = [column.title for column in seen.summary.columns]
    assert titles.index("FID") < titles.index("FD-digits-cnn") < titles.index("rFID")
    assert titles[-2:] == ["parameters", "TFLOP"]
    base = dict(zip(titles, seen.summary.paper[0].cells, strict=True))
    assert (base["FID"], base["rFID"], base["parameters"]) == ("2.12", "1.01", "217.6")
    assert base["FD-digits-cnn"] == "" == base["PSNR"]
    for row in seen.summary.rows:
        assert row[titles.index("FID")].value is None


def test_numbers_carry_their_cards_and_letters_where_protocols_differ(seen, index, rich):
    found = cell(seen, index, rich.good, "FD-digits-cnn")
    assert (found.text, found.entries[0].card.value) == ("7.988", 7.988)
    other = cell(seen, index, rich.other, "FD-digits-cnn")
    assert {found.letter, other.letter} == {"A", "B"}
    (warning,) = [line for line in seen.summary.warnings if line.startswith("FD-digits-cnn")]
    assert "num_samples" in warning and "1,000" in warning and "3,000" in warning
    assert cell(seen, index, rich.good, "rFD-digits-cnn").letter == "", "one protocol needs none"


def test_logged_values_have_no_card_and_empty_cells_no_value(seen, index, rich):
    found = cell(seen, index, rich.hostile, "latent std")
    assert not found.entries and found.value == pytest.approx(0.7)
    assert cell(seen, index, rich.hostile, "PSNR").value is None


def test_a_logged_value_that_is_no_number_is_an_empty_cell(seen, index, rich):
    """As is latent/std of a batch in which no two samples can be compared."""
    run = seen.data.runs[index[rich.hostile]]
    nan = replace(run.info, metrics=run.info.metrics | {"latent/std": math.nan})
    runs = [run, replace(run, info=nan)]
    found = summarise(runs, Catalogue.of(runs))
    place = [column.title for column in found.columns].index("latent std")
    assert found.rows[0][place].text == "0.7" and found.rows[1][place].value is None


def test_without_any_number_the_papers_rows_still_stand():
    found = summarise([], Catalogue.of([]))
    assert [row.name for row in found.paper] == ["UNITE-B", "UNITE-L", "UNITE-XL"]
    assert found.rows == () == found.warnings


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("fd-pixels", "lower is better"),
        ("psnr", "higher is better"),
        ("total_mb", ""),
        ("structure valid", "higher is better"),
    ],
)
def test_which_way_is_better_is_said_where_there_is_one(metric, words):
    assert better_words(metric) == words


def test_each_part_of_a_joint_model_has_columns_of_its_own():
    made = partial(MetricCard, metric="valid_pct", step=1, checkpoint="c")
    rows = tuple(
        Row(card=made(suite=f"generation-{part}", value=value))
        for part, value in (("crystals", 81.5), ("molecules", 94.0))
    )
    outcomes = [Outcome(suite=row.card.suite, rows=(row,)) for row in rows]
    found = [Found(outcome=each, step=0, newest=True, read=bytes) for each in outcomes]
    evaluations = Evaluations(found=tuple(found))
    run: Any = SimpleNamespace(evaluations=evaluations, logged=lambda name: None, kind="structures")
    seen = summarise([run], Catalogue.of([run]))
    values = dict(zip([each.title for each in seen.columns], seen.rows[0], strict=True))
    assert values["valid, crystals"].value == 81.5 and values["valid, molecules"].value == 94
    assert "FID" not in values, "no run is of images"
    titles = [each.title for each in seen.columns]
    paper = {row.source: dict(zip(titles, row.cells, strict=True)) for row in seen.paper}
    assert {source: row["valid, crystals"] for source, row in paper.items()} == {
        "Table 3: QM9": "",
        "Table 5: MP20": "87.9",
    }
    assert paper["Table 3: QM9"]["valid, molecules"] == "94.9"
