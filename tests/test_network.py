import os
import socket
import threading

import pytest

from unite import network
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


@pytest.fixture
def clock(turned_clock):
    """A clock that only sleeping moves."""
    now = [0.0]
    turned_clock(network, monotonic=lambda: now[0], sleep=lambda s: now.__setitem__(0, now[0] + s))
    return now


def fails(times):
    """A call that fails so often, and then gives 7."""
    left = [times]

    def call():
        left[0] -= 1
        if left[0] >= 0:
            raise ConnectionError("away")
        return 7

    return call


def test_what_passes_is_waited_for_with_a_line_a_minute(clock, caplog):
    passing = lambda error: isinstance(error, ConnectionError)  # noqa: E731
    assert network.persist(fails(30), 900, passing=passing, doing="saving") == 7
    told = [record.getMessage() for record in caplog.records]
    assert 30 * 0.5 < clock[0] < 900
    assert len(told) <= clock[0] / 60 + 1
    assert told[0] == "saving waits, for at most 900 s more: away"


def test_patience_ends_at_its_bound(clock):
    with pytest.raises(ConnectionError, match="away"):
        network.persist(fails(10**6), 900, passing=lambda _: True, doing="saving")
    assert clock[0] == pytest.approx(900)


def test_a_long_call_that_fails_at_its_end_is_made_again(clock):
    """As a checkpoint of half an hour's upload, whose last request meets a store that is away."""
    call = fails(1)

    def long():
        clock[0] += 2000
        return call()

    assert network.persist(long, 900, passing=lambda _: True, doing="saving") == 7


def test_what_does_not_pass_is_raised_at_once(clock):
    with pytest.raises(ConnectionError):
        network.persist(fails(1), 900, passing=lambda _: False, doing="saving")
    assert clock[0] == 0


def test_pauses_are_random_so_that_not_all_come_back_at_once(clock):
    ends = set()
    for _ in range(5):
        clock[0] = 0.0
        network.persist(fails(4), 900, passing=lambda _: True, doing="saving")
        ends.add(clock[0])
    assert len(ends) == 5
