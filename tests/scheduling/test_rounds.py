"""What is missing, who may submit it, and what becomes of failures; the cluster is played."""

from __future__ import annotations

import os
import shutil
import threading
from dataclasses import fields, replace
from pathlib import Path

import pytest
import tyro

from unite.checkpoints.export import write_export
from unite.checkpoints.load import load
from unite.checkpoints.store import CheckpointError
from unite.drivers.evaluate import evaluate
from unite.drivers.survey import find_checkpoints, survey
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.request import open_evaluation
from unite.scheduling.attempts import Attempt, read_attempts, write_attempt
from unite.scheduling.requests import command, flags
from unite.scheduling.rounds import (
    GONE,
    Job,
    Round,
    ScheduleArguments,
    check_schedule,
    next_start,
    seconds,
)
from unite.storage import Store


class Cluster:
    """A job server: an id is taken once. Jobs end when they are looked at a second time."""

    def __init__(self, *outcomes: str) -> None:
        self.outcomes = list(outcomes)
        self.jobs: dict[str, Job] = {}
        self.words: dict[str, list[str]] = {}
        self.most_at_once: dict[str, int] = {}
        self.lock = threading.Lock()
        self.stuck = False
        self.looked_at: set[str] = set()

    def submit(self, submission_id, words, about):
        with self.lock:
            if submission_id in self.jobs:
                return False
            self.jobs[submission_id] = Job(status="running")
            self.words[submission_id] = list(words)
            alive = [name for name, job in self.jobs.items() if job.status == "running"]
            for name in alive:
                request = name.rpartition("-")[0]
                here = sum(each.rpartition("-")[0] == request for each in alive)
                self.most_at_once[request] = max(here, self.most_at_once.get(request, 0))
            self.most = max(getattr(self, "most", 0), len(alive))
            return True

    def known(self):
        with self.lock:
            if not self.stuck:
                for name, job in self.jobs.items():
                    if job.status == "running" and name in self.looked_at:
                        self.jobs[name] = self.end(name)
                self.looked_at |= set(self.jobs)
            return dict(self.jobs)

    def stop(self, submission_id):
        self.jobs[submission_id] = Job(status="failed", reason="it was stopped")

    def end(self, name: str) -> Job:
        outcome = self.outcomes.pop(0) if self.outcomes else "succeed"
        if outcome == "succeed":
            write_results(self.words[name])
        if outcome in ("succeed", "vanish"):
            return Job(status="succeeded")
        return Job(status="failed", reason=f"exit code 2, last available logs:\n{outcome}\n")


def write_results(words: list[str]) -> None:
    """What `jobs/evaluate.py` leaves behind, without computing it."""
    arguments = parse(words)
    (suite,) = arguments.suite
    (request,) = [
        request
        for request in survey(ScheduleArguments(run=arguments.run), arguments.storage).missing
        if request.suite == suite
    ]
    request.measurement.as_asked(request.subject).folder.write("results.json", b'{"outcomes": []}')


def parse(words: list[str]) -> EvaluateArguments:
    return tyro.cli(EvaluateArguments, args=words[2:])


def asked(**changes) -> ScheduleArguments:
    return ScheduleArguments(**{"suite": ("entropy",), **changes})


def missing(storage, **changes):
    return survey(asked(**changes), str(storage)).missing


def run_round(requests, cluster, **changes) -> tuple[Round, list[str]]:
    said: list[str] = []
    chosen = {"at_once": 10, "tell": said.append, "sleep": lambda s: None, **changes}
    work = Round(requests=requests, jobs=cluster, **chosen)
    work.run()
    return work, said


