"""Findings about machines: differences between nodes, a recipe's needs, a cure for each."""

import copy
import json
from itertools import combinations

import pytest

from unite.cluster import probe
from unite.commands import doctor as command
from unite.config.schema import ClusterConfig
from unite.drivers.doctor import GIB, as_json, diagnose


def node(host: str = "head", **changes: object) -> dict:
    facts = {
        "host": host,
        "time": 100.0,
        "asked_at": 100.0,
        "time_error_s": 0.0,
        "python": "3.11.9",
        "packages": {"ray": "2.60.0", "torch": "2.15.0"},
        "code": "abc",
        "cpus": 8,
        "gpus": [{"name": "A100", "memory": 40 * GIB}],
        "memory": 64 * GIB,
        "shared_memory": 32 * GIB,
        "storage": {"latency_s": 0.01, "write_bytes_per_s": 1e8, "read_bytes_per_s": 2e8},
        "tracking": "",
    }
    return copy.deepcopy(facts) | changes


def failing(*nodes: dict, **more: object) -> dict[str, str]:
    """Failing checks of a diagnosis, with node and result."""
    found = [each for each in diagnose(nodes, **more) if not each.ok]  # type: ignore[arg-type]
    assert all(each.cure for each in found)
    return {each.check: f"{each.node}: {each.found}" for each in found}


def test_like_nodes_that_have_what_they_need_pass() -> None:
    assert failing(node(), node("worker"), needs=8 * GIB, pairs=sums("")) == {}


def test_another_version_or_other_code_is_named_with_both() -> None:
    other = node("worker", packages={"ray": "2.59.0", "torch": "2.15.0"}, code="def")
    assert failing(node(), other) == {
        "ray": "worker: 2.59.0, head has 2.60.0",
        "code": "worker: def, head has abc",
    }
    assert failing(node(), node("worker", python="3.11.2")) == {}
    assert failing(node(), node("worker", python="3.12.1")) == {
        "python": "worker: 3.12, head has 3.11"
    }


@pytest.mark.parametrize(
    ("changes", "check", "words"),
    [
        ({"memory": 4 * GIB}, "memory", "4.0 GiB, a worker needs 8.0"),
        (
            {"shared_memory": 64 * 2**20},
            "shared memory",
            "0.1 GiB free in /dev/shm, Ray's own store takes 1.0",
        ),
        ({"storage": {"error": "permission denied"}}, "storage", "permission denied"),
        ({"tracking": "mlflow:5000 does not answer: refused"}, "tracking", "refused"),
        ({"time": 103.0, "time_error_s": 0.5}, "clock", "2.5 s apart"),
    ],
)
def test_each_fault_is_found_on_its_node(changes: dict, check: str, words: str) -> None:
    found = failing(node(), node("worker", **changes), needs=8 * GIB)
    assert list(found) == [check]
    assert found[check].startswith("worker: ") and words in found[check]


def test_shared_memory_is_that_of_the_workers_that_a_node_holds() -> None:
    cluster = ClusterConfig(num_workers=64, use_gpu=True)
    gpus = [{"name": "A100", "memory": 40 * GIB}] * 8
    small = node("worker", shared_memory=3 * GIB, gpus=gpus)
    (row,) = [each for each in diagnose([node(), small], cluster=cluster) if not each.ok]
    assert (row.check, row.node) == ("shared memory", "worker")
    assert row.found == "3.0 GiB free in /dev/shm, the data of 8 workers takes 4.0"
    assert "--shm-size=8g" in row.cure
    assert failing(node(), node("worker", shared_memory=3 * GIB), cluster=cluster) == {}


def test_tracking_that_nobody_looked_at_is_not_called_reachable() -> None:
    rows = diagnose([node(tracking=None), node("worker")])
    (unknown, seen) = [each.found for each in rows if each.check == "tracking"]
    assert "no server is named" in unknown and seen == "answers, credentials accepted"


