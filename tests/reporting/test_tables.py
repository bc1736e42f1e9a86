"""The paper's tables: theirs in full, ours beside under true names."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest

from unite.evaluation.card import MetricCard
from unite.evaluation.results import Outcome, Row
from unite.paper import TABLES
from unite.reporting.catalogue import Catalogue
from unite.reporting.evaluations import Evaluations, Found
from unite.reporting.tables import finetune_words, paper_tables


def table(seen, source):
    (found,) = [each for each in seen.tables if each.source == source]
    return found


def group(found, start):
    return {
        row.name: {column: cell.text for column, cell in row.cells.items()}
        for each in found.groups
        if each.title.startswith(start)
        for row in each.rows
    }


def test_table_1_has_the_papers_models_and_ours_in_columns_of_their_own(seen, rich):
    found = table(seen, "Table 1")
    paper = group(found, "Paper")
    models = TABLES["imagenet256_generation"].rows | TABLES["imagenet256_baselines"].rows
    assert set(paper) == set(models)
    assert paper["UNITE-B"] == {"parameters (M)": "217.6", "FID": "2.12", "IS": "294.1"}
    assert paper["RIN"]["IS"] == "182.0", "to as many places as the rest of the column"
    ours = group(found, "Ours")
    assert set(ours) == {rich.good, rich.other}, "trials stand with their sweeps"
    assert "FID" not in ours[rich.good]
    assert ours[rich.good]["FD-digits-cnn"] == "7.988"
    assert found.better["FD-digits-cnn"] == "lower is better"
    assert found.better["CS-digits-cnn"] == "higher is better"


def test_numbers_of_ours_have_cards_and_the_letters_of_their_protocols(seen, index, rich):
    rows = [r for g in table(seen, "Table 1").groups if g.ours for r in g.rows]
    (row,) = [each for each in rows if each.name == rich.good]
    cell = row.cells["FD-digits-cnn"]
    assert row.run == index[rich.good] and cell.entries[0].card.value == 7.988
    letters = {each.cells["FD-digits-cnn"].letter for each in rows}
    assert letters == {"A", "B"}
    assert "letters are protocols" in table(seen, "Table 1").note


def test_table_2_is_there_whole_with_ours_by_their_weights(seen, rich):
    found = table(seen, "Table 2")
    assert {name: row["rFID"] for name, row in group(found, "Paper").items()} == {
        name: f"{row['rfid']:.2f}"
        for name, row in TABLES["imagenet256_reconstruction"].rows.items()
    }
    assert group(found, "Ours")[rich.other]["rFD-digits-cnn"] == "0.2381"
    notes = {row.name: row.note for each in found.groups if each.ours for row in each.rows}
    assert notes == {rich.good: "shared weights", rich.other: "separate weights"}
    assert "parameters (M)" not in found.columns


def test_table_6_has_both_halves_and_our_sweep_below_the_papers(seen):
    top, bottom = table(seen, "Table 6, top"), table(seen, "Table 6, bottom")
    assert group(top, "Paper")["0.6"] == {"gFID": "2.80", "rFID": "1.21", "IS": "267.1"}
    ours = group(top, "Ours: sweep-noise")
    assert ours["0.7"]["rFD-pixels"] == "0.2398" and ours["0.0"]["FD-pixels"] == "0.8065"
    assert set(group(bottom, "Paper")) == {"0.0", "0.5", "0.75"}
    assert "sweep_shift.py makes ours" in bottom.note


def test_without_measured_runs_the_papers_figures_stand_alone(seen):
    none = replace(seen.catalogue, entries=(), protocols={})
    for found in paper_tables(seen.data.runs, none, []):
        assert [each.ours for each in found.groups].count(True) == 0
        assert "makes ours" in found.note or "no training run of ours" in found.note


def of_kind(kind, suite, **values):
    """A run whose newest evaluation by a suite gave these values, in %."""
    made = partial(MetricCard, suite=suite, step=1, checkpoint="c")
    rows = tuple(Row(card=made(metric=key, value=value)) for key, value in values.items())
    outcome = Outcome(suite=suite, rows=rows)
    found = Found(outcome=outcome, step=1, newest=True, read=bytes)
    info = SimpleNamespace(params={"domain.kind": kind})
    evaluations = Evaluations(found=(found,))
    return SimpleNamespace(evaluations=evaluations, trials=[], kind=kind, name=kind, info=info)


@pytest.mark.parametrize(
    ("runs", "places"),
    [
        ([], ["Table 1", "Table 2", "Table 6, top", "Table 6, bottom"]),
        ([of_kind("molecules", "generation", valid_pct=90.0)], ["Table 3"]),
        ([of_kind("crystals", "reconstruction", match_pct=99.0)], ["Table 5"]),
        ([of_kind("structures", "generation-crystals", struct_pct=95.0)], ["Table 5"]),
        ([of_kind("points", "generation", w1=1.0)], []),
    ],
)
def test_the_tables_are_those_of_the_kinds_that_the_runs_are_of(runs, places):
    found = paper_tables(runs, Catalogue.of(runs), [])
    assert [each.source for each in found] == places
    for each in found if runs else ():
        assert set(group(each, "Ours")) == {run.name for run in runs}


def test_a_match_by_another_rule_than_the_papers_has_a_column_of_its_own():
    """The paper counts crystals that match where both are valid."""
    run = of_kind("crystals", "reconstruction", match_pct=99.0, match_valid_pct=80.0)
    (found,) = paper_tables([run], Catalogue.of([run]), [])
    assert group(found, "Paper")["UNITE-S"]["match of valid"] == "75.7"
    assert "match" not in group(found, "Paper")["UNITE-S"]
    assert group(found, "Ours")[run.name] == {"match": "99", "match of valid": "80"}
    assert found.better["structure valid"] == "higher is better"


def test_a_fine_tuned_run_names_its_parent_and_asks_for_its_control():
    gan = {"parent.run": "base", "adversarial.weight": "0.75", "finetune.epochs": "16.0"}
    control = {**gan, "adversarial.weight": "0.0"}
    assert finetune_words({"model.sharing": "shared"}, [gan]) == ""
    assert finetune_words(gan, [gan, control]) == "base + GAN decoder ft"
    assert finetune_words(control, []) == "control: base, the same steps without an adversary"
    shorter = {**control, "finetune.epochs": "8.0"}
    for others in ([], [gan], [shorter], [{**control, "parent.run": "other"}]):
        assert "compare with a control of equal steps" in finetune_words(gan, others)
