"""Findings about machines: differences between nodes, a recipe's needs, a cure for each."""

import copy
import json

import pytest

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
    assert failing(node(), node("worker"), needs=8 * GIB, pairs={("head", "worker"): ""}) == {}


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


def test_two_nodes_that_do_not_find_each_other_fail() -> None:
    pairs = {("head", "worker"): "timed out"}
    (row,) = [each.found for each in diagnose([node(gpus=[])], pairs=pairs) if each.check == "NCCL"]
    assert row == "not tried: no node has a GPU"
    found = failing(node(), node("worker"), pairs=pairs)
    assert found == {"all-reduce": "head - worker: timed out"}


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
