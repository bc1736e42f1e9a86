"""A finished evaluation, typed again, prints its table at once."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from typed import HEAVY, typed
from unite import tracking
from unite.checkpoints.layout import MARKER, checkpoint_digest, folder_of
from unite.drivers import evaluate as driver
from unite.evaluation import finished
from unite.evaluation.arguments import (
    CompareArguments,
    CurveArguments,
    EvaluateArguments,
    FitArguments,
    ReferenceArguments,
    SampleArguments,
    Table4Arguments,
)
from unite.evaluation.card import MetricCard
from unite.evaluation.finished import FOLDER, record_of, settle
from unite.evaluation.request import REPORT_FILE, open_evaluation
from unite.evaluation.results import Outcome, Row
from unite.runs import EVALUATIONS, RESULTS_FILE
from unite.storage import Store

LINES = ["metric  value", "norm_mb  0.5"]
BUILTIN = "builtin:digits"
ASKED = EvaluateArguments(suite=("entropy",), num_workers=0)


@pytest.fixture(scope="module")
def made(untrained_run, tmp_path_factory):
    """Storage of a run that tests copy."""
    return Path(untrained_run(tmp_path_factory.mktemp("made"), images=(128, 256)).uri).parent


@pytest.fixture
def run(made, tmp_path, monkeypatch):
    """A run without pretrained files, with results of its newest checkpoint."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("UNITE_WEIGHTS", raising=False)
    shutil.copytree(made, tmp_path / "runs")
    run = Store.open(tmp_path / "runs" / "tiny")
    digest = checkpoint_digest(folder_of(run, 256))
    (run / EVALUATIONS / digest).write_json(RESULTS_FILE, {"outcomes": []})
    (run / EVALUATIONS / digest).write(REPORT_FILE, b"")
    return run


@pytest.fixture
def storage(run):
    return run.uri.rpartition("/")[0]


def record(storage, **changes):
    return record_of(settle(replace(ASKED, **changes), storage))


def keep(kept):
    """Keep LINES as the driver does."""
    kept.keep(LINES, [kept.folder / RESULTS_FILE], kept.folder)


def test_the_same_command_finds_its_lines(run, storage):
    assert record(storage).lines() is None
    keep(record(storage))
    *lines, last = record(storage).lines()
    assert lines == LINES
    assert "finished at " in last and "nothing to do" in last
    assert last.endswith(f"To do it again, delete {record(storage).folder}")
    assert record(storage).folder.uri == open_evaluation(ASKED, storage).home.uri


@pytest.mark.parametrize("name", ["latest", "tiny", "{run}", "{run}/checkpoints/000000000256"])
def test_every_name_of_the_checkpoint_finds_it(run, storage, name):
    keep(record(storage))
    named = replace(ASKED, run=name.format(run=run), storage=storage)
    assert record_of(settle(named, "elsewhere")).lines()


@pytest.mark.parametrize(
    "changes",
    [
        {"suite": ("compute",)},
        {"seed": 1},
        {"ema": False},
        {"entropy_bins": 256},
        {"track": False},
        {"batch_size": 64},
        {"run": "tiny/checkpoints/000000000128"},
    ],
)
def test_another_command_does_not(run, storage, changes, monkeypatch):
    monkeypatch.chdir(storage)
    keep(record(storage))
    assert record(storage, **changes).lines() is None
    assert record(storage).lines()


def test_a_new_checkpoint_ends_it(run, storage):
    keep(record(storage))
    folder = folder_of(run, 512)
    for name in ("state.json", MARKER):
        folder.write(name, folder_of(run, 256).read(name) + b" ")
    marker = folder.read_json(MARKER)
    folder.write_json(MARKER, {"sha256": {**marker["sha256"], "more": "0"}})
    assert record(storage).lines() is None


def rewrite(place: str, data: bytes):
    """A change of a file below the storage."""
    return lambda storage: Store.open(storage).write(place, data)


def other_results(storage):
    home = record(storage).folder
    home.write(RESULTS_FILE, home.read(RESULTS_FILE).replace(b"outcomes", b"outc0mes"))


