"""Finding runs, asking Ray's job server, and the loop; a real head is in tests/fault."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import tyro
import yaml

from unite.checkpoints.store import CheckpointError
from unite.cluster import jobs as job_server
from unite.cluster.jobs import JobServerError, RayJobs
from unite.config.schema import TrackingConfig
from unite.drivers.schedule import main, repeat
from unite.drivers.survey import survey
from unite.scheduling.attempts import Attempt, write_attempt
from unite.scheduling.rounds import ScheduleArguments, check_schedule
from unite.tracking import start_run


def asked(**changes) -> ScheduleArguments:
    return ScheduleArguments(**{"suite": ("entropy",), **changes})


def test_runs_that_only_mlflow_knows_are_found_too(tmp_path, untrained_run, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    untrained_run(here, "mine")
    untrained_run(there, "theirs")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    config = TrackingConfig(uri=uri)
    for storage, name in ((there, "theirs"), (here, "mine"), ("/on/another/machine", "far")):
        params = {"storage": str(storage), "name": name}
        start_run(config, storage=str(here), name=name, params=params, config_dict={}, tags={})
    found = survey(asked(), str(here)).missing
    assert {request.run for request in found} == {"mine", "theirs"}
    assert {request.arguments.storage for request in found} == {str(here), str(there)}
    assert [request.run for request in survey(asked(experiment=""), str(here)).missing] == ["mine"]


def test_without_mlflow_the_storage_is_searched(tmp_path, untrained_run, monkeypatch, caplog):
    untrained_run(tmp_path)
    assert len(survey(asked(), str(tmp_path)).missing) == 1
    assert not caplog.text, "nothing was tracked, so nothing is missing"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert len(survey(asked(), str(tmp_path)).missing) == 1
    assert "only the storage is searched for runs: cannot search the runs" in caplog.text


class Clock:
    """Time passes in sleep and in work."""

    def __init__(self, *works: float) -> None:
        self.now, self.works, self.starts = 0.0, list(works), []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def work(self) -> None:
        if not self.works:
            raise KeyboardInterrupt
        self.starts.append(self.now)
        self.now += self.works.pop(0)
        if len(self.starts) == 2:
            raise JobServerError("nobody answers")


def test_rounds_begin_on_a_grid_and_survive_a_dead_cluster(caplog):
    clock = Clock(1, 2, 25, 0)
    with pytest.raises(KeyboardInterrupt):
        repeat(clock.work, 10, clock, clock.sleep)
    assert clock.starts == [0, 10, 20, 50]
    assert "this round ended early: nobody answers. The next one tries again" in caplog.text


def test_input_that_cannot_be_used_ends_the_loop(tmp_path):
    with pytest.raises(CheckpointError, match="no run 'nope'"):
        main(asked(every="1s", run="nope"), str(tmp_path))


def test_a_run_that_has_only_begun_is_looked_at_again_in_the_next_round(
    tmp_path, untrained_run, caplog
):
    untrained_run(tmp_path, images=())
    with pytest.raises(CheckpointError, match="no committed checkpoint yet"):
        survey(asked(once=True, run="tiny"), str(tmp_path))
    assert survey(asked(every="1s", run="tiny"), str(tmp_path)).missing == []
    assert "the next round looks again: the run" in caplog.text
    untrained_run(tmp_path, images=(256,))
    assert len(survey(asked(every="1s", run="tiny"), str(tmp_path)).missing) == 1


def test_a_cluster_that_is_away_is_named(monkeypatch):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:7")
    monkeypatch.setenv("RAY_ADDRESS", "local")
    with pytest.raises(JobServerError, match=r"http://127.0.0.1:9 did not answer.*--address"):
        RayJobs("http://127.0.0.1:9").known()
    assert os.environ["RAY_API_SERVER_ADDRESS"] == "http://127.0.0.1:7"
    assert os.environ["RAY_ADDRESS"] == "local"


class Head:
    """Ray's client of a head that has just started, or that has the job already."""

    def __init__(self, error: str) -> None:
        self.error, self.asked, self.ids = error, 0, set()

    def submit_job(self, *, submission_id: str, **settings) -> None:
        self.asked += 1
        if self.asked < 3:
            raise RuntimeError(f"Request failed with status code 500: {self.error}.")
        self.ids.add(submission_id)

    def list_jobs(self) -> list:
        from ray.job_submission import JobDetails, JobStatus, JobType

        return [
            JobDetails(
                submission_id=name, type=JobType.SUBMISSION, status=JobStatus.STOPPED, entrypoint=""
            )
            for name in self.ids
        ]


