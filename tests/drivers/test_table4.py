"""Table 4 of one checkpoint: four protocols on one set of chunks, beside the paper's three."""

from types import SimpleNamespace

import pytest

from unite.config.recipes import recipe
from unite.drivers.table4 import (
    NOTE,
    PROTOCOLS,
    main,
    markdown,
    request_of,
    row_of,
    table,
)
from unite.evaluation.arguments import Table4Arguments
from unite.evaluation.card import MetricCard
from unite.evaluation.finished import record_of, settle
from unite.evaluation.results import Outcome, Row, read_outcomes
from unite.paper import TABLES
from unite.storage import Store


def found(*metrics, value=1.5):
    """An outcome of the generation suite."""
    known = {"step": 5, "suite": "generation", "checkpoint": "a", "value": value}
    rows = tuple(Row(card=MetricCard(metric=name, **known)) for name in metrics)
    return Outcome(suite="generation", rows=rows, remarks=("no",))


def test_the_protocols_hold_every_row_of_the_paper():
    assert set(TABLES["evaluation_protocol"].rows) < {each.row for each in PROTOCOLS}
    assert len(PROTOCOLS) == 4


def test_a_request_is_the_generation_suites():
    wanted = Table4Arguments(run="r", num_samples=20, cfg_scale=2.0, extractor=("pixels",))
    requests = [request_of(wanted, each) for each in PROTOCOLS]
    assert {(r.solver, r.labels) for r in requests} == {
        (solver, labels) for solver in ("heun", "dopri5") for labels in ("balanced", "uniform")
    }
    assert {(r.run, r.num_samples, r.cfg_scale, r.suite) for r in requests} == {
        ("r", 20, 2.0, ("generation",))
    }
    assert [r.num_steps for r in requests] == [50, 50, None, None]


def test_figures_stand_beside_the_papers_of_their_protocol():
    outcome = row_of(PROTOCOLS[2], found("fd-pixels", "precision-pixels", "nfe", "cs-a"))
    assert outcome.suite == "table4-dopri5-balanced"
    assert [(r.card.metric, r.paper.value) for r in outcome.rows] == [
        ("nfe", 108),
        ("fd-pixels", 2.735),
        ("cs-a", 268.1),
    ]
    missing = row_of(PROTOCOLS[1], found("fid"))
    assert missing.rows[0].paper is None
    headings, rows = table({PROTOCOLS[2]: outcome, PROTOCOLS[1]: missing})
    assert headings == ["protocol", "nfe", "FD-pixels", "CS-a", "FID", "paper's figures"]
    assert rows[0] == ["dopri5 balanced", "1.5", "1.5", "1.5", "", "108/2.735/268.1"]
    assert rows[1] == ["heun random", "", "", "", "1.5", "none"]
    assert "| heun random |" in markdown({PROTOCOLS[1]: missing})


def test_molecules_have_no_table(monkeypatch):
    subject = SimpleNamespace(config=recipe("qm9-tiny"))
    asked = SimpleNamespace(target=SimpleNamespace(subject=subject))
    monkeypatch.setattr("unite.drivers.table4.open_evaluation", lambda *arguments: asked)
    with pytest.raises(ValueError, match="classes in two ways, which molecules do not have"):
        main(Table4Arguments(), "")


@pytest.mark.slow
def test_the_command_measures_keeps_and_prints_all_four(storage, monkeypatch, capsys):
    wanted = Table4Arguments(
        run="tiny", num_samples=20, extractor=("pixels",), num_workers=0, track=False
    )
    assert main(wanted, str(storage)) == 0
    printed = capsys.readouterr().out
    assert NOTE in printed
    lines = [line for line in printed.splitlines() if line.startswith(("heun", "dopri5"))]
    assert [line.split()[:2] for line in lines] == [
        [solver, classes] for solver in ("heun", "dopri5") for classes in ("balanced", "random")
    ]
    assert [line.split()[2] for line in lines[:2]] == ["100", "100"]
    (file,) = (storage / "tiny" / "evaluations").glob("*/table4/results.json")
    outcomes = read_outcomes(Store.open(file.parent))
    assert [o.suite for o in outcomes] == [each.suite for each in PROTOCOLS]

    *told, _ = record_of(settle(wanted, str(storage))).lines()
    assert told == printed.splitlines()

    monkeypatch.setattr("unite.sampling.generator.draw", None)  # all is there
    assert main(wanted, str(storage)) == 0
