"""A finished export, typed again, says so at once."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from typed import typed
from unite.checkpoints.layout import MARKER, folder_of
from unite.commands.export import export
from unite.commands.export_request import ExportArguments, record_of, settle
from unite.evaluation.target import open_subject
from unite.runs import RESULTS_FILE
from unite.storage import Store
from unite.tracking import TrackingError, registry

ASKED = ExportArguments(run="tiny")


@pytest.fixture(scope="module")
def made(untrained_run, tmp_path_factory):
    """Storage of a run that tests copy."""
    return Path(untrained_run(tmp_path_factory.mktemp("made"), images=(128, 256)).uri).parent


@pytest.fixture
def storage(made, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(made, tmp_path / "runs")
    return str(tmp_path / "runs")


def told(storage, **changes):
    """Lines that the command would print without exporting."""
    return record_of(settle(replace(ASKED, **changes), storage)).lines()


def folder(storage):
    return Store.open(storage) / "tiny" / "exports" / "000000000256"


def test_the_same_command_exports_nothing_and_loads_nothing_heavy(storage, capsys):
    assert told(storage) is None
    export(ASKED, storage)
    printed = capsys.readouterr().out.splitlines()
    *lines, last = told(storage)
    assert lines == printed and lines[0].startswith("exported UNITE, smoke, after 256 images")
    assert last.endswith(f"nothing to do. To do it again, delete {folder(storage)}")
    before = folder(storage).stamps()
    done = typed("jobs/export.py", "--run", "tiny", UNITE_STORAGE=storage)
    assert done.stdout.splitlines()[:-2] == [*lines, last]
    assert folder(storage).stamps() == before


def test_the_record_is_no_part_of_the_export(storage):
    export(ASKED, storage)
    assert folder(storage).list() == ["README.md", "cards.json", "config.json", "model.safetensors"]


@pytest.mark.parametrize("name", ["latest", "{run}", "{run}/checkpoints/000000000256"])
def test_every_name_of_the_checkpoint_finds_it(storage, name):
    export(ASKED, storage)
    assert told(storage, run=name.format(run=f"{storage}/tiny"))


@pytest.mark.parametrize(
    "changes",
    [
        {"ema": False},
        {"out": "elsewhere"},
        {"register": "digits"},
        {"run": "tiny/checkpoints/000000000128"},
    ],
)
def test_another_command_does_not(storage, changes, monkeypatch):
    monkeypatch.chdir(storage)
    export(ASKED, storage)
    assert told(storage, **changes) is None
    assert told(storage)


def new_results(storage):
    home = Store.open(open_subject("tiny", storage, ema=True).home)
    home.write_json(RESULTS_FILE, {"outcomes": []})


def new_checkpoint(storage):
    run = Store.open(storage) / "tiny"
    for name in ("state.json", MARKER):
        folder_of(run, 512).write(name, folder_of(run, 256).read(name))


@pytest.mark.parametrize(
    "change",
    [
        new_results,
        new_checkpoint,
        lambda storage: folder(storage).write("README.md", b"mine"),
        lambda storage: folder(storage).delete("model.safetensors"),
        lambda storage: folder(storage).delete(),
    ],
    ids=["results", "checkpoint", "other text", "no weights", "nothing"],
)
def test_what_the_export_follows_from_ends_it(storage, change):
    export(ASKED, storage)
    assert told(storage)
    change(storage)
    assert told(storage) is None


def test_an_export_of_an_export_is_known_too(storage, tmp_path):
    export(ASKED, storage)
    asked = {"run": folder(storage).uri, "out": str(tmp_path / "again")}
    export(ExportArguments(**asked), storage)
    assert told(storage, **asked)


def test_a_registered_version_is_registered_once(storage):
    asked = {"register": "digits"}
    export(replace(ASKED, **asked), storage)
    assert "registered digits version 1 at " in told(storage, **asked)[1]
    assert told(storage, register="others") is None and told(storage) is None
    Path(storage, "mlflow.db").unlink()
    assert told(storage, **asked) is None


def test_what_mlflow_did_not_take_is_not_finished(storage, monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(registry, "_upload", refuse)
    with pytest.raises(TrackingError, match="nobody answers"):
        export(replace(ASKED, register="digits"), storage)
    assert told(storage, register="digits") is None


def test_an_export_does_not_go_into_a_run(storage):
    """It would take the place of the run's config, and of its checkpoints for whoever names it."""
    run = Store.open(storage) / "tiny"
    before = run.read("config.json")
    with pytest.raises(ValueError, match="tiny already holds another model; name another --out"):
        export(replace(ASKED, out=run.uri), storage)
    assert run.read("config.json") == before and not run.exists("model.safetensors")