@pytest.mark.parametrize(
    "change",
    [
        other_results,
        lambda storage: record(storage).folder.delete(RESULTS_FILE),
        lambda storage: Store.open(storage).delete("data/digits/manifest.json"),
        rewrite("data/digits/eval-00001-of-00002.parquet", b"more"),
        rewrite("tiny/run.json", b'{"mlflow_uri": "http://there", "mlflow_run_id": "1"}'),
    ],
    ids=["other results", "no results", "manifest", "shards", "tracked now"],
)
def test_what_the_answer_follows_from_ends_it(run, storage, change):
    keep(record(storage))
    assert record(storage).lines()
    change(storage)
    assert record(storage).lines() is None


def test_a_database_of_the_training_run_that_is_gone_or_back_ends_it(run, storage, tmp_path):
    """Results go there: where it is missing, the command has more to do."""
    database = tmp_path / "mlflow.db"
    run.write_json("run.json", {"mlflow_uri": f"sqlite:///{database}", "mlflow_run_id": "1"})
    keep(record(storage))
    assert record(storage).lines()
    database.touch()
    assert record(storage).lines() is None
    database.unlink()
    assert record(storage).lines()
    run.write_json("run.json", {"mlflow_uri": "http://there", "mlflow_run_id": "1"})
    assert record(storage).lines() is None


@pytest.mark.parametrize("place", ["torch/hub/checkpoints", "configured"])
def test_a_new_file_of_weights_ends_it_for_those_who_read_it(
    run, storage, tmp_path, monkeypatch, place
):
    monkeypatch.setenv("UNITE_WEIGHTS", str(tmp_path / "configured"))
    readers = {"suite": ("reconstruction", "entropy")}
    for asked in ({}, readers):
        keep(record(storage, **asked))
    Store.open(tmp_path).write(f"{place}/notes.txt", b"of no use")
    assert record(storage, **readers).lines()
    Store.open(tmp_path).write(f"{place}/vgg16-397923af.pth", b"weights")
    assert record(storage, **readers).lines() is None
    assert record(storage).lines(), "entropy reads none"


@pytest.mark.parametrize("option", ["reference", "extractor"])
def test_what_was_named_ends_it_when_its_content_changes(run, storage, tmp_path, option):
    value = str(tmp_path / "given")
    changes = {"reference": value} if option == "reference" else {"extractor": (value, "pixels")}
    name = "given" if option == "reference" else "given/weights.safetensors"
    Store.open(tmp_path).write(name, b"a")
    asked = {"suite": ("generation",), **changes}
    keep(record(storage, **asked))
    assert record(storage, **asked).lines()
    Store.open(tmp_path).write(name, b"b")
    assert record(storage, **asked).lines() is None


def test_other_code_and_other_libraries_end_it(run, storage, tmp_path, monkeypatch):
    monkeypatch.setattr(finished, "PACKAGE", tmp_path / "code")
    for code in (b"a = 1", b"a = 2"):
        Store.open(tmp_path).write("code/room/module.py", code)
        assert record(storage).lines() is None
        keep(record(storage))
        assert record(storage).lines()
    monkeypatch.setattr(finished, "library_versions", lambda: {"torch": "9"})
    assert record(storage).lines() is None


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b"\xff", b'{"lines": 3, "key": ""}'])
def test_a_damaged_record_is_ignored(run, storage, content):
    kept = record(storage)
    keep(kept)
    kept.folder.write(kept.file, content)
    assert kept.lines() is None


def test_what_has_no_run_keeps_no_record(run, storage, tmp_path):
    assert record_of(settle(CompareArguments(a="a", b="b"), storage)) is None
    assert record_of(settle(EvaluateArguments(push="there"), storage)) is None
    Store.open(tmp_path).write("export/model.safetensors", b"")
    assert record(storage, run=str(tmp_path / "export")) is None
    assert record(storage, run=str(tmp_path / "export" / "model.safetensors")) is None
    run.delete("checkpoints")
    assert record(storage, run="tiny") is None


def test_wrong_values_are_refused_before_the_run_is_looked_for(storage):
    with pytest.raises(ValueError, match="--suite 'nothing' is unknown"):
        settle(EvaluateArguments(run="missing", suite=("nothing",)), storage)


