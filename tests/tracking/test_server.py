"""Which MLflow is used, and what is said when it cannot be."""

from __future__ import annotations

import functools
import http.server
import os
import pickle
import socket
import subprocess
import sys
import threading

import pytest
import tyro

from unite.config.schema import RunConfig, TrackingConfig
from unite.tracking import (
    Login,
    RunHandle,
    TrackingError,
    check,
    describe,
    resolve_uri,
    start_run,
)
from unite.tracking import server as tracking_server
from unite.tracking.server import turn


@pytest.fixture
def server():
    """A function: body and status -> URI of a server on this machine that answers only that."""
    servers = []

    def start(body: bytes, status: int = 200) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST

            def log_message(self, *words):
                pass

        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for each in servers:
        each.shutdown()
        each.server_close()


@pytest.fixture
def dead_uri() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def test_the_config_comes_before_the_environment_before_sqlite(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert resolve_uri(TrackingConfig(), str(tmp_path)) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://env:5000/")
    assert resolve_uri(TrackingConfig(), str(tmp_path)) == "http://env:5000"
    config = TrackingConfig(uri="https://config:5000")
    assert resolve_uri(config, str(tmp_path)) == "https://config:5000"


def test_s3_storage_needs_a_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(TrackingError, match=r"s3://bucket/runs.*mlflow server"):
        resolve_uri(TrackingConfig(), "s3://bucket/runs")


@pytest.mark.parametrize("uri", ["file:///runs/mlruns", "./mlruns", "/runs/mlruns"])
def test_the_file_store_is_refused_with_the_reason(uri):
    with pytest.raises(TrackingError, match=r"tracking.uri is .*no index"):
        resolve_uri(TrackingConfig(uri=uri), "/runs")


@pytest.mark.parametrize("uri", ["databricks", "gopher://host", "sqlite://", "sqlite:///:memory:"])
def test_other_uris_are_refused(uri):
    with pytest.raises(TrackingError, match="tracking.uri"):
        resolve_uri(TrackingConfig(uri=uri), "/runs")


@pytest.mark.parametrize(
    "uri",
    [
        "http://me:secret@host:5000",
        "postgresql://me:secret@host/db",
        "postgresql://me@host/db?sslmode=require&password=secret",
        "mysql+pymysql://me@host/db?passwd=secret",
        "https://host/?access_token=secret",
    ],
)
def test_a_password_in_the_uri_is_refused_and_not_repeated(uri):
    with pytest.raises(TrackingError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        resolve_uri(TrackingConfig(uri=uri), "/runs")
    assert "secret" not in str(caught.value)


def test_settings_of_a_database_are_no_password():
    uri = "postgresql://me@host/db?sslmode=require&sslkey=/keys/me.pem&keepalives=1"
    assert resolve_uri(TrackingConfig(uri=uri), "/runs") == uri


def test_a_relative_sqlite_file_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    uri = resolve_uri(TrackingConfig(uri="sqlite:///my.db"), "/runs")
    assert uri == f"sqlite:///{tmp_path}/my.db"


def test_a_dead_server_is_refused_with_uri_and_cure(dead_uri, tmp_path):
    with pytest.raises(TrackingError, match="mlflow server --host 127.0.0.1 --port") as caught:
        start_run(
            TrackingConfig(uri=dead_uri),
            storage=str(tmp_path),
            name="run",
            params={},
            config_dict={},
            tags={},
        )
    assert dead_uri in str(caught.value)
    assert "Connection refused" in str(caught.value)


PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "no_proxy", "NO_PROXY")


@pytest.fixture
def no_proxies(monkeypatch):
    for name in PROXIES:
        monkeypatch.setenv(name, "")  # so that what the code sets is undone
        monkeypatch.delenv(name)


def test_a_proxy_is_not_in_the_way_of_a_server_on_this_machine(server, no_proxies, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    check(server(b"{}"))


def test_a_proxy_in_the_way_of_another_machine_is_named_without_its_password(
    no_proxies, monkeypatch
):
    monkeypatch.setenv("http_proxy", "http://me:secret@127.0.0.1:9")
    with pytest.raises(
        TrackingError, match="http_proxy=127.0.0.1:9; add mlflow.invalid to NO_"
    ) as e:
        check("http://mlflow.invalid:5000")
    assert "secret" not in str(e.value)


def test_a_page_in_the_place_of_mlflow_names_the_status_and_the_missing_path(server):
    uri = server(b"<!doctype html><html>not here</html>", 404)
    with pytest.raises(TrackingError, match="experiments/search gives 404.*--static-prefix") as e:
        check(uri)
    assert "html" not in str(e.value)


def test_a_server_that_was_not_told_its_name_does_not_want_other_credentials(server):
    body = b"Invalid Host header - possible DNS rebinding attack detected"
    with pytest.raises(TrackingError, match="was not told this name") as error:
        check(server(body, 403))
    assert "credentials" not in str(error.value)
    said = tracking_server._unreachable("http://mlflow:5000", Exception(body.decode()))
    assert "start it with --allowed-hosts 'mlflow:5000' (or MLFLOW_SERVER_ALLOWED" in said


def test_the_command_that_starts_a_server_tells_it_its_name():
    for known in ("localhost", "127.0.0.1", "[::1]"):
        assert "--allowed-hosts" not in tracking_server.start_command(f"http://{known}:5000")
    named = tracking_server.start_command("http://mlflow:5000")
    assert "--host mlflow --port 5000 --allowed-hosts 'mlflow:5000' --backend" in named


def test_a_server_that_never_answers_is_given_up_at_our_deadline(monkeypatch):
    monkeypatch.setattr("unite.tracking.server.DEADLINE_S", 0.3)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "100")
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        uri = f"http://127.0.0.1:{frozen.getsockname()[1]}"
        with pytest.raises(TrackingError, match=f"{uri} did not answer within .*MLFLOW_TRACKING_"):
            check(uri)


def test_who_finds_a_server_slow_waits_for_a_turn():
    assert turn(0.3) == 0.0
    waits = [turn(2.0) for _ in range(200)]
    assert 0 <= min(waits) < 10 < 30 < max(waits) <= 40
    assert max(turn(600.0) for _ in range(200)) <= 120
    assert max(turn(600.0, 5.0) for _ in range(200)) <= 5


@pytest.mark.parametrize(
    "reason",
    [
        "(sqlite3.IntegrityError) UNIQUE constraint failed: experiment_tags.key",
        "(psycopg2.errors.UniqueViolation) duplicate key value violates unique constraint",
    ],
)
def test_a_row_that_another_run_wrote_at_the_same_moment_is_no_refusal(reason):
    assert tracking_server.BUSY.search(f"BAD_REQUEST: {reason}")


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(TrackingError, match="folder/mlflow.db"):
        check(f"sqlite:///{tmp_path}/folder/mlflow.db")


def test_how_to_open_the_ui():
    assert describe("sqlite:////runs/mlflow.db") == (
        "mlflow ui --backend-store-uri sqlite:////runs/mlflow.db"
    )
    assert describe("sqlite:////my runs/mlflow.db").endswith("'sqlite:////my runs/mlflow.db'")
    assert describe(RunHandle("http://host:5000", "abc", "7")) == (
        "http://host:5000/#/experiments/7/runs/abc?workflowType=machine_learning"
    )


def test_a_handle_travels_and_credentials_go_by_environment(monkeypatch):
    handle = RunHandle("http://host:5000", "abc", "7")
    assert pickle.loads(pickle.dumps(handle)) == handle
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "hush")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "drivers")
    monkeypatch.setenv("PGPASSWORD", "drivers too")
    monkeypatch.setenv("UNRELATED", "x")
    login = Login.of_this_process()
    assert "UNRELATED" not in login.variables and login.variables["PGPASSWORD"] == "drivers too"
    assert "hush" not in f"{login} {functools.partial(print, login)}", "Ray Train records arguments"
    travelled = pickle.dumps(login)
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nodes")
    pickle.loads(travelled).use()
    assert os.environ["MLFLOW_TRACKING_TOKEN"] == "hush"
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == "nodes", "what a node sets itself wins"


def test_the_flag_that_messages_name_is_one(dead_uri):
    with pytest.raises(TrackingError, match=r"--tracking\.no-enabled"):
        check(dead_uri)
    assert not tyro.cli(RunConfig, args=["--tracking.no-enabled"]).tracking.enabled


def test_importing_the_room_does_not_load_mlflow():
    code = "import sys, unite.tracking; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
