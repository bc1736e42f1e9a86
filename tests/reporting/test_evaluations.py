"""Evaluations from a run's folder and from MLflow; half-written files become problems."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from unite.evaluation.card import MetricCard
from unite.evaluation.results import Outcome, Row
from unite.reporting.evaluations import Evaluations, first_line, in_folder, in_mlflow
from unite.storage import Store

CHECKPOINT = "c" * 16


def outcome(suite="reconstruction", value=30.0, step=100, **files):
    card = MetricCard(metric="psnr", value=value, step=step, suite=suite, checkpoint=CHECKPOINT)
    return Outcome(suite=suite, rows=(Row(card=card),), files=files)


def home(run, digest=CHECKPOINT):
    return run / "evaluations" / digest


@pytest.fixture
def run(tmp_path):
    return Store.open(tmp_path / "run")


def test_the_newest_checkpoint_counts_and_older_ones_are_kept(run):
    for digest, value, step in (("a" * 16, 20.0, 100), ("b" * 16, 30.0, 200)):
        outcome(value=value, step=step).save(home(run, digest))
    found = in_folder(run)
    assert found.newest("reconstruction").step == 200
    assert sorted((row.card.value, main) for row, main in found.rows) == [
        (20.0, False),
        (30.0, True),
    ]
    assert found.newest("probe") is None


def test_another_protocol_of_a_checkpoint_is_kept_beside_the_newest(run):
    outcome(value=30.0).save(home(run))
    outcome(value=30.0).save(home(run) / f"reconstruction-{'0' * 16}")
    outcome(value=25.0).save(home(run) / f"reconstruction-{'1' * 16}")
    found = in_folder(run)
    assert sorted((row.card.value, main) for row, main in found.rows) == [
        (25.0, False),
        (30.0, True),
    ]
    assert found.problems == ()


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("results.json", b"{", "results.json is not whole"),
        ("results.json", b"[]", "holds no results"),
        (f"probe-{'0' * 16}/results.json", b'{"outcomes": [{}]}', "is not whole"),
        (f"probe-{'0' * 16}/chunk-0.npz", b"", "the evaluation of probe is not finished"),
    ],
)
def test_half_written_files_are_named_with_the_command_that_mends_them(run, name, data, words):
    home(run).write(name, data)
    (problem,) = in_folder(run).problems
    assert words in problem and "python jobs/evaluate.py --run run does it again" in problem


def test_what_a_suite_is_made_of_is_no_evaluation_of_its_own(run):
    home(run).write(f"samples-{'0' * 16}/chunk-0.npz", b"")
    assert in_folder(run).problems == ()


def test_a_file_beside_is_parsed_or_becomes_a_problem(run):
    outcome(**{"a.json": b"[1]", "b.json": b"["}).save(home(run))
    found = in_folder(run)
    assert found.beside("reconstruction", "a.json", json.loads) == ([1], found)
    assert found.beside("probe", "a.json", json.loads) == (None, found)
    for name in ("b.json", "missing.json"):
        nothing, worse = found.beside("reconstruction", name, json.loads)
        assert nothing is None
        assert f"{name} of its reconstruction cannot be shown" in worse.problems[0]


class Files:
    """Artifacts of a run in a dict."""

    def __init__(self, files):
        self.files = files

    def list(self, folder=""):
        depth = folder.count("/") + 2 if folder else 1
        inside = [name for name in self.files if name.startswith(folder)]
        return sorted({"/".join(name.split("/")[:depth]) for name in inside})

    def read(self, name):
        return self.files[name]

    def images(self, key):
        return {}


def test_mlflow_has_them_too_by_step():
    data = json.dumps({"outcomes": [outcome().to_dict()]}).encode()
    files = Files({"evaluation/100/results.json": data, "evaluation/200/results.json": b"{"})
    found = in_mlflow(files)
    assert [each.step for each in found.found] == [100]
    (problem,) = found.problems
    assert "evaluation/200/results.json in MLflow is not whole" in problem


def test_nothing_measured_is_nothing_wrong(run):
    run.write("config.json", b"{}")
    assert in_folder(run) == Evaluations()


def test_an_error_is_shortened_to_its_first_line():
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError("")) == "ValueError"
    assert len(first_line(ValueError("x" * 999))) == 160
    assert replace(Evaluations(), problems=("a",)).problems == ("a",)