@pytest.fixture
def outcomes(monkeypatch):
    """What the driver measures, without measuring."""
    card = MetricCard(metric="norm_mb", value=0.5, suite="entropy", step=256, checkpoint="a")
    found = [Outcome(suite="entropy", rows=(Row(card=card),))]
    monkeypatch.setattr(driver, "evaluate", lambda *_: found)
    return found


def kept_of(storage):
    return (record(storage).folder / FOLDER).list()


def test_the_driver_keeps_what_it_prints(run, storage, outcomes, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert driver.main(ASKED, storage) == 0
    *lines, _ = record(storage).lines()
    assert lines == capsys.readouterr().out.splitlines() and "entropy" in lines


@pytest.mark.parametrize(
    ("is_here", "wanted", "code", "records"),
    [(True, True, 0, 1), (False, True, 0, 0), (False, False, 0, 1), (None, True, 1, 0)],
    ids=["sent", "its MLflow is elsewhere", "switched off", "not taken"],
)
def test_only_what_was_delivered_is_finished(
    run, storage, outcomes, monkeypatch, is_here, wanted, code, records
):
    run.write("run.json", json.dumps({"mlflow_uri": "http://h", "mlflow_run_id": "1"}).encode())

    def log_results(*_, **__):
        if is_here is None:
            raise tracking.TrackingError("not taken")

    monkeypatch.setattr(tracking, "is_here", lambda _: is_here is not False)
    monkeypatch.setattr(tracking, "log_results", log_results)
    assert driver.main(replace(ASKED, track=wanted), storage) == code
    assert len(kept_of(storage)) == records


COMMANDS = {
    "suites": (ASKED, ("--num-workers", "0", "--suite", "entropy")),
    "table4": (Table4Arguments(num_samples=20), ("table4", "--num-samples", "20")),
    "curve": (CurveArguments(num_samples=20), ("curve", "--num-samples", "20")),
    "recipe": (EvaluateArguments(recipe="smoke"), ("--recipe", "smoke")),
    "fit-extractor": (
        FitArguments(data=BUILTIN, seed=3),
        ("fit-extractor", "--data", BUILTIN, "--seed", "3"),
    ),
    "reference": (ReferenceArguments(data=BUILTIN), ("reference", "--data", BUILTIN)),
}


@pytest.mark.parametrize(("arguments", "words"), COMMANDS.values(), ids=COMMANDS)
def test_the_command_loads_nothing_heavy(run, storage, arguments, words):
    kept = record_of(settle(arguments, storage))
    kept.keep(LINES, [run / "config.json"], run)
    heavy = HEAVY | {"pandas", "scipy", "matplotlib"}
    done = typed("jobs/evaluate.py", *words, heavy=heavy, UNITE_STORAGE=storage)
    assert done.stdout.startswith("\n".join(LINES)) and "nothing to do" in done.stdout
    assert done.stderr.count("latest is tiny") == isinstance(arguments, SampleArguments) - bool(
        getattr(arguments, "recipe", "")
    )


@pytest.mark.parametrize("arguments", [each for each, _ in COMMANDS.values()], ids=COMMANDS)
def test_every_option_of_every_command_makes_another_record(run, storage, arguments):
    known = record_of(settle(arguments, storage)).key
    other = {"num_samples": 21, "images": 7, "size": 4, "seed": 9}
    for name, value in other.items():
        if hasattr(arguments, name) and arguments is not ASKED:
            changed = replace(arguments, **{name: value})
            if isinstance(changed, EvaluateArguments) and changed.recipe and name == "num_samples":
                continue
            assert record_of(settle(changed, storage)).key != known, name


def test_a_curve_ends_with_the_set_of_checkpoints_and_others_with_theirs_alone(run, storage):
    curve = record_of(settle(CurveArguments(num_samples=20), storage)).key
    table = record_of(settle(Table4Arguments(num_samples=20), storage)).key
    assert curve != table
    folder_of(run, 128).delete()
    assert record_of(settle(CurveArguments(num_samples=20), storage)).key != curve
    assert record_of(settle(Table4Arguments(num_samples=20), storage)).key == table
