"""Server or file of MLflow: its URI, its check, and the commands that start it and show it.

`connect` is the only door to MLflow. It imports mlflow when called, because the import takes
seconds and only the driver and rank 0 need it, and it sets small HTTP limits unless the user
chose others: MLflow's own defaults keep a call to a dead server waiting for minutes.
"""

from __future__ import annotations

import functools
import logging
import os
import random
import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from unite.config.schema import TrackingConfig
from unite.network import (
    DEADLINE_S,
    DeadlineError,
    holds_password,
    is_loopback,
    persist,
    proxy_of,
    spare_loopback,
    within,
)
from unite.storage import Store, database_path, database_uri
from unite.tracking.database import (
    ARTIFACTS_FOLDER,
    TrackingError,
    prepare,
    require_no_folder,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

T = TypeVar("T")

SYSTEM_ERROR = re.compile(r"\[Errno -?\d+\] [\w ,.\-]+|(Read|Connection).{0,40} timed out")

NOT_MLFLOW = re.compile(
    r"API request to endpoint (?P<path>\S+) failed with error code (?P<code>(?!401|403)\d+)"
    r".*Response body: '\s*<",
    re.DOTALL | re.IGNORECASE,
)
"""Pattern of the error of MLflow's client for a page of HTML."""
BUSY = re.compile(
    r"timed out|Connection (aborted|reset)|RemoteDisconnected|database is locked|QueuePool limit|"
    r"error code (429|500|502|503|504)|too many \d* ?error responses|"
    r"UNIQUE constraint failed|duplicate key value",
    re.IGNORECASE,
)
"""Pattern of the errors of an overloaded server or database, and of a row that another run wrote at
the same moment: the next try finds it."""
PATIENCE_S = 5.0
"""Seconds for which a call that failed is tried again, whatever the reason."""
BUSY_S = 50.0
"""Seconds that a call at the end of a run waits for a busy server."""
START_S = 300.0
"""Seconds that each request of a start waits for a busy server: hundreds may begin at once."""
SLOW_S = 1.0
"""Seconds for one small answer from which a server has more callers than it can serve at once."""
TURNS, LONGEST_TURN_S = 20.0, 120.0
"""Longest wait for a turn in units of that answer's time, and in seconds."""
VARIABLE = "MLFLOW_TRACKING_URI"
MODEL_TRAINING = "workflowType=machine_learning"
"""Query that opens MLflow's pages in model training, whatever page was open before."""
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    # A server works on what it was asked for also when nobody waits any more: whoever gives up soon
    # and asks again doubles the work of one that has too much of it.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": f"{DEADLINE_S:g}",
}
CREDENTIALS = ("MLFLOW_TRACKING_", "MLFLOW_HTTP_", "MLFLOW_S3_", "AWS_", "PGPASS")
"""Prefixes of environment variables with which a worker logs in as the driver does."""


@dataclass(frozen=True)
class RunHandle:
    """Address of an MLflow run. Holds no secret, so it can travel to workers."""

    uri: str
    """Tracking URI: http(s), sqlite or another SQL database."""
    run_id: str
    """MLflow's id of the run."""
    experiment_id: str = ""
    """MLflow's id of its experiment (only needed to link to it)."""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> RunHandle | None:
        """The run that a run.json names; None where it names none."""
        uri, run_id = record.get("mlflow_uri"), record.get("mlflow_run_id")
        return cls(uri, run_id) if uri and run_id else None

    @property
    def record(self) -> dict[str, str]:
        """Fields of run.json, of which `of` is the inverse."""
        return {"mlflow_run_id": self.run_id, "mlflow_uri": self.uri}


def resolve_uri(config: TrackingConfig, storage: str) -> str:
    """The tracking URI: tracking.uri, else MLFLOW_TRACKING_URI, else sqlite in `storage`.

    TrackingError when the URI is of a kind that cannot be used or holds a password, or when there
    is none and `storage` is not a local folder.
    """
    uri = config.uri or os.environ.get(VARIABLE, "")
    if uri:
        return _validated(uri, "tracking.uri" if config.uri else VARIABLE)
    store = Store.open(storage)
    if not store.is_local:
        raise TrackingError(
            f"tracking.uri is empty, MLFLOW_TRACKING_URI is not set and the storage is {storage}: "
            "MLflow's sqlite file needs a local folder. Start a server "
            f"(`{start_command('http://127.0.0.1:5000')}`) and set MLFLOW_TRACKING_URI to its "
            "address, or track nothing: --tracking.no-enabled."
        )
    return _database_uri(f"{store.path()}/mlflow.db", "the storage")