@pytest.fixture
def storage(tmp_path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def run(storage, untrained_run):
    return untrained_run(storage)


def test_every_suite_of_every_checkpoint_is_a_request(storage, untrained_run):
    untrained_run(storage, "a", images=(256, 512))
    untrained_run(storage, "b")
    untrained_run(storage, "none", images=())
    requests = missing(storage, suite=("entropy", "compute"))
    assert {(p.run, p.images, p.suite) for p in requests} == {
        (name, images, suite)
        for name, images in (("a", 256), ("a", 512), ("b", 256))
        for suite in ("entropy", "compute")
    }
    assert len({request.digest for request in requests}) == len(requests)
    assert len(missing(storage, suite=())) == 3 * 7


def test_a_round_brings_everything_to_a_result_and_the_next_finds_nothing(storage, run):
    cluster = Cluster()
    requests = missing(storage, suite=("entropy", "compute"))
    work, _ = run_round(requests, cluster)
    assert not work.failed
    assert len(cluster.jobs) == 2
    assert missing(storage, suite=("entropy", "compute")) == []
    assert survey(asked(), str(storage)).done == 1


def test_what_was_evaluated_by_hand_counts(storage, run):
    arguments = EvaluateArguments(run="tiny", suite=("entropy",), num_workers=0, track=False)
    evaluate(open_evaluation(arguments, str(storage)))
    assert missing(storage) == []
    assert len(missing(storage, entropy_bins=64)) == 1, "another card is another request"
    assert len(missing(storage, ema=False)) == 1


def test_samples_on_a_fitted_extractor_count_too(storage, run):
    arguments = {"run": "tiny", "suite": ("generation",), "num_samples": 20}
    by_hand = EvaluateArguments(**arguments, extractor=("pixels",), num_workers=0, track=False)
    evaluate(open_evaluation(by_hand, str(storage)))
    assert missing(storage, **arguments, extractor=("pixels",)) == []
    assert len(missing(storage, **arguments, extractor=("small",))) == 1, "it is not fitted yet"
    assert len(missing(storage, **arguments, extractor=("pixels",), cfg_adaptive=True)) == 1


def test_a_sweep_counts_at_whatever_scale_it_ended(storage, run):
    arguments = {"run": "tiny", "suite": ("generation",), "num_samples": 20}
    by_hand = EvaluateArguments(
        **arguments, extractor=("pixels",), cfg_adaptive=True, num_workers=0, track=False
    )
    evaluate(open_evaluation(by_hand, str(storage)))
    assert missing(storage, **arguments, extractor=("pixels",), cfg_adaptive=True) == []
    assert len(missing(storage, **arguments, extractor=("pixels",), cfg_sweep=True)) == 1


def test_only_what_changes_a_card_makes_another_request(storage, run):
    def digest(**changes):
        (request,) = missing(storage, suite=("generation",), extractor=("pixels",), **changes)
        return request.digest

    same = digest()
    for changes in (
        {"num_samples": 3000},
        {"solver": "euler"},
        {"num_steps": 4, "num_workers": 3, "batch_size": 64},
        {"track": False},
    ):
        assert digest(**changes) == same, f"{changes} say what the run says"
    others = [
        digest(**changes)
        for changes in ({"num_samples": 10}, {"seed": 1}, {"cfg_scale": 2.0}, {"cfg_sweep": True})
    ]
    assert len({same, *others}) == 5


def test_two_schedulers_submit_each_attempt_once(storage, untrained_run):
    untrained_run(storage, images=(256, 512, 768))
    cluster = Cluster(*["error: no luck"] * 4)
    requests = [missing(storage) for _ in range(2)]
    gate = threading.Barrier(2)
    sent = []

    def schedule(mine):
        gate.wait()
        sent.append(run_round(mine, cluster)[1])

    threads = [threading.Thread(target=schedule, args=(mine,)) for mine in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(cluster.most_at_once.values()) == {1}
    assert len(cluster.jobs) == 3 + 4
    submitted = [line for said in sent for line in said if " submitted " in line]
    assert len(submitted) == len(cluster.jobs)
    assert missing(storage) == []


def test_a_request_is_given_up_after_so_many_attempts_and_the_reasons_are_kept(storage, run):
    (request,) = missing(storage)
    reasons = ["error: first", "error: second"]
    work, said = run_round([request], cluster := Cluster(*reasons), max_attempts=2)
    assert work.failed == [request]
    assert len(cluster.jobs) == 2
    assert [a.short_reason for a in read_attempts(request.records)] == reasons
    assert any("attempt 1 failed: error: first" in line for line in said)
    assert "given up after 2 attempts" in said[-1]
    again, _ = run_round(missing(storage), later := Cluster(), max_attempts=2)
    assert again.failed and not later.jobs, "the next round remembers"
    run_round(missing(storage), later, max_attempts=3)
    assert list(later.jobs) == [f"unite-evaluate-{request.digest}-3"]
    assert missing(storage) == []


def test_a_request_whose_records_were_deleted_is_tried_again_on_the_same_cluster(storage, run):
    """As docs/scheduled_evaluation.md says. The cluster has taken the ids of its first jobs."""
    (request,) = missing(storage)
    cluster = Cluster(*["error: no luck"] * 2)
    assert run_round([request], cluster, max_attempts=2)[0].failed
    request.records.delete()
    work, said = run_round(missing(storage), cluster, max_attempts=2)
    assert not work.failed, said
    assert list(cluster.jobs)[2:] == [f"unite-evaluate-{request.digest}-3"]
    assert [(a.number, a.status) for a in read_attempts(request.records)] == [(3, "succeeded")]


def test_a_checkpoint_that_training_deletes_meanwhile_costs_no_attempts(storage, untrained_run):
    """While a round waits for its places, training keeps the last checkpoints alone."""
    run = untrained_run(storage, images=(256, 512))
    first, second = missing(storage, order="oldest")
    cluster = Cluster("error: it holds no model")
    folder = run / f"checkpoints/{second.images:012d}"
    work, said = run_round([first, second], cluster, at_once=1, sleep=lambda s: folder.delete())
    assert not work.failed
    assert [name.rpartition("-")[0][-16:] for name in cluster.jobs] == [first.digest] * 2
    assert f"{second}: its checkpoint is gone" in said


def test_weights_in_a_folder_called_checkpoints_are_not_gone(storage, run):
    place = Store.open(f"{storage}/checkpoints/mine")
    write_export(load(run.uri), run.read_json("config.json"), place)
    (request,) = missing(storage, run=place.uri, suite=("compute",))
    assert request.committed == 0 and not request.is_gone


def test_a_failure_waits_behind_those_that_have_not_been_tried(storage, untrained_run):
    untrained_run(storage, images=(256, 512))
    first, second = missing(storage)
    cluster = Cluster("error: no luck")
    run_round([first, second], cluster, at_once=1)
    digests = [name.split("-")[2] for name in cluster.jobs]
    assert digests == [first.digest, second.digest, first.digest]


def test_a_job_that_a_restarted_head_forgot_counts_as_failed(storage, run):
    (request,) = missing(storage)
    write_attempt(request.records, Attempt.new(1, request.digest))
    work, _ = run_round([request], cluster := Cluster())
    assert not work.failed
    assert list(cluster.jobs) == [f"unite-evaluate-{request.digest}-2"]
    assert [a.status for a in read_attempts(request.records)] == ["failed", "succeeded"]
    assert read_attempts(request.records)[0].reason == GONE


def test_a_job_whose_submitter_died_before_noting_it_is_taken_over(storage, run):
    (request,) = missing(storage)
    cluster = Cluster()
    cluster.submit(f"unite-evaluate-{request.digest}-1", command(request), {})
    _, said = run_round([request], cluster)
    assert len(cluster.jobs) == 1
    assert "is another scheduler's job" in said[0]
    assert [a.status for a in read_attempts(request.records)] == ["succeeded"]


def test_a_job_that_failed_after_its_result_was_written_is_not_repeated(storage, run):
    """As when MLflow did not take the numbers."""
    (request,) = missing(storage)
    cluster = Cluster()
    cluster.submit(f"unite-evaluate-{request.digest}-1", command(request), {})
    write_results(command(request))
    cluster.outcomes = ["MLflow did not take run abc"]
    _, said = run_round([request], cluster)
    assert len(cluster.jobs) == 1
    assert "has its result: MLflow did not take run abc" in said[-1]


def test_a_result_that_cannot_be_seen_from_here_is_not_asked_for_again(storage, run):
    work, said = run_round(missing(storage), Cluster("vanish"))
    assert not work.failed
    assert "other versions of the libraries" in said[-1]
    _, said = run_round(missing(storage), cluster := Cluster())
    assert not cluster.jobs and not said


def test_a_result_that_was_removed_is_made_again(storage, run):
    run_round(missing(storage), Cluster())
    (folder,) = storage.glob("tiny/evaluations/*/entropy-*")
    shutil.rmtree(folder)
    run_round(missing(storage), cluster := Cluster())
    assert len(cluster.jobs) == 1
    assert missing(storage) == []


def test_no_more_jobs_at_once_than_allowed_whoever_started_them(storage, untrained_run):
    untrained_run(storage, images=(256, 512, 768))
    cluster = Cluster()
    run_round(missing(storage), cluster, at_once=2)
    assert cluster.most == 2
    busy = Cluster()
    busy.submit("unite-evaluate-somebody-1", [], {})
    busy.stuck = True
    shutil.rmtree(storage)
    untrained_run(storage)

    def stop(_):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        run_round(missing(storage), busy, at_once=1, sleep=stop)
    assert len(busy.jobs) == 1


def test_of_schedulers_that_fill_the_last_place_together_the_first_stays(storage, run):
    class Race(Cluster):
        """Another scheduler, which saw the same free place, is a moment faster."""

        def submit(self, submission_id, words, about):
            self.jobs["unite-evaluate-other-1"] = Job(status="running", submitted_at=1.0)
            self.jobs[submission_id] = Job(status="running", submitted_at=2.0)
            return True

    def stop(_):
        raise InterruptedError

    (request,) = missing(storage)
    race = Race()
    race.stuck = True
    with pytest.raises(InterruptedError):
        run_round([request], race, at_once=1, sleep=stop)
    assert [a.status for a in read_attempts(request.records)] == ["withdrawn"]
    running = [name for name, job in race.jobs.items() if job.status == "running"]
    assert running == ["unite-evaluate-other-1"]
    work, _ = run_round([request], later := Cluster(), at_once=1, max_attempts=1)
    assert not work.failed, "it was no failure"
    assert list(later.jobs) == [f"unite-evaluate-{request.digest}-2"]
    assert missing(storage) == []


@pytest.mark.parametrize(("order", "expected"), [("newest", [768, 256, 512]), ("oldest", None)])
def test_catching_up_goes_by_the_time_of_the_commit(storage, untrained_run, order, expected):
    untrained_run(storage, images=(256, 512, 768))
    for seen, time in ((256, 2000), (512, 1000), (768, 3000)):
        marker = storage / "tiny" / "checkpoints" / f"{seen:012d}" / "COMMITTED"
        os.utime(marker, (time, time))
    requests = missing(storage, order=order)
    assert [request.images for request in requests] == (expected or [512, 256, 768])


def test_everything_happens_on_s3_alike(s3, untrained_run):
    untrained_run(s3)
    (request,) = missing(s3)
    work, _ = run_round([request], cluster := Cluster("error: no luck"), max_attempts=2)
    assert not work.failed
    assert len(cluster.jobs) == 2
    assert [a.status for a in read_attempts(request.records)] == ["failed", "succeeded"]
    assert request.records.uri.startswith(f"{s3}/tiny/evaluations/")
    assert missing(s3) == []


def test_a_broken_run_does_not_keep_the_others_waiting(storage, untrained_run):
    untrained_run(storage, "good")
    bad = untrained_run(storage, "bad")
    state = "checkpoints/000000000256/state.json"
    bad.write_json(state, {**bad.read_json(state), "manifest_digest": "of other data"})
    found = survey(asked(), str(storage))
    assert [request.run for request in found.missing] == ["good"]
    (trouble,) = found.troubled
    assert trouble.startswith(bad.uri)
    with pytest.raises(ValueError, match="was trained on data of other dat"):
        survey(asked(run="bad"), str(storage))


def test_a_checkpoint_that_training_replaced_meanwhile_is_no_trouble(storage, run, monkeypatch):
    from unite.drivers import survey as module

    def replaced(request, storage):
        Store(request.run).delete()
        return open_evaluation(request, storage)

    monkeypatch.setattr(module, "open_evaluation", replaced)
    found = survey(asked(), str(storage))
    assert (found.missing, found.troubled) == ([], [])


def test_the_command_says_what_the_request_is_from_any_folder(storage, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = {
        "ema": False,
        "track": False,
        "num_steps": 3,
        "cfg_interval": (0.0, 0.5),
        "cfg_sweep": True,
        "extractor": ("pixels",),
        "eval_data": "runs/data/digits",
    }
    requests = missing("runs", suite=("generation", "probe"), **wanted)
    generation, probe = (parse(command(request)) for request in requests)
    assert generation == replace(
        EvaluateArguments(**wanted),
        run=f"{run}/checkpoints/000000000256",
        storage=str(storage),
        suite=("generation",),
        eval_data=str(storage / "data" / "digits"),
    )
    assert not probe.cfg_sweep, "it belongs to generation"
    assert command(requests[0])[:2] == ["python", "jobs/evaluate.py"]


def test_every_argument_survives_the_command_line():
    changed = EvaluateArguments(
        num_workers=0, use_gpu=True, wait_s=1.5, batch_size=3, run="r", recipe="q",
        suite=("probe",), storage="s", ema=False, data="d", eval_data="e", num_samples=5,
        labels="uniform", seed=3, solver="heun", num_steps=3, cfg_scale=1.25,
        cfg_interval=(0.2, 0.9), cfg_sweep=True, cfg_adaptive=True, extractor=("a", "b"),
        reference="f", num_images=4, analysis_images=5, probe_images=6, entropy_bins=7,
        precision="bfloat16", weights="w", track=False, push="p", pose_samples=8,
    )  # fmt: skip
    default = EvaluateArguments()
    assert [f.name for f in fields(default) if vars(changed)[f.name] == vars(default)[f.name]] == []
    assert parse(["python", "x", *flags(changed)]) == changed
    assert flags(default) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "--once, --every TIME"),
        ({"once": True, "every": "6h"}, "one of --once"),
        ({"every": "6 hours"}, "--every '6 hours': give a number and s, m, h or d"),
        ({"every": "0h"}, "--every '0h'"),
        ({"once": True, "at_once": 0}, "--at-once must be at least 1"),
        ({"once": True, "max_attempts": 0}, "--max-attempts must be at least 1"),
        ({"once": True, "suite": ("generatoin",)}, "did you mean generation"),
        ({"once": True, "num_samples": -1}, "--num-samples must not be negative"),
    ],
)
def test_bad_requests_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        check_schedule(ScheduleArguments(**changes))


