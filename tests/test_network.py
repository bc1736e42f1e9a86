import os
import socket
import threading

import pytest

from unite.network import DeadlineError, answers, is_loopback, proxy_of, spare_loopback, within


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        for spelling in (name, name.upper()):
            monkeypatch.setenv(spelling, "")  # so that what the code sets is undone
            monkeypatch.delenv(spelling)


def test_what_is_in_time_is_returned_or_raised():
    assert within(lambda: 3, 60.0, "late") == 3
    with pytest.raises(KeyError, match="mine"):
        within(lambda: {}["mine"], 60.0, "late")


def test_what_blocks_is_left_behind_with_the_message():
    blocked = threading.Event()
    with pytest.raises(DeadlineError, match="PORT does not answer"):
        within(blocked.wait, 0.01, "PORT does not answer")
    blocked.set()


def test_a_port_answers_or_says_why_not():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert answers("127.0.0.1", port) == ""
    assert "refused" in answers("127.0.0.1", port, patience_s=0.1)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True)]
    + [("10.0.0.1", False), ("mlflow", False)],
)
def test_which_hosts_are_this_machine(host, loopback):
    assert is_loopback(host) == loopback


def test_no_variable_is_set_where_there_is_no_proxy():
    spare_loopback()
    assert "no_proxy" not in os.environ and "NO_PROXY" not in os.environ


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "localhost,127.0.0.1,::1"),
        ("corp.example, localhost", "corp.example,localhost,127.0.0.1,::1"),
        ("*", "*"),
    ],
)
def test_this_machine_needs_no_proxy(monkeypatch, before, after):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:1")
    monkeypatch.setenv("NO_PROXY", before)
    spare_loopback()
    spare_loopback()
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == after


def test_a_proxy_is_named_without_user_and_password(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://me:secret@proxy:1")
    monkeypatch.setenv("NO_PROXY", "corp.example")
    assert proxy_of("http", "mlflow.example") == "HTTP_PROXY=proxy:1"
    assert proxy_of("http", "mlflow.corp.example") == ""
    assert proxy_of("https", "mlflow.example") == ""
