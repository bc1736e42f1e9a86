"""The database is made whole or not at all, and is at home where it stands."""

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import pytest

from unite.config.schema import TrackingConfig
from unite.tracking import RunHandle, TrackingError, check, resolve_uri, start_run
from unite.tracking import database as databases
from unite.tracking.gateway import MlflowGateway
from unite.tracking.reading import RunFiles
from unite.tracking.server import connect


@pytest.fixture(autouse=True)
def forgetful(monkeypatch):
    monkeypatch.setattr(databases, "READY", set())


@pytest.fixture
def made(monkeypatch, empty_database):
    """Databases are copies of a finished one: how often one was made, and by how many at once."""
    made, busy = [], []

    def make(temporary, database):
        busy.append(database)
        made.append(len(busy))
        assert temporary.parent == database.parent and temporary.name.startswith(".")
        shutil.copy(empty_database, temporary)
        busy.pop()

    monkeypatch.setattr(databases, "_make", make)
    return made


def execute(path, *statements):
    with closing(sqlite3.connect(path)) as connection, connection:
        return [connection.execute(each).fetchall() for each in statements][-1]


def started(folder, **config):
    return start_run(
        TrackingConfig(**config), storage=str(folder), name="r", params={}, config_dict={}, tags={}
    )


def test_of_many_at_once_one_makes_it_and_all_can_use_it(tmp_path, made):
    path = tmp_path / "new" / "mlflow.db"
    threads = [threading.Thread(target=databases.prepare, args=[path]) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]
    assert not list(path.parent.glob(".*.tmp"))
    connect(f"sqlite:///{path}").search_experiments()


def test_a_start_that_is_killed_leaves_nothing_in_the_way(tmp_path, made, monkeypatch):
    path = tmp_path / "mlflow.db"

    def killed(temporary, database):
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt

    good = databases._make
    monkeypatch.setattr(databases, "_make", killed)
    with pytest.raises(KeyboardInterrupt):
        databases.prepare(path)
    assert not path.exists()
    monkeypatch.setattr(databases, "_make", good)
    databases.prepare(path)
    assert path.exists() and made == [1]


def test_the_lock_of_a_killed_process_is_free(tmp_path, made):
    path = tmp_path / "mlflow.db"
    code = "import sys, os, pathlib\nfrom unite.tracking.database import _alone\n"
    code += "with _alone(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    folders = {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, str(path)], env=os.environ | folders)
    assert (tmp_path / ".mlflow.db.lock").exists()
    databases.prepare(path)
    assert made == [1]


def test_a_lock_that_is_held_is_named_at_the_deadline(tmp_path, made, monkeypatch):
    monkeypatch.setattr(databases, "DEADLINE_S", 0.0)
    path = tmp_path / "mlflow.db"
    with databases._alone(path), pytest.raises(TrackingError, match=r"mlflow.db.lock"):
        databases.prepare(path)


def test_an_empty_file_is_filled(tmp_path, made):
    (tmp_path / "mlflow.db").touch()
    databases.prepare(tmp_path / "mlflow.db")
    assert made == [1]


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE _alembic_tmp_experiments (a)"],
        ["DELETE FROM alembic_version"],
        ["DROP TABLE alembic_version"],
    ],
)
def test_a_half_made_one_is_named_with_the_fix(storage, statements):
    path = f"{storage}/mlflow.db"
    execute(path, *statements)
    before = open(path, "rb").read()
    with pytest.raises(TrackingError, match=f"half made.*mv {path} {path}.broken"):
        started(storage)
    assert open(path, "rb").read() == before


def test_an_old_one_is_upgraded_on_a_copy_and_kept(storage, monkeypatch):
    path, head = f"{storage}/mlflow.db", databases._newest_revision()
    execute(path, "UPDATE alembic_version SET version_num = 'old'")

    def upgrade(engine):
        assert engine.url.database != path
        with engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{head}'")

    monkeypatch.setattr("mlflow.store.db.utils._upgrade_db", upgrade)
    started(storage)
    assert execute(path, "SELECT version_num FROM alembic_version") == [(head,)]
    assert execute(f"{path}.old", "SELECT version_num FROM alembic_version") == [("old",)]


def test_one_that_cannot_be_upgraded_stays_as_it_was(storage):
    path = f"{storage}/mlflow.db"
    execute(path, "UPDATE alembic_version SET version_num = 'unheard-of'")
    before = open(path, "rb").read()
    with pytest.raises(TrackingError, match=r"revision unheard-of.*The file is as it was"):
        started(storage)
    assert open(path, "rb").read() == before
    assert {each for each in os.listdir(storage) if each.endswith(".tmp")} == set()


