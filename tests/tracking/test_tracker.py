"""What rank 0 may rely on: frozen names, no waiting, one request per beat, nothing lost."""

from __future__ import annotations

import json
import logging
import shutil
import socket
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from unite.runs import read_metrics
from unite.storage import Store
from unite.tracking import (
    SYSTEM_METRICS,
    RunHandle,
    Tracker,
    metric_history,
    open_tracker,
    push_spool,
)
from unite.tracking.delivery import Delivery
from unite.tracking.sender import Sender, rest_after
from unite.tracking.server import connect
from unite.tracking.spool import Spool, Target

NEVER_S = 3600.0


def logged_steps(folder) -> list[int]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines if "lr" in json.loads(line)["metrics"]]


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited a minute"
        time.sleep(0.001)


def test_names_of_the_machine_are_frozen():
    """Those of training are in tests/golden/metrics.txt."""
    assert sorted(SYSTEM_METRICS) == [
        "system/cpu_percent",
        "system/gpu_memory_gib",
        "system/gpu_percent",
        "system/gpu_power_w",
        "system/memory_gib",
        "system/memory_percent",
    ]


@pytest.mark.parametrize("name", ["loss", "loss/total_lr1e-4", "eval/generation/fid", "system/x"])
def test_unknown_names_are_refused(name):
    with pytest.raises(ValueError, match="unite.metrics.specs"):
        Tracker().log({name: 1.0}, 8)


def test_other_ranks_check_names_and_do_nothing_else(gradient):
    tracker = open_tracker(None)
    tracker.log({"lr": 0.1}, 8)
    tracker.image("samples", gradient, 8)
    tracker._keep_file("card.json", b"{}")
    tracker.close()


def test_without_mlflow_everything_stays_in_the_spool(tmp_path, gradient):
    tracker = open_tracker(None, spool=tmp_path)
    tracker.log({"lr": np.float32(0.5)}, np.int64(8))
    tracker.image("samples", gradient, 8)
    tracker._keep_file("card.json", b"{}")
    tracker.close()
    assert logged_steps(tmp_path) == [8]
    names = [path.name for path in (tmp_path / "files").rglob("*") if path.is_file()]
    assert len(names) == 4


def test_a_handle_needs_a_spool(handle):
    with pytest.raises(ValueError, match="spool"):
        open_tracker(handle)


def test_metrics_images_and_artifacts_reach_mlflow(tmp_path, sqlite_run, gradient, pace):
    pace(NEVER_S)
    tracker = open_tracker(sqlite_run, spool=tmp_path / "spool")
    for step in (8, 16, 24):
        tracker.log({"loss/total": 1 / step, "lr": 0.1}, step)
    tracker.image("samples", gradient, 24)
    tracker._keep_file("cards/first.json", b'{"n": 1}')
    tracker.close()
    assert metric_history(sqlite_run, "loss/total") == [(8, 1 / 8), (16, 1 / 16), (24, 1 / 24)]
    client = connect(sqlite_run.uri)
    images = [file.path for file in client.list_artifacts(sqlite_run.run_id, "images")]
    stems = sorted(name.partition("+timestamp")[0] for name in images)
    assert stems == ["images/eval~samples+step+24"] * 2
    assert client.get_run(sqlite_run.run_id).data.tags["mlflow.loggedImages"] == "True"
    cards = client.list_artifacts(sqlite_run.run_id, "cards")
    assert [file.path for file in cards] == ["cards/first.json"]


def test_a_resumed_run_has_each_step_once_in_mlflow_and_in_the_spool(tmp_path, sqlite_run, pace):
    spool = tmp_path / "spool"
    for resume_step, steps in ((None, (8, 16, 24, 32)), (16, (24, 32, 40))):
        pace(NEVER_S)
        tracker = open_tracker(sqlite_run, spool=spool, resume_step=resume_step)
        for step in steps:
            tracker.log({"lr": 0.1}, step)
        tracker.close()
    steps = [step for step, _ in metric_history(sqlite_run, "lr")]
    assert steps == logged_steps(spool) == [8, 16, 24, 32, 40]


