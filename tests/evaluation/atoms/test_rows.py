"""Lines of the tables: a number with its error, beside the truth and the paper's figure."""

import math

from unite.evaluation.atoms.rows import atoms_row, plus_minus
from unite.evaluation.card import MetricCard
from unite.paper import TABLES, counterpart


def card(metric: str, value: float = 30.0) -> MetricCard:
    known = {"step": 64, "suite": "generation", "checkpoint": "0" * 16}
    return MetricCard(metric=metric, value=value, details={"match": "native"}, **known)


def test_a_rate_stands_beside_the_truth_and_the_paper():
    row = atoms_row(card("valid_pct"), 1.4, (94.42, 0.32, 5000), "molecules")
    assert row.note == "+- 1.4, truth 94.42 +- 0.32 (5,000)"
    assert row.card.details == {"match": "native", "truth": 94.42, "truth_error": 0.32}
    assert row.paper is not None and row.paper.value == 94.90


def test_what_is_not_there_is_not_written():
    row = atoms_row(card("rmsd_median"), math.nan, None, "molecules")
    assert (row.note, row.paper, row.card.details) == ("", None, {"match": "native"})
    one = atoms_row(card("w1_bonds"), 0.1, (math.nan, math.nan, 1), "molecules")
    assert one.note == "+- 0.1"
    alone = atoms_row(card("w1_bonds"), 0.1, (0.5, math.nan, 1), "molecules")
    assert alone.note == "+- 0.1, truth 0.5 (1)" and alone.card.details["truth_error"] is None


def test_every_metric_with_a_counterpart_finds_it():
    for kind, table in (("molecules", TABLES["qm9"]), ("crystals", TABLES["mp20"])):
        figures = table.rows["UNITE-S"]
        for key, theirs in table.names.items():
            found = counterpart(key, suite=kind)
            assert found is not None and found.value == figures[theirs]
        assert set(table.names.values()) == set(figures)
    assert counterpart("match_pct", suite="crystals") is None, "the paper's is that of valid ones"


def test_values_are_shown_as_their_metric_is():
    assert plus_minus("valid_pct", 94.42, 0.324) == "94.42 +- 0.32"
    assert plus_minus("valid_pct", 94.42, math.nan) == "94.42"
