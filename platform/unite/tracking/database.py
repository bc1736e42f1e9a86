"""MLflow's sqlite file: made whole or not at all, upgraded on a copy, and at home where it stands.

MLflow makes its tables in place, in dozens of migrations. Two processes that do so at once, or one
that is killed, leave a file that no later start can use. Here the file is made under a temporary
name, by one process at a time, and appears by rename. An old one is upgraded on a copy.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from unite.network import DEADLINE_S
from unite.storage import database_uri

ARTIFACTS_FOLDER = "mlartifacts"
PLACES = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
"""Tables that hold absolute places of artifacts."""
READY: set[Path] = set()
"""Databases that this process has prepared."""


class TrackingError(ValueError):
    """MLflow cannot be used as asked; the message names the place and the fix."""


def prepare(database: Path) -> None:
    """Make, upgrade or bring home the database; nothing when it is as it should be.

    TrackingError names a file that cannot be used, and the fix.
    """
    if database in READY and database.exists():
        return
    require_no_folder(database)
    if _needs_work(database):
        database.parent.mkdir(parents=True, exist_ok=True)
        with _alone(database):
            _bring_up_to_date(database)
    READY.add(database)


def require_no_folder(database: Path) -> None:
    """TrackingError when a folder has the database's name."""
    if database.is_dir():
        raise TrackingError(
            f"{database} is a folder, and MLflow's database must be a file: move the folder away, "
            "or name a file in the tracking URI"
        )


def _needs_work(database: Path) -> bool:
    return _revision(database) != _newest_revision() or bool(_foreign_roots(database))


def _bring_up_to_date(database: Path) -> None:
    """Do the preparation that is still needed; the caller holds the lock."""
    found = _revision(database)
    if found is None:
        _replace(database, _make)
    elif found != _newest_revision():
        _upgrade(database, found)
    for root in _foreign_roots(database):
        _bring_home(database, root)


def _revision(database: Path) -> str | None:
    """Revision of the tables; None for a file without any. TrackingError for a broken file."""
    if not database.exists() or not database.stat().st_size:
        return None
    try:
        with closing(_open(database)) as connection:
            names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master")]
            if not names:
                return None
            rows = []
            if "alembic_version" in names:
                rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.Error as error:
        raise TrackingError(f"{database} cannot be read as a database: {error}") from error
    halfway = [name for name in names if name.startswith("_alembic_tmp_")]
    if halfway or len(rows) != 1:
        raise _broken(database, f"its table {halfway[0]} is half made" if halfway else "no version")
    return rows[0][0]


def _broken(database: Path, reason: str) -> TrackingError:
    command = shlex.join(["mv", str(database), f"{database}.broken"])
    return TrackingError(
        f"{database} is half made: the process that made it was killed, or disturbed by another "
        f"one ({reason}). Move it aside ({command}): the next start makes a "
        "new one. No training is lost: every run keeps its own curves, and sends them again when "
        "it goes on. If an MLflow of yours is making it at this moment, wait for that"
    )


def _newest_revision() -> str:
    """Revision of the installed MLflow's tables."""
    from mlflow.store.db.utils import _get_latest_schema_revision

    return _get_latest_schema_revision()


def _make(temporary: Path, database: Path) -> None:
    """Make all tables, and the rows that every MLflow database has."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    uri = database_uri(temporary)
    # MLflow writes this root into SQL as it is, and a quote in it would end it: it is brought home.
    store = SqlAlchemyStore(uri, f"/{ARTIFACTS_FOLDER}")
    store.engine.dispose()
    SqlAlchemyStore._engine_map.pop(uri, None)


def _upgrade(database: Path, found: str) -> None:
    """Upgrade a copy, keep the old file beside it, and put the copy in its place."""

    def upgrade(temporary: Path, database: Path) -> None:
        """Copy the database and upgrade the copy; the old file keeps a second name."""
        from mlflow.store.db.utils import _upgrade_db, create_sqlalchemy_engine

        with closing(_open(database)) as old, closing(sqlite3.connect(temporary)) as new:
            old.backup(new)
        engine = create_sqlalchemy_engine(database_uri(temporary))
        try:
            _upgrade_db(engine)
        finally:
            engine.dispose()
        with suppress(FileExistsError):
            os.link(database, database.with_name(f"{database.name}.{found}"))

    try:
        _replace(database, upgrade)
    except Exception as error:  # alembic, SQLAlchemy or the migration raises what it likes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TrackingError(
            f"{database} has MLflow's tables of revision {found}, and bringing a copy of it to "
            f"those of the installed MLflow failed: {reason}. The file is as it was. Use the "
            "MLflow that wrote it, or move it aside for a new one"
        ) from error


def _replace(database: Path, make: Callable[[Path, Path], None]) -> None:
    """Let `make(temporary, database)` write a file beside the database that then takes its name."""
    temporary = database.with_name(f".{database.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        make(temporary, database)
        temporary.replace(database)
    finally:
        temporary.unlink(missing_ok=True)
        temporary.with_name(f"{temporary.name}-journal").unlink(missing_ok=True)


def _foreign_roots(database: Path) -> list[str]:
    """Artifact folders beside other databases: this one was copied or moved from there.

    A folder that is there without a database beside it is none: whoever runs an MLflow of their own
    keeps its artifacts where they like.
    """
    if not os.access(database, os.W_OK) or not database.stat().st_size:
        return []
    try:
        with closing(_open(database)) as connection:
            rows = connection.execute("SELECT artifact_location FROM experiments").fetchall()
    except sqlite3.Error:  # too old to have them
        return []
    found = {_root(place or "") for (place,) in rows}
    others = found - {"", str(database.parent / ARTIFACTS_FOLDER)}
    return sorted(each for each in others if _was_home(Path(each), database.name))


def _was_home(root: Path, database: str) -> bool:
    """True if a database stood, or stands, beside this folder of artifacts.

    A folder that may not be looked into, as in another's home, is none that is there.
    """
    return not os.path.isdir(root) or os.path.exists(root.with_name(database))


def _root(place: str) -> str:
    """The folder of all artifacts that a place lies in; empty when it lies in none of ours."""
    before, found, rest = place.partition(f"/{ARTIFACTS_FOLDER}")
    ours = found and rest[:1] in ("", "/") and "://" not in before
    return f"{before}{found}" if ours else ""


def _bring_home(database: Path, root: str) -> None:
    """Point artifacts of a copied or moved storage to the folder beside its database."""
    here = str(database.parent / ARTIFACTS_FOLDER)
    with closing(_open(database, write=True)) as connection, connection:
        for table, column in PLACES.items():
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                (here, len(root) + 1, root, len(root) + 1, f"{root}/"),
            )


def _open(database: Path, *, write: bool = False) -> sqlite3.Connection:
    """A connection that makes no file."""
    mode = "rw" if write else "ro"
    return sqlite3.connect(f"{database.as_uri()}?mode={mode}", uri=True, timeout=DEADLINE_S)


@contextmanager
def _alone(database: Path) -> Iterator[None]:
    """Context in which this process alone makes or upgrades the database; else TrackingError.

    The lock ends with its process, however that ends. Its file stays: removing it would let two
    processes hold locks on two files of one name.
    """
    path = database.with_name(f".{database.name}.lock")
    deadline = time.monotonic() + DEADLINE_S
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TrackingError(
                        f"another process has been making {database} for {DEADLINE_S:g} s: wait "
                        f"until it has ended, or end it (it holds {path})"
                    ) from None
                time.sleep(0.2)
        yield