def test_a_run_that_lost_its_spool_does_not_repeat_steps(tmp_path, sqlite_run, pace):
    for steps in ((8, 16, 24), (16, 24, 32)):
        pace(NEVER_S)
        tracker = open_tracker(sqlite_run, spool=tmp_path / "spool")
        for step in steps:
            tracker.log({"lr": 0.1}, step)
        tracker.close()
        shutil.rmtree(tmp_path / "spool")
    assert [step for step, _ in metric_history(sqlite_run, "lr")] == [8, 16, 24, 32]


def test_nothing_is_sent_between_beats(tmp_path, handle, fake, gradient, pace):
    pace(NEVER_S)
    tracker = open_tracker(handle, spool=tmp_path)
    for step in range(500):
        tracker.log({"lr": 0.1}, step)
    tracker.image("samples", gradient, 8)
    assert fake.calls == []
    tracker.close()
    assert fake.steps("lr") == list(range(500))


def test_there_is_at_most_one_request_per_beat(tmp_path, handle, fake):
    spool = Spool(tmp_path)
    spool.aim(Target(handle))
    beats, calls_at_beat, done = [], [], threading.Event()

    def before_beat():
        beats.append(len(beats))
        calls_at_beat.append(len(fake.calls))
        spool.log.append({"lr": 0.1}, len(beats))
        spool.put_file(f"{len(beats)}.txt", b"x")
        if len(beats) == 40:
            done.set()

    sender = Sender(spool, Delivery(spool), interval_s=1e-4, before_beat=before_beat)
    sender.start()
    assert done.wait(60)
    sender.close(60)
    assert set(np.diff(calls_at_beat)) == {1}
    assert fake.steps("lr") == list(range(1, len(beats) + 1))


def test_logging_goes_on_while_a_request_hangs(tmp_path, handle, fake, gradient, pace):
    fake.open.clear()
    pace(1e-4)
    tracker = open_tracker(handle, spool=tmp_path)
    tracker.log({"lr": 0.1}, 0)
    assert fake.reached.wait(60)
    for step in range(1, 300):
        tracker.log({"lr": 0.1}, step)
    tracker.image("samples", gradient, 299)
    tracker._keep_file("card.json", b"{}")
    assert len(fake.calls) == 1, "the first request is still under way"
    assert logged_steps(tmp_path) == list(range(300))
    fake.open.set()
    tracker.close()
    assert fake.steps("lr") == list(range(300))
    assert len(fake.artifacts) == 4


def test_an_outage_is_said_once_with_the_file_and_replayed(tmp_path, handle, fake, caplog, pace):
    pace(1e-4)
    tracker = open_tracker(handle, spool=tmp_path)
    with caplog.at_level(logging.INFO, "unite"):
        for step, fake.down in enumerate((True, True, False, True, True, False)):
            tracker.log({"lr": 0.1}, step)
            before = len(fake.calls)
            wait_until(lambda before=before: len(fake.calls) > before + 3 or not fake.down)
            wait_until(lambda: fake.down or "has everything" in caplog.messages[-1])
        tracker.close()
    warning, *rest = caplog.records
    assert warning.levelno == logging.WARNING
    assert [record.levelno for record in rest] == [logging.INFO] * 3, "back, down again, back"
    assert str(tmp_path / "metrics.jsonl") in warning.message
    assert "nobody answers" in warning.message
    assert fake.steps("lr") == list(range(6))


def test_a_server_that_answers_late_is_asked_less_often():
    assert [rest_after(took, 10.0) for took in (0.1, 2.0, 600.0)] == [10.0, 20.0, 60.0]


def test_closing_goes_on_while_the_server_takes_something(
    tmp_path, handle, fake, monkeypatch, pace
):
    """Twenty requests of a twentieth of a second are twice what it waits for an answer."""
    upload = fake.upload
    monkeypatch.setattr(fake, "upload", lambda *file: (time.sleep(0.05), upload(*file)))
    pace(NEVER_S, close_s=0.5)
    tracker = open_tracker(handle, spool=tmp_path)
    for number in range(20):
        tracker._keep_file(f"{number}.json", b"{}")
    tracker.close()
    assert len(fake.artifacts) == 20


