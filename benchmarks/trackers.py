"""Many runs that write to one MLflow server at once: python benchmarks/trackers.py [--help]

Headline metrics: points that arrived of those that were logged (goal: all), seconds from the last
point to the last arrival (goal: at most 60 of 200 trackers), starts that failed (goal: none). The
server and the trackers share this machine, so a busy one is slower than real ones are; points that
are lost or doubled do not depend on that.

Arms: a server on sqlite, and one on PostgreSQL where its programs and psycopg2 are found. A
PostgreSQL never runs as root: started by root, it is run by the user `postgres`.

    python benchmarks/trackers.py --trackers 200 --points 30          72,000 points
    python benchmarks/trackers.py --database postgresql
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import tyro

from unite import tracking
from unite.config.schema import TrackingConfig
from unite.drivers.mlflow_server import Server, free_port
from unite.metrics.specs import logged

GOAL_S = 60.0
PROGRAMS = ("initdb", "pg_ctl")
USER = "postgres"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the benchmark."""

    trackers: int = 20
    """Runs that write at once."""
    points: int = 10
    """Points of each, one a second, of 12 metrics."""
    metrics: int = 12
    """Metrics of a point."""
    pause_s: float = 1.0
    """Seconds between two points of a run."""
    database: Literal["sqlite", "postgresql", "both"] = "both"
    """Database behind the server."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Counts of one arm."""

    database: str
    failed_starts: int
    start_s: float
    logged: int
    arrived: int
    distinct: int
    """Arrived points without doubles."""
    after_s: float
    """Seconds from the last point to the end of the last tracker."""


def main(options: Options) -> list[Outcome]:
    """Measure each database that can be had, and print the table."""
    print(f"{os.cpu_count()} cores, load at the start {os.getloadavg()[0]:.1f}")
    print("| database | starts failed | starts, s | logged | arrived | distinct | last after, s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    wanted = ("sqlite", "postgresql") if options.database == "both" else (options.database,)
    found = []
    for name in wanted:
        if name == "postgresql" and (why := lacks_postgresql()):
            print(f"no PostgreSQL: {why}", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)  # another user's PostgreSQL looks into it
            found.append(one := measured(name, Path(folder), options))
        counts = f"{one.logged:,} | {one.arrived:,} | {one.distinct:,}"
        print(
            f"| {name} | {one.failed_starts} | {one.start_s:.1f} | {counts} | {one.after_s:.1f} |"
        )
    return found


def measured(database: str, folder: Path, options: Options) -> Outcome:
    """Start a server and all runs, log, close, and count what is in the database."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with database_of(database, folder) as uri:
        server = Server(folder, database=uri, workers=2)
        try:
            server.start()
            began = time.monotonic()
            handles = start_runs(server.uri, folder, options.trackers)
            started = time.monotonic() - began
            after = log_all(handles, folder, options)
        finally:
            server.close()
        arrived, distinct = counts(uri or server.database)
    return Outcome(
        database=database,
        failed_starts=options.trackers - len(handles),
        start_s=started,
        logged=len(handles) * options.points * options.metrics,
        arrived=arrived,
        distinct=distinct,
        after_s=after,
    )


def start_runs(uri: str, folder: Path, number: int) -> list[tracking.RunHandle]:
    """Start all runs in the same moment; the handles of those that did not fail."""

    def start(index: int) -> tracking.RunHandle | None:
        try:
            return tracking.start_run(
                TrackingConfig(uri=uri),
                storage=str(folder),
                name=f"run-{index}",
                params={"seed": index},
                config_dict={},
                tags={},
            )
        except tracking.TrackingError as error:
            print(f"run-{index}: {error}", file=sys.stderr)
            return None

    with ThreadPoolExecutor(number) as pool:
        return [handle for handle in pool.map(start, range(number)) if handle]


def log_all(handles: Sequence[tracking.RunHandle], folder: Path, options: Options) -> float:
    """Log every point of every run, close all at once; seconds from the last point to the end."""
    names = list(logged())[: options.metrics]
    trackers = [
        tracking.open_tracker(handle, spool=folder / "spools" / handle.run_id, resume_step=0)
        for handle in handles
    ]
    for point in range(options.points):
        began = time.monotonic()
        for tracker in trackers:
            tracker.log(dict.fromkeys(names, float(point)), step=32 * (point + 1))
        time.sleep(max(0.0, options.pause_s - (time.monotonic() - began)))
    ended = time.monotonic()
    with ThreadPoolExecutor(max(1, len(trackers))) as pool:
        list(pool.map(lambda tracker: tracker.close(), trackers))
    return time.monotonic() - ended


def counts(database: str) -> tuple[int, int]:
    """Points in a database, samples of the machine left out: all, and without doubles."""
    from sqlalchemy import create_engine, text

    query = (
        "select count(*), count(distinct run_uuid || key || step) from metrics "
        "where key not like 'system/%'"
    )
    engine = create_engine(database)
    with engine.connect() as connection:
        total, distinct = connection.execute(text(query)).one()
    engine.dispose()
    return int(total), int(distinct)


@contextmanager
def database_of(name: str, folder: Path) -> Iterator[str]:
    """Context with the URI of an empty database; empty for the server's own sqlite file."""
    if name == "sqlite":
        yield ""
        return
    home, port = folder / "postgres", free_port()
    home.mkdir()
    as_user: list[str] = []
    if os.getuid() == 0:
        shutil.chown(home, USER)
        as_user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups"]
    data, options = str(home / "data"), f"-p {port} -k {home} -c listen_addresses=127.0.0.1"
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": home}
    subprocess.run([*as_user, "initdb", "-D", data, "-A", "trust", "-U", "unite"], **quiet)
    log = str(home / "log")
    start = [*as_user, "pg_ctl", "-D", data, "-w", "-l", log, "-o", options, "start"]
    subprocess.run(start, **quiet)
    try:
        yield f"postgresql+psycopg2://unite@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*as_user, "pg_ctl", "-D", data, "-m", "immediate", "stop"], **quiet)


def lacks_postgresql() -> str:
    """Reason why this machine cannot have a PostgreSQL arm; empty when it can."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        return f"{', '.join(missing)} not found"
    if find_spec("psycopg2") is None:
        return "the driver is missing (pip install psycopg2-binary)"
    if os.getuid() == 0:
        import pwd

        if USER not in {each.pw_name for each in pwd.getpwall()}:
            return f"it never runs as root, and there is no user {USER}"
    return ""


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