def test_a_node_that_tells_nothing_is_a_row_and_hides_no_other() -> None:
    mute = {"host": "worker", "node_id": "ab", "address": "10.0.0.2", "error": "no answer"}
    assert failing(node(), mute, node("other", memory=1), needs=8 * GIB) == {
        "answer": "worker: no answer",
        "memory": "other: 0.0 GiB, a worker needs 8.0",
    }


def test_a_slow_answer_is_no_wrong_clock() -> None:
    late = node("worker", time=103.0, time_error_s=1.5)
    assert failing(node(), late) == {}


def sums(gloo: str, nccl: str | None = "") -> dict[str, probe.Sums]:
    pair = ("head", "worker")
    return {"gloo": {pair: gloo}, "nccl": {pair: nccl}}


def reduces(pairs: dict[str, probe.Sums]) -> list[str]:
    """Rows of a diagnosis about all-reduces: check, node and result."""
    rows = [each for each in diagnose([node()], pairs=pairs) if each.check.startswith("all-")]
    return [f"{each.check}: {each.node}: {each.found}" for each in rows]


def test_two_nodes_that_do_not_find_each_other_fail_in_the_backend_that_failed() -> None:
    assert failing(node(), node("worker"), pairs=sums("timed out")) == {
        "all-reduce, gloo": "head - worker: timed out"
    }
    assert failing(node(), node("worker"), pairs=sums("", "no route")) == {
        "all-reduce, nccl": "head - worker: no route"
    }
    (row,) = [each for each in diagnose([node()], pairs=sums("", "no route")) if not each.ok]
    assert "NCCL_SOCKET_IFNAME" in row.cure


def test_pairs_that_end_alike_share_a_row_and_no_gpu_is_no_failure() -> None:
    hosts = ("a", "b", "c")
    gloo: probe.Sums = dict.fromkeys(combinations(hosts, 2), "")
    gloo["a", "c"] = "refused"
    assert reduces({"gloo": gloo, "nccl": {}}) == [
        "all-reduce, gloo: 2 pairs: agrees",
        "all-reduce, gloo: a - c: refused",
        "all-reduce, nccl: all: not tried: there are no two nodes with GPUs",
    ]
    assert reduces(sums("", None)) == [
        "all-reduce, gloo: head - worker: agrees",
        "all-reduce, nccl: head - worker: not tried: no GPU was free",
    ]
    assert failing(node(), pairs=sums("", None)) == {}


def test_gpus_that_ray_counts_and_torch_does_not_see_fail() -> None:
    assert failing(node(ray_gpus=1)) == {}
    assert failing(node(), node("worker", gpus=[], ray_gpus=4)) == {
        "GPUs": "worker: none, Ray counts 4"
    }
    unused = [each for each in diagnose([node(ray_gpus=0)]) if each.check == "GPUs"]
    assert [(each.ok, each.found) for each in unused] == [(True, "A100 40 GiB, Ray counts 0")]


def test_gpus_that_the_driver_counts_and_torch_cannot_use_fail() -> None:
    assert failing(node(driver_gpus=1)) == {}
    assert failing(node(gpus=[], driver_gpus=1)) == {"GPUs": "head: none, the driver counts 1"}


def test_a_storage_that_cannot_be_written_is_exit_code_1_and_json_says_so(
    tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-marker")
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as ended:
        command.doctor(
            storage=str(tmp_path / "file" / "below"), cluster="", recipe="", as_text=True
        )
    assert ended.value.code == 1
    text = capsys.readouterr().out
    told = json.loads(text)
    assert told["ok"] is False
    assert [each["check"] for each in told["findings"] if not each["ok"]] == ["storage"]
    assert "planted-marker" not in text


def test_a_sound_machine_is_a_table_and_leaves_nothing_behind(tmp_path, capsys) -> None:
    command.doctor(storage=str(tmp_path), cluster="", recipe="smoke", as_text=False)
    assert "FAILS" not in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_json_has_facts_and_findings() -> None:
    found = as_json([node()], diagnose([node()]))
    assert found["ok"] and found["nodes"][0]["host"] == "head"
    assert json.loads(json.dumps(found)) == found
