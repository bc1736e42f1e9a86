"""What is said of a cluster that cannot be joined, long before Ray would say so."""

import socket
import sys
import threading
import types

import pytest

from unite import network
from unite.cluster import connect as connecting
from unite.cluster import jobs as job_server
from unite.cluster.address import AddressError, advice, check_address, named_address
from unite.cluster.connect import CapacityError, connect
from unite.cluster.jobs import JobServerError, RayJobs


@pytest.fixture
def dead(monkeypatch, turned_clock):
    turned_clock(network, sleep=lambda seconds: None)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    monkeypatch.setattr(
        "unite.cluster.address.answers", lambda host, port: "Connection refused", raising=True
    )
    return f"127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("named", "address"),
    [("", ""), ("local", ""), ("auto", "auto"), ("localhost:6379", "localhost:6379")],
)
def test_only_local_itself_means_a_cluster_of_ones_own(monkeypatch, named, address):
    monkeypatch.setenv("RAY_ADDRESS", named)
    assert named_address() == address


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_dead_address_is_named_with_the_variable_and_the_cure(dead, scheme):
    with pytest.raises(AddressError, match=f"RAY_ADDRESS={scheme}{dead}: Connection refused"):
        check_address(f"{scheme}{dead}")


def test_a_listening_port_passes():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        check_address(f"127.0.0.1:{listening.getsockname()[1]}")
    check_address("auto")


def test_the_address_of_a_job_server_gets_its_own_advice():
    with pytest.raises(AddressError, match="ray job submit --address http://127.0.0.1:8265 -"):
        check_address("http://127.0.0.1:8265")


@pytest.mark.parametrize("address", ["nonsense", "host:", ":6379", "host:99999", "host:x"])
def test_what_is_no_address_is_named(address):
    with pytest.raises(AddressError, match=f"RAY_ADDRESS={address} is no HOST:PORT"):
        check_address(address)


def test_all_of_rays_advice_is_kept(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "host:1")
    words = advice(RuntimeError("Version mismatch.\n\nTo fix this, either:\n 1. this\n 2. that"))
    assert "1. this\n 2. that" in words and "RAY_ADDRESS=host:1" in words
    monkeypatch.delenv("RAY_ADDRESS")
    assert advice(RuntimeError("")).startswith("RuntimeError\nTry again")


def test_a_long_folder_of_temporary_files_is_named(monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", "/long")
    words = advice(OSError("AF_UNIX path length cannot exceed 107 bytes: /long/ray/x"))
    assert "RAY_TMPDIR=/long is too long" in words and "busy" not in words


@pytest.fixture
def ray(monkeypatch):
    """A Ray whose `init` blocks, as at a port that is not its own."""
    blocked = threading.Event()
    fake = types.ModuleType("ray")
    fake.is_initialized = lambda: False
    fake.init = lambda **settings: blocked.wait()
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setattr(connecting.terminal, "divert", lambda: None)
    monkeypatch.setattr(connecting, "DEADLINE_S", 0.05)
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    yield fake
    blocked.set()


def test_a_cluster_that_does_not_let_in_is_given_up_at_our_deadline(ray, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        address = f"127.0.0.1:{frozen.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(
            CapacityError, match=f"RAY_ADDRESS={address} did not let .* Unset RAY_A"
        ):
            connect()


def test_a_dead_address_is_named_before_ray_is_asked(ray, dead, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", dead)
    monkeypatch.setattr(ray, "init", lambda **settings: pytest.fail("asked"))
    with pytest.raises(CapacityError, match=f"no Ray cluster answers at RAY_ADDRESS={dead}"):
        connect()


def test_a_job_server_that_never_answers_is_given_up_at_our_deadline():
    blocked = threading.Event()
    jobs = RayJobs("http://127.0.0.1:8265")
    jobs.__dict__["_client"] = types.SimpleNamespace(list_jobs=blocked.wait)
    with pytest.raises(JobServerError, match="127.0.0.1:8265 .*nothing came within 0.05 s"):
        jobs._ask(lambda client: client.list_jobs(), 0.05)
    blocked.set()
    assert job_server.DEADLINE_S < job_server.UPLOAD_SECONDS
