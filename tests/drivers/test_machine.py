"""Facts of this machine, as they are."""

import os

from unite.drivers import machine


def test_facts_of_this_machine(tmp_path) -> None:
    found = machine.facts(str(tmp_path), "")
    assert found["cpus"] == len(os.sched_getaffinity(0))
    assert found["packages"]["torch"] and found["packages"]["torch"] != "missing"
    assert found["memory"] > 2**28 and found["storage"]["latency_s"] >= 0
    assert list(tmp_path.iterdir()) == []
    assert "error" not in machine.storage_facts(str(tmp_path / "runs"))
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_not_there_is_named() -> None:
    error = machine.tracking_error("http://127.0.0.1:9")
    assert error.startswith("127.0.0.1:9 does not answer")


def test_a_database_in_a_folder_of_another_machine_is_named() -> None:
    assert "no folder of this machine" in machine.tracking_error("sqlite:////nowhere/mlflow.db")
    assert machine.tracking_error("") == ""