def test_what_could_not_be_sent_is_kept_and_pushed_later(tmp_path, handle, fake, caplog, pace):
    fake.down = True
    pace(NEVER_S, close_s=0.05)
    tracker = open_tracker(handle, spool=tmp_path)
    tracker.log({"lr": 0.1}, 8)
    tracker._keep_file("card.json", b"{}")
    tracker.close()
    kept = tmp_path / "metrics.jsonl"
    assert f"1 points and 1 files; they are kept in {kept}" in caplog.messages[-1]
    assert f"unite mlflow push {kept}" in caplog.messages[-1]
    fake.down = False
    assert push_spool(kept) == (1, 1)
    assert push_spool(kept) == (0, 0)
    assert fake.steps("lr") == [8]
    assert fake.artifacts == {"card.json": b"{}"}


def test_closing_does_not_wait_for_a_server_that_never_answers(tmp_path, monkeypatch, caplog, pace):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "600")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        handle = RunHandle(f"http://127.0.0.1:{silent.getsockname()[1]}", "0" * 32)
        pace(1e-4, close_s=0.1)
        tracker = open_tracker(handle, spool=tmp_path)
        tracker.log({"lr": 0.1}, 8)
        silent.settimeout(60)
        connection, _ = silent.accept()
        tracker.log({"lr": 0.1}, 16)
        tracker.close()
        assert f"unite mlflow push {tmp_path / 'metrics.jsonl'}" in caplog.messages[-1]
        assert logged_steps(tmp_path) == [8, 16]
        connection.close()
    wait_until(lambda: "unite-tracking" not in {thread.name for thread in threading.enumerate()})
    assert len(caplog.messages) == 1, "its late failure is not told again"


def test_a_full_disk_costs_metrics_not_the_training(tmp_path, caplog):
    spool = tmp_path / "spool"
    tracker = open_tracker(None, spool=spool)
    shutil.rmtree(spool)
    spool.write_text("in the way")
    tracker.log({"lr": 0.1}, 8)
    tracker.log({"lr": 0.1}, 16)
    tracker._keep_file("card.json", b"{}")
    tracker.close()
    (message,) = caplog.messages
    assert "training goes on" in message


def test_the_machine_is_sampled_once_per_logged_step(tmp_path, handle, fake, pace):
    pace(1e-4)
    tracker = open_tracker(handle, spool=tmp_path)
    for step in (8, 16):
        tracker.log({"lr": 0.1}, step)
        wait_until(lambda step=step: step in fake.steps("system/memory_gib"))
        calls = len(fake.calls)
        tracker._keep_file("card.json", b"{}")
        wait_until(lambda calls=calls: len(fake.calls) > calls)
    tracker.close()
    records = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    sampled = [each["step"] for each in records if "system/memory_gib" in each["metrics"]]
    assert sampled == fake.steps("system/memory_gib") == [8, 16]


def test_a_sqlite_file_of_another_machine_is_not_created_here(tmp_path, caplog, pace):
    database = tmp_path / "elsewhere" / "mlflow.db"
    handle = RunHandle(f"sqlite:///{database}", "0" * 32)
    pace(10.0, close_s=0.05)
    tracker = open_tracker(handle, spool=tmp_path / "spool")
    tracker.log({"lr": 0.1}, 8)
    tracker.close()
    assert f"there is no {database} on this machine" in caplog.messages[0]
    assert not database.parent.exists()


def test_a_run_on_s3_has_its_points_there_for_the_next_machine(tmp_path, s3):
    run = Store.open(f"{s3}/run")
    first = open_tracker(None, spool=tmp_path / "one", publish_to=run)
    first.log({"lr": 1.0}, 10)
    first.log({"lr": 2.0}, 20)
    first.close()
    assert read_metrics(run) == [{"images": 10, "lr": 1.0}, {"images": 20, "lr": 2.0}]
    second = open_tracker(None, spool=tmp_path / "two", publish_to=run, resume_step=10)
    second.log({"lr": 3.0}, 20)
    second.close()
    assert read_metrics(run) == [{"images": 10, "lr": 1.0}, {"images": 20, "lr": 3.0}]