def test_a_folder_in_its_place_is_named_at_once(tmp_path):
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(TrackingError, match=r"mlflow.db is a folder"):
        check(f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(TrackingError, match=r"mlflow.db is a folder"):
        resolve_uri(TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db"), str(tmp_path))


def test_what_is_no_database_is_named(tmp_path):
    (tmp_path / "mlflow.db").write_text("a text that is long enough to be no database at all")
    with pytest.raises(TrackingError, match="cannot be read as a database"):
        check(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.mark.parametrize("mark", ["%", "?"])
def test_a_storage_that_the_uri_cannot_hold_is_refused_with_the_character(
    tmp_path, monkeypatch, mark
):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / f"a{mark}20b"
    with pytest.raises(TrackingError, match=f"the storage: .* holds '[{mark}]'"):
        resolve_uri(TrackingConfig(), str(folder))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    with pytest.raises(TrackingError, match=f"MLFLOW_TRACKING_URI: .* holds '[{mark}]'"):
        resolve_uri(TrackingConfig(), str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["h#a", "s p", "se;mi", "pl+us", "q'u\"o", "\u00fcn\u00ef", "a&@b"]
)
def test_other_characters_are_right(tmp_path, made, name, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    handle = started(tmp_path / name)
    assert RunFiles.open(handle).read("config.json") == b"{}"
    assert os.listdir(tmp_path) == [name]
    assert set(os.listdir(tmp_path / name)) == {".mlflow.db.lock", "mlflow.db", "mlartifacts"}


def test_artifacts_that_an_mlflow_of_ones_own_keeps_elsewhere_stay_there(storage, tmp_path):
    elsewhere = tmp_path / "disk" / "mlartifacts"
    (elsewhere / "7" / "run" / "artifacts").mkdir(parents=True)
    places = "artifact_location, lifecycle_stage"
    path = f"{storage}/mlflow.db"
    execute(
        path,
        f"INSERT INTO experiments (experiment_id, name, {places}) "
        f"VALUES (7, 'mine', '{elsewhere}/7', 'active')",
    )
    started(storage)
    found = connect(f"sqlite:///{path}").get_experiment("7")
    assert found.artifact_location == f"{elsewhere}/7"
    (tmp_path / "disk" / "mlflow.db").touch()
    databases.READY.clear()
    connect(f"sqlite:///{path}")
    assert execute(path, "SELECT artifact_location FROM experiments WHERE experiment_id = 7") == [
        (f"{storage}/mlartifacts/7",)
    ]


def test_a_copy_from_a_home_that_may_not_be_looked_into_is_at_home_here(storage, monkeypatch):
    closed, stat = "/home/somebody", os.stat

    def guarded(place, **options):
        if str(place).startswith(f"{closed}/"):
            raise PermissionError(13, "Permission denied", str(place))
        return stat(place, **options)

    path = f"{storage}/mlflow.db"
    execute(
        path,
        "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) "
        f"VALUES (7, 'mine', '{closed}/runs/mlartifacts/7', 'active')",
    )
    monkeypatch.setattr(os, "stat", guarded)
    found = connect(f"sqlite:///{path}").get_experiment("7")
    assert found.artifact_location == f"{storage}/mlartifacts/7"


def test_a_copied_storage_writes_and_reads_its_own_artifacts(storage, tmp_path):
    first = started(storage)
    copy = tmp_path / "it's a copy"
    shutil.copytree(storage, copy)
    before = sorted((tmp_path / "runs").rglob("*"))
    content = open(f"{storage}/mlflow.db", "rb").read()
    second = RunHandle(f"sqlite:///{copy}/mlflow.db", first.run_id, first.experiment_id)
    files = RunFiles.open(second)
    assert files.place == f"{copy}/mlartifacts/{first.run_id}/artifacts"
    gateway = MlflowGateway(second)
    gateway.attach()
    (tmp_path / "new.txt").write_text("new")
    gateway.upload(tmp_path / "new.txt", "new.txt")
    third = started(copy)
    assert files.read("new.txt") == b"new" and RunFiles.open(third).place.startswith(str(copy))
    assert sorted((tmp_path / "runs").rglob("*")) == before
    assert open(f"{storage}/mlflow.db", "rb").read() == content
