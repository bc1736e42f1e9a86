"""Results of evaluations are in the run at once, or kept with the command that pushes them."""

from __future__ import annotations

import shutil

import pytest

from unite.tracking import TrackingError, delivery, log_results, metric_history, push_spool
from unite.tracking.server import connect
from unite.tracking.spool import Spool, Target


def test_results_land_at_the_step_of_their_checkpoint(tmp_path, sqlite_run, gradient):
    for step, value in ((200, 9.0), (100, 12.0)):
        log_results(
            sqlite_run,
            {"eval/generation/fd-digits-cnn": value, "eval/generation/is": 2.0},
            step,
            spool=tmp_path / "pending",
            artifacts={f"cards/{step}.json": b"{}"},
            images={"eval/generation": gradient},
            tags={"card": "abc"},
        )
    history = metric_history(sqlite_run, "eval/generation/fd-digits-cnn")
    assert history == [(100, 12.0), (200, 9.0)]
    client = connect(sqlite_run.uri)
    assert len(client.list_artifacts(sqlite_run.run_id, "cards")) == 2
    assert len(client.list_artifacts(sqlite_run.run_id, "images")) == 4
    tags = client.get_run(sqlite_run.run_id).data.tags
    assert tags["card"] == "abc" and tags["mlflow.loggedImages"] == "True"
    assert list((tmp_path / "pending").iterdir()) == [], "what was sent is not kept"


@pytest.mark.parametrize(
    "name", ["fid", "eval/fid", "eval/generation/FID", "eval/a/b/c", "eval//x"]
)
def test_other_names_are_refused(tmp_path, handle, name):
    with pytest.raises(ValueError, match="eval/<suite>/<metric>"):
        log_results(handle, {name: 1.0}, 8, spool=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_results_of_an_outage_are_kept_and_pushed(tmp_path, handle, fake, gradient):
    fake.down = True
    for step in (100, 200):
        with pytest.raises(TrackingError, match="unite mlflow push .*metrics.jsonl") as caught:
            log_results(
                handle,
                {"eval/reconstruction/psnr": 30.0},
                step,
                spool=tmp_path,
                artifacts={"card.json": b"{}"},
            )
    assert handle.uri in str(caught.value)
    with pytest.raises(TrackingError, match="nobody answers"):
        push_spool(tmp_path)
    fake.down = False
    assert push_spool(tmp_path) == (2, 2)
    assert sorted(fake.steps("eval/reconstruction/psnr")) == [100, 200]
    assert list(tmp_path.iterdir()) == []


def test_numbers_go_even_if_files_are_refused(tmp_path, handle, fake):
    fake.refuses_files = True
    with pytest.raises(TrackingError, match="no artifact store"):
        log_results(
            handle,
            {"eval/reconstruction/psnr": 30.0},
            100,
            spool=tmp_path,
            artifacts={"card.json": b"{}"},
        )
    assert fake.steps("eval/reconstruction/psnr") == [100]


def test_a_long_backlog_goes_even_if_files_are_refused(tmp_path, handle, fake):
    spool = Spool(tmp_path)
    spool.aim(Target(handle))
    for step in range(2500):
        spool.log.append({"lr": 0.1}, step)
    spool.put_file("card.json", b"{}")
    fake.refuses_files = True
    with pytest.raises(TrackingError, match="no artifact store"):
        push_spool(tmp_path)
    assert fake.steps("lr") == list(range(2500))


def test_pushing_again_after_a_lost_answer_does_not_double_a_result(tmp_path, sqlite_run):
    spool = Spool(tmp_path / "first")
    spool.aim(Target(sqlite_run, training=False))
    spool.log.append({"eval/generation/fid": 9.0}, 100)
    shutil.copytree(spool.folder, tmp_path / "second")
    assert push_spool(tmp_path) == (2, 0)
    assert metric_history(sqlite_run, "eval/generation/fid") == [(100, 9.0)]


def storage_of_runs(folder, handle, count):
    """Runs with a point each that MLflow does not have; the last was logged with tracking off."""
    for number in range(count):
        run = folder / f"run{number}"
        run.mkdir()
        (run / "config.json").write_text("{}")
        spool = Spool(run / "tracking")
        spool.log.append({"lr": 0.1}, number + 1)
        if number < count - 1:
            spool.aim(Target(handle))


def test_a_folder_of_many_runs_is_pushed_at_once(tmp_path, handle, fake):
    storage_of_runs(tmp_path, handle, 6)
    assert push_spool(tmp_path).points == 5
    assert fake.steps("lr") == [1, 2, 3, 4, 5]


def test_one_refused_spool_does_not_keep_the_others_and_a_dead_server_is_not_asked_for_all(
    tmp_path, handle, fake, monkeypatch
):
    storage_of_runs(tmp_path, handle, 8)
    asked = []

    def connect(run):
        asked.append(run)
        if len(asked) <= 2:  # each is tried twice
            raise ConnectionError("refused")
        return fake.connect(run)

    monkeypatch.setattr(delivery, "MlflowGateway", connect)
    with pytest.raises(TrackingError, match=r"6 of 7 spools were sent, 1 refused.*refused"):
        push_spool(tmp_path)
    assert fake.steps("lr") == [2, 3, 4, 5, 6, 7]

    def dead(run):
        asked.append(run)
        raise ConnectionError("refused")

    asked.clear()
    monkeypatch.setattr(delivery, "MlflowGateway", dead)
    with pytest.raises(TrackingError, match="0 of 7 spools were sent, 3 refused"):
        push_spool(tmp_path)


def test_what_waits_of_runs_on_s3_lies_in_the_cache():
    with pytest.raises(TrackingError, match=r"unite mlflow push ~/.cache/unite/spool"):
        push_spool("s3://bucket/runs")


def test_there_must_be_something_to_push(tmp_path):
    for path in (tmp_path, tmp_path / "metrics.jsonl"):
        with pytest.raises(TrackingError, match=r"is no metrics\.jsonl"):
            push_spool(path)