def _validated(uri: str, source: str) -> str:
    scheme = uri.split("://")[0].split("+")[0] if "://" in uri else uri.split(":")[0]
    if scheme not in (*DATABASES, "http", "https"):
        reason = (
            "MLflow's file store has no index, slows down with every point and is being retired. "
            if "://" not in uri or scheme == "file"
            else ""
        )
        raise TrackingError(
            f"{source} is '{uri}', which is not supported. {reason}Use http(s)://HOST:PORT of an "
            "MLflow server or sqlite:////FOLDER/mlflow.db."
        )
    if holds_password(uri):
        raise TrackingError(
            f"{source} holds a password, which would be written beside the run's metrics. Leave it "
            "out of the URI: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or "
            "MLFLOW_TRACKING_TOKEN) for a server, PGPASSWORD for PostgreSQL; for other databases "
            "put an MLflow server in front."
        )
    if scheme != "sqlite":
        return uri.rstrip("/")
    path = database_path(uri)
    if path is None or not path.name or str(path) == ":memory:":
        raise TrackingError(f"{source} is '{uri}': name a file, as in sqlite:////FOLDER/mlflow.db.")
    return _database_uri(str(path.expanduser().resolve()), source)


def _database_uri(path: str, source: str) -> str:
    require_no_folder(Path(path))
    try:
        return database_uri(path)
    except ValueError as error:
        raise TrackingError(f"{source}: {error} ({VARIABLE}, or --tracking.uri)") from error


def artifact_location(uri: str, storage: str) -> str | None:
    """Place for a new experiment's artifacts; None leaves the choice to the server.

    Without a server MLflow would put them under the current folder, where nobody finds them.
    """
    if uri.startswith("http"):
        return None
    database = database_path(uri)
    root = Store.open(str(database.parent) if database else storage)
    return str(root / ARTIFACTS_FOLDER)