def jobs_of(head: Head, turned_clock) -> RayJobs:
    turned_clock(job_server, sleep=lambda seconds: None)
    jobs = RayJobs("http://nowhere")
    jobs.__dict__["_client"] = head
    return jobs


def test_a_head_that_cannot_start_jobs_yet_is_waited_for(turned_clock):
    head = Head("No available agent to submit job, please try again later.")
    assert jobs_of(head, turned_clock).submit("a", ["true"], {})
    assert head.asked == 3


def test_what_is_there_already_is_not_submitted(turned_clock):
    head = Head("Job with submission_id a already exists")
    head.ids.add("a")
    jobs = jobs_of(head, turned_clock)
    assert not jobs.submit("a", ["true"], {})
    assert jobs.known()["a"].status == "failed", "it was stopped"
    with pytest.raises(JobServerError, match="already exists"):
        jobs.submit("b", ["true"], {})


def test_a_dry_run_shows_what_a_round_would_do(tmp_path, untrained_run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "240")
    untrained_run(tmp_path, images=(256, 512))
    first, second = survey(asked(), str(tmp_path)).missing
    failed = Attempt.new(1, first.digest).ended("failed", "log\nerror: no luck")
    write_attempt(first.records, failed)
    write_attempt(second.records, Attempt.new(1, second.digest))
    assert main(asked(dry_run=True), str(tmp_path)) == 0
    said = capsys.readouterr().out
    assert "submit attempt 2 of 3 after: error: no luck" in said
    assert f"wait for unite-evaluate-{second.digest}-1" in said
    assert "results: 0 there, 2 missing" in said


def test_an_address_without_its_scheme_is_refused_with_the_cure(tmp_path, monkeypatch):
    """Ray takes HOST:PORT for the head's own port, and asks there in another protocol."""
    with pytest.raises(ValueError, match=r"--address head:8265 is no URL: write http://head:8265"):
        main(asked(once=True, address="head:8265"), str(tmp_path))
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "head:8265")
    with pytest.raises(ValueError, match="RAY_API_SERVER_ADDRESS head:8265 is no URL"):
        main(asked(every="6h"), str(tmp_path))


def test_nothing_to_do_needs_no_cluster(tmp_path, untrained_run):
    untrained_run(tmp_path, images=())
    arguments = asked(once=True, address="http://127.0.0.1:9")
    assert main(arguments, str(tmp_path)) == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--once", "--suite", "entropy"), "the job server at http://127.0.0.1:9"),
        (("--every", "soon"), "--every 'soon': give a number"),
    ],
)
def test_the_command_ends_with_2_and_the_reason(root, tmp_path, untrained_run, flags, words):
    untrained_run(tmp_path)
    command = [sys.executable, "jobs/schedule_evals.py", "--storage", str(tmp_path), *flags]
    done = subprocess.run(
        [*command, "--address", "http://127.0.0.1:9"], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_what_the_documentation_tells_to_type_is_understood(root):
    text = (root / "docs" / "scheduled_evaluation.md").read_text()
    lines = re.findall(r"jobs/schedule_evals\.py((?: \S+)+)", text)
    flags = [re.split(r" {2,}| >>", line)[0].split() for line in lines]
    flags = [words for words in flags if words[0].startswith("--")]
    assert len(flags) >= 5
    for words in flags:
        check_schedule(tyro.cli(ScheduleArguments, args=words))


def test_the_cron_job_holds_no_secret_and_asks_for_what_there_is(root):
    job = yaml.safe_load((root / "docs/deploy/kuberay/cronjob-evals.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "CronJob")
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    words = [*container["command"], *container["args"]]
    assert words[:2] == ["python", "jobs/schedule_evals.py"]
    check_schedule(tyro.cli(ScheduleArguments, args=words[2:]))
    for variable in container["env"]:
        secret = re.search("TOKEN|KEY|USERNAME|PASSWORD|SECRET", variable["name"])
        assert bool(secret) == ("valueFrom" in variable), variable["name"]
