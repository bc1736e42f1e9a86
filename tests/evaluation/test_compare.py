from dataclasses import replace

import pytest

from unite.checkpoints.layout import checkpoint_digest
from unite.drivers.evaluate import compare
from unite.evaluation.arguments import CompareArguments
from unite.evaluation.card import MetricCard
from unite.evaluation.compare import check_comparisons, comparisons_of, print_comparisons, read_rows
from unite.evaluation.results import Outcome, Row, write_outcomes
from unite.metrics.errors import MetricError
from unite.storage import Store


def row(value=1.0, **fields):
    settings = {"metric": "fd-pixels", "step": 5, "suite": "generation", "checkpoint": "a"}
    return Row(card=MetricCard(**{**settings, "num_samples": 100, **fields}, value=value))


def write(path, *rows):
    write_outcomes(Store.open(path), [Outcome(suite="generation", rows=rows)])
    return str(path / "results.json")


def test_numbers_of_two_checkpoints_are_compared(tmp_path, capsys):
    a = read_rows(write(tmp_path / "a", row(2.0), row(3.0, metric="psnr")))
    b = read_rows(write(tmp_path / "b", row(1.5, checkpoint="b", step=9)))
    pairs = comparisons_of(a, b)
    check_comparisons(pairs)
    print_comparisons(pairs)
    assert "-0.5" in capsys.readouterr().out


def test_numbers_of_two_protocols_are_refused_by_field(tmp_path, capsys):
    pairs = comparisons_of([row()], [row(num_samples=200, solver="heun")])
    with pytest.raises(MetricError, match=r"num_samples: 100 against 200 \(fd-pixels\)"):
        check_comparisons(pairs)
    print_comparisons(pairs)
    text = capsys.readouterr().out
    assert "solver" in text
    assert "num_samples" in text


def test_numbers_that_one_side_lacks_are_told(tmp_path, capsys):
    """FID on one side and FD on the other are no pair, and no word said so."""
    shared = row(metric="nfe")
    a = write(tmp_path / "a", shared, row(metric="fid"), row(metric="is"))
    b = write(tmp_path / "b", shared, row(metric="fd-pixels"), row(metric="psnr", suite="x"))
    compare(CompareArguments(a=a, b=b))
    told = capsys.readouterr().out.splitlines()[-3:]
    assert told == [
        "only A has generation: FID, IS",
        "only B has generation: FD-pixels",
        "only B has x: PSNR",
    ]


def test_nothing_in_common(tmp_path):
    other = replace(row(), card=replace(row().card, metric="psnr"))
    with pytest.raises(MetricError, match="no metric in common"):
        comparisons_of([row()], [other])


def test_a_file_that_holds_no_results(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(MetricError, match="no results of an evaluation"):
        read_rows(str(tmp_path / "a.json"))


def test_what_is_neither_run_nor_results_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(MetricError, match="notes.txt is neither a run with a checkpoint nor"):
        read_rows(str(tmp_path / "notes.txt"))


def test_a_run_stands_for_the_results_of_its_newest_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("UNITE_STORAGE", str(tmp_path))
    run = Store.open(tmp_path / "one")
    run.write_json("config.json", {"recipe": "smoke"})
    place = run / "checkpoints" / f"{64:012d}"
    place.write_json("COMMITTED", {"sha256": {"model.safetensors": "0"}})
    with pytest.raises(MetricError, match=r"has not been measured .*jobs/evaluate.py --run one"):
        read_rows("one")
    home = run / "evaluations" / checkpoint_digest(place)
    write_outcomes(home, [Outcome(suite="generation", rows=[row(3.0)])])
    assert [row.card.value for row in read_rows("one")] == [3.0]