def test_runs_that_are_not_there_are_named(storage, untrained_run):
    untrained_run(storage, "empty", images=())
    with pytest.raises(CheckpointError, match="no run 'nope'.*Runs there: empty"):
        find_checkpoints(asked(run="nope"), str(storage))
    with pytest.raises(CheckpointError, match="has no committed checkpoint yet"):
        find_checkpoints(asked(run="empty"), str(storage))
    with pytest.raises(ValueError, match="there is no .*elsewhere"):
        find_checkpoints(asked(), f"{storage}/elsewhere")
    assert find_checkpoints(asked(), str(storage)) == []


def test_times():
    assert [seconds(text) for text in ("90s", "30m", "6h", "1d")] == [90, 1800, 21600, 86400]
    assert next_start(100, 10, 100) == 110
    assert next_start(100, 10, 109.5) == 110
    assert next_start(100, 10, 110) == 120
    assert next_start(100, 10, 147) == 150, "missed rounds are not made up for"


@pytest.mark.parametrize("content", [b'{"nonsense": 1}', b"", b'{"number": 1, "sub', b"[]"])
def test_damaged_records_are_told_and_the_cluster_knows_the_rest(storage, run, caplog, content):
    (request,) = missing(storage)
    attempt = Attempt.new(1, request.digest)
    request.records.write("attempt-1.json", content)
    (found,) = read_attempts(request.records)
    assert found == replace(attempt, submitted_at="")
    assert "attempt-1.json is no record of a job" in caplog.text
    cluster = Cluster()
    assert cluster.submit(attempt.submission_id, command(request), {})
    work, said = run_round([request], cluster)
    assert list(cluster.jobs) == [attempt.submission_id], "it is not submitted twice"
    assert request.has_result() and not work.failed
    assert read_attempts(request.records)[0].status == "succeeded"
