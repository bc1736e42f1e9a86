"""What joining Ray leaves as it was in this process, and what it hands to workers."""

import signal
import time
from typing import Any

import pytest

from unite.cluster import connect as joined
from unite.cluster.connect import CapacityError, connect, nodes, runtime_env
from unite.cluster.output import WORKER_HOOK, begin_worker
from unite.drivers.signals import stop_on_signals

ELSEWHERE = {"RAY_API_SERVER_ADDRESS": "http://127.0.0.1:9", "RAY_ADDRESS": "127.0.0.1:9"}


def test_a_handler_of_sigterm_outlives_the_start_of_ray(monkeypatch):
    def take_over_and_fail(**settings):
        signal.signal(signal.SIGTERM, lambda *_: pytest.fail("Ray's own was called"))
        raise Exception("no more is needed")

    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", take_over_and_fail)
    with pytest.raises(KeyboardInterrupt), stop_on_signals():
        with pytest.raises(CapacityError):
            connect()
        signal.raise_signal(signal.SIGTERM)


def test_without_a_handler_of_ours_that_of_ray_stays(monkeypatch):
    def rays(*_):
        """Ray's handler."""

    def take_over_and_fail(**settings):
        signal.signal(signal.SIGTERM, rays)
        raise Exception("no more is needed")

    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", take_over_and_fail)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(CapacityError):
            connect()
        assert signal.getsignal(signal.SIGTERM) is rays
    finally:
        signal.signal(signal.SIGTERM, before)


def test_workers_of_a_named_cluster_go_to_the_store_of_their_driver(monkeypatch):
    """The one that is for S3 alone wins (`objects.endpoint`), so both must travel."""
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, f"http://{name.lower()}")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:planted@mlflow")
    sent = runtime_env()["env_vars"]
    assert sent["AWS_ENDPOINT_URL_S3"] == "http://aws_endpoint_url_s3"
    assert sent["AWS_ENDPOINT_URL"] == "http://aws_endpoint_url"
    assert "planted" not in str(sent)


def test_a_relative_folder_of_weights_is_found_by_workers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNITE_WEIGHTS", "weights")
    assert runtime_env()["env_vars"]["UNITE_WEIGHTS"] == str(tmp_path / "weights")
    monkeypatch.setenv("UNITE_WEIGHTS", "s3://bucket/weights")
    assert runtime_env()["env_vars"]["UNITE_WEIGHTS"] == "s3://bucket/weights"


@pytest.mark.ray
def test_workers_ask_their_own_cluster_whatever_else_runs_on_the_machine(ray_cluster):
    """Train's cleaner took the address of another cluster from the driver's environment."""

    @ray_cluster.remote(num_cpus=0, runtime_env={"env_vars": ELSEWHERE})
    def asked() -> Any:
        from ray.util.state import list_nodes

        begin_worker()
        return list_nodes()

    (node,) = ray_cluster.nodes()
    (found,) = ray_cluster.get(asked.remote(), timeout=60)
    assert found.node_id == node["NodeID"]
    assert WORKER_HOOK == f"{begin_worker.__module__}.{begin_worker.__name__}"


def test_a_lost_node_that_the_cluster_still_counts_does_not_answer(ray_cluster, monkeypatch):
    assert nodes(answering=True) == nodes() != []
    asked = []

    def refused(*place, **options):
        asked.append(place)
        return "connection refused"

    monkeypatch.setattr(joined, "answers", refused)
    assert nodes(answering=True) == []
    (node,) = ray_cluster.nodes()
    assert asked == [(node["NodeManagerAddress"], node["NodeManagerPort"])]


def test_what_an_ending_group_holds_counts_as_free(ray_cluster):
    """Until it is removed; Ray tells of both a moment later."""
    group = ray_cluster.util.placement_group([{"CPU": 0.25}, {"CPU": 0.5}])
    ray_cluster.get(group.ready())

    def free(ending=None) -> float:
        return sum(node["CPU"] for node in nodes(free=True, ending=ending))

    def until(holds) -> None:
        deadline = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.1)

    until(lambda: free(group) == free() + 0.75)
    ray_cluster.util.remove_placement_group(group)
    until(lambda: free(group) == free())
