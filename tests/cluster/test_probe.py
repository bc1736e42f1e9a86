"""Facts that come from the nodes of a real cluster, and an all-reduce between processes on them."""

import time
from itertools import combinations

import pytest

from unite.cluster import probe
from unite.drivers.machine import facts


def test_nodes_of_one_name_are_told_apart() -> None:
    nodes = [{"host": host, "node_id": f"{n}bcdef01"} for n, host in enumerate(("a", "b", "a"))]
    assert [each["host"] for each in probe.told_apart(nodes)] == ["a (0bcdef)", "b", "a (2bcdef)"]


@pytest.mark.parametrize("count", range(9))
def test_rounds_hold_every_pair_once_and_a_node_once_each(count) -> None:
    held = [sorted(pair) for pairs in probe.rounds(range(count)) for pair in pairs]
    assert sorted(held) == [list(pair) for pair in combinations(range(count), 2)]
    for pairs in probe.rounds(range(count)):
        met = [each for pair in pairs for each in pair]
        assert len(met) == len(set(met)) == count - count % 2
    assert len(list(probe.rounds(range(count)))) == (count - 1 + count % 2 if count > 1 else 0)


@pytest.mark.ray
def test_every_node_tells_its_facts_and_two_processes_sum(ray_cluster, tmp_path) -> None:
    (node,) = probe.cluster_facts(facts, str(tmp_path), "")
    assert node["packages"]["ray"] == ray_cluster.__version__
    # One clock: it shows no difference beyond the length of the asking.
    assert abs(node["time"] - node["asked_at"]) <= node["time_error_s"] + 1e-3
    assert probe.all_pairs([node]) == {}
    assert probe.all_pairs([node, node | {"host": "other"}]) == {(node["host"], "other"): ""}


@pytest.mark.ray
def test_two_that_do_not_meet_say_so(ray_cluster, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(probe, "PAIR_DEADLINE_S", 2.0)
    (node,) = probe.cluster_facts(facts, "", "")
    unreachable = node | {"address": "127.0.0.2"}
    monkeypatch.setattr(probe, "_sum", lambda *given: 2.0)
    assert "came out as" in (probe._pair(unreachable, node, "gloo") or "")


def test_a_gpu_that_is_taken_is_not_tried_and_a_cpu_that_is_silent_fails(monkeypatch) -> None:
    from ray.exceptions import GetTimeoutError

    def late(*given: object) -> None:
        raise GetTimeoutError("Get timed out")

    monkeypatch.setattr(probe, "_on_both", late)
    node = {"node_id": "ab" * 28, "address": "10.0.0.1"}
    assert probe._pair(node, node, "nccl") is None
    assert probe._pair(node, node, "gloo") == "no answer within 60 s"


@pytest.mark.ray
def test_gpus_that_cannot_sum_fail_with_their_reason(ray_cluster, monkeypatch) -> None:
    (node,) = probe.cluster_facts(facts, "", "")
    if node["gpus"]:
        pytest.skip("needs a machine without a GPU")
    on_both = probe._on_both
    monkeypatch.setattr(
        probe, "_on_both", lambda task, places, gpus, *rest: on_both(task, places, 0, *rest)
    )
    assert "nccl" in (probe._pair(node, node, "nccl") or "").lower()


@pytest.mark.ray
def test_a_node_that_cannot_tell_its_facts_is_named_with_the_reason(
    ray_cluster, monkeypatch
) -> None:
    def fail(what: str) -> probe.Facts:
        raise ImportError(what)

    (node,) = probe.cluster_facts(fail, "libcuda.so.1 is not there")
    assert "libcuda.so.1 is not there" in node["error"] and node["host"] and node["node_id"]
    monkeypatch.setattr(probe, "FACTS_DEADLINE_S", 0.1)
    (late,) = probe.cluster_facts(lambda: time.sleep(3) or {})
    assert late["error"] == "no answer within 0.1 s"