def connect(uri: str, *, create: bool = False) -> MlflowClient:
    """A client for `uri`, without calling it. Seconds on first use: mlflow is imported here.

    TrackingError when a sqlite file is not there, unless `create` lets it be made; and when it is
    there and cannot be used.
    """
    database = database_path(uri)
    if database and not create and not database.exists():
        raise TrackingError(
            f"there is no {database} on this machine. Where several nodes or people work on the "
            "same runs, start an MLflow server and set MLFLOW_TRACKING_URI to it."
        )
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    spare_loopback()
    for noisy in ("mlflow.store.db", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    from mlflow import MlflowClient

    if database:
        prepare(database)
    return MlflowClient(tracking_uri=uri)


def artifacts_of(run: Run, uri: str) -> ArtifactRepository:
    """Artifacts of a run at `uri`; the client's own calls would ask for the run each time."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(run.info.artifact_uri or "", tracking_uri=uri)


def check(uri: str) -> float:
    """Seconds until MLflow at `uri` answers, else TrackingError; creates the file of a sqlite URI.

    A new database takes some seconds here, so that nobody has to wait for it later.
    """
    late = (
        f"MLflow at {uri} did not answer within {DEADLINE_S:g} s (tracking.uri or "
        "MLFLOW_TRACKING_URI names it). Name one that answers, or track nothing: "
        "--tracking.no-enabled."
    )
    try:
        client = connect(uri, create=True)
        ask = functools.partial(client.search_experiments, max_results=1)
        began = time.monotonic()
        within(lambda: patiently(ask), DEADLINE_S, late)
        return time.monotonic() - began
    except TrackingError:
        raise
    except DeadlineError as error:
        raise TrackingError(str(error)) from error
    except Exception as error:  # whatever mlflow, its database driver or the network raises
        raise TrackingError(_unreachable(uri, error)) from error


def patiently(call: Callable[[], T], busy_s: float = BUSY_S) -> T:
    """The result of `call`, tried again after a failure: for a moment, of a busy server `busy_s`.

    Many runs that start at once overload a server; random pauses spread them.
    """
    deadline = time.monotonic() + PATIENCE_S

    def passing(error: Exception) -> bool:
        soon = time.monotonic() < deadline and not isinstance(error, TrackingError)
        return soon or BUSY.search(str(error)) is not None

    return persist(call, busy_s, passing=passing, doing="what MLflow is asked for")


def turn(took_s: float, longest_s: float = LONGEST_TURN_S) -> float:
    """Seconds, random, to wait before work on a server that took so long for one small answer.

    Callers that come at once make it slower than the same ones in turn: on sqlite they wait for one
    lock and sleep in between. Nobody waits for a server that answers at once.
    """
    return random.uniform(0.0, min(TURNS * took_s, longest_s)) if took_s > SLOW_S else 0.0


def reason_of(error: Exception) -> str:
    """An error in one line: the operating system's words, also from below HTTP layers."""
    text = str(error)
    if match := SYSTEM_ERROR.search(text):
        return match[0]
    return (text.splitlines() or [type(error).__name__])[0][:300]


@contextmanager
def naming(action: str) -> Iterator[None]:
    """Context in which any error becomes a TrackingError that begins with the action that failed.

    MLflow, its database driver, its artifact store and the network raise errors of many kinds.
    """
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:
        raise TrackingError(f"{action}: {reason_of(error)}") from error


def _unreachable(uri: str, error: Exception) -> str:
    reason = reason_of(error)
    if not uri.startswith("http"):
        return f"the tracking database {uri} cannot be used: {reason}"
    parts = urlsplit(uri)
    if "Invalid Host header" in str(error):
        flag = f"--allowed-hosts '{parts.netloc}' (or MLFLOW_SERVER_ALLOWED_HOSTS)"
        return f"the MLflow server at {uri} was not told this name of it: start it with {flag}"
    if any(code in reason for code in ("401", "403", "UNAUTHENTICATED", "PERMISSION_DENIED")):
        return (
            f"the MLflow server at {uri} refuses the credentials: {reason}. Set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."
        )
    if refused := NOT_MLFLOW.search(str(error)):
        return (
            f"something answers at {uri}, but MLflow is not there: {refused['path']} gives "
            f"{refused['code']}. The URI may lack a path: of a server under --static-prefix /TEAM "
            f"it is {uri}/TEAM. Or another program has that port."
        )
    proxy = proxy_of(parts.scheme, parts.hostname or "")
    past = f" The call went through {proxy}; add {parts.hostname} to NO_PROXY if it must not."
    return (
        f"no MLflow server answers at {uri}: {reason}.{past if proxy else ''} Start one "
        f"(`{start_command(uri)}`), name another with tracking.uri or MLFLOW_TRACKING_URI, or "
        "track nothing: --tracking.no-enabled."
    )


def start_command(uri: str) -> str:
    """The command that starts a server which will answer at the http URI `uri`."""
    parts = urlsplit(uri)
    name = "" if is_loopback(parts.hostname or "") else f"--allowed-hosts '{parts.netloc}' "
    return (
        f"mlflow server --host {parts.hostname} --port {parts.port or 5000} {name}"
        "--backend-store-uri sqlite:///mlflow.db --artifacts-destination ./mlartifacts"
    )


def describe(target: RunHandle | str) -> str:
    """Command or web address that shows a run, or everything under a URI."""
    uri = target if isinstance(target, str) else target.uri
    if not uri.startswith("http"):
        return f"mlflow ui --backend-store-uri {shlex.quote(uri)}"
    if isinstance(target, str):
        return uri
    return f"{uri}/#/experiments/{target.experiment_id}/runs/{target.run_id}?{MODEL_TRAINING}"


@dataclass(frozen=True)
class Login:
    """Credentials with which another process logs in to MLflow and its artifacts' store.

    It travels to workers as an argument of their code, never in Ray's runtime environment, which
    the dashboard shows; and it does not show what it holds, because Ray Train records arguments.
    """

    variables: dict[str, str] = field(repr=False)

    @classmethod
    def of_this_process(cls) -> Login:
        """The credentials in this process's environment."""
        held = {name: value for name, value in os.environ.items() if name.startswith(CREDENTIALS)}
        return cls(held)

    def use(self) -> None:
        """Put them into this process's environment; variables that a node sets itself win."""
        for name, value in self.variables.items():
            os.environ.setdefault(name, value)
