"""What MLflow holds of a sweep, whatever happened to the server meanwhile; no Ray is started."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest

from unite import tracking
from unite.ablation.options import SweepOptions
from unite.ablation.trials import expand
from unite.checkpoints.lease import BusyError, hold
from unite.cluster.connect import CapacityError
from unite.cluster.losses import TrainingError
from unite.cluster.resources import TrialLayout
from unite.cluster.tune import NO_ROOM
from unite.config.axes import find_axis
from unite.config.schema import TrackingConfig
from unite.drivers import sweep as driver
from unite.drivers import trial as trials
from unite.drivers.sweep import run_sweep
from unite.drivers.sweep_runs import publish, start_parent, training_run
from unite.drivers.trial import Context, run_trial
from unite.runs import RUN_FILE
from unite.storage import StorageError
from unite.training.runs import open_run, request_stop

FD = "eval/generation/fd-pixels"


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch):
    """No cluster: trials run here, and nobody asks what the cluster has."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("unite.drivers.trial.describe_cluster", dict)


@pytest.fixture
def uri(tmp_path) -> str:
    return f"sqlite:///{tmp_path}/mlflow.db"


def sweep_of(storage, axis="weight_sharing", **options):
    fields = {"scale": "smoke", "storage": str(storage), "tracking": TrackingConfig()}
    return expand(find_axis(axis), SweepOptions(**(fields | options)))


def children(uri: str) -> list[tracking.RunInfo]:
    return [run for run in tracking.find_runs(uri, "unite") if run.tags.get("role") != "sweep"]


@contextmanager
def outage():
    """Every request to MLflow fails."""

    def fail(*arguments: object, **options: object) -> None:
        raise ConnectionError("nobody answers")

    with pytest.MonkeyPatch.context() as patch:
        for module in ("server", "runs", "gateway", "results", "reading", "registry"):
            patch.setattr(f"unite.tracking.{module}.connect", fail)
        yield


def run_here(sweep, *, dies_after: int | None = None):
    """`run_sweep` with the trials in this process; MLflow dies after so many of them."""

    def run(sweep, left, parent):
        driver._prepare_features(sweep)
        layout = TrialLayout(concurrent=1, trial_cpus=1.0)
        context = Context(
            sweep=sweep, parent=parent, layout=layout, login=tracking.Login.of_this_process()
        )
        for number, work in enumerate(left):
            if number == dies_after:
                until_the_end.enter_context(outage())
            state = run_trial({"work": work.digest}, works={work.digest: work}, context=context)
            assert state == {"state": "finished"}
            publish(sweep, parent, work)
        return {}

    with ExitStack() as until_the_end, pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "_run", run)
        return run_sweep(sweep)


def test_a_server_that_dies_between_two_trials_gets_everything_from_a_second_start(tmp_path, uri):
    sweep = sweep_of(tmp_path)
    ended = run_here(sweep, dies_after=1)
    assert len(ended.measured) == 2 and not ended.whole
    assert [bool(each.run_id) for each in ended.measured] == [False, False]
    assert len(children(uri)) == 1

    again = run_here(sweep)
    found = {run.run_id: run for run in children(uri)}
    assert {each.run_id for each in again.measured} == set(found) and len(found) == 2
    for each in again.measured:
        run = found[each.run_id]
        assert run.status == "FINISHED"
        assert run.metrics[FD] == each.result.metrics[FD]
        assert run.metrics["loss/total"] > 0, "its curves came too"
        steps = [step for step, _ in tracking.metric_history(handle_of(uri, run), "loss/total")]
        assert steps and len(steps) == len(set(steps)), "each once"
    (parent,) = tracking.find_runs(uri, "unite", "tags.role = 'sweep'")
    assert parent.status == "FINISHED"


def test_the_curves_of_a_run_that_serves_many_points_come_later_too(tmp_path, uri):
    sweep = sweep_of(tmp_path, axis="cfg")
    assert len(sweep.works) == 1 and len(sweep.trials) == 2
    run_here(sweep, dies_after=0)
    assert not children(uri)
    run_here(sweep)
    found = {run.name: run for run in children(uri)}
    assert len(found) == 3
    training = found["training, seed 0"]
    assert training.metrics["loss/total"] > 0 and training.status == "FINISHED"
    assert FD not in training.metrics
    assert all(FD in run.metrics for name, run in found.items() if name != training.name)


def test_numbers_of_another_protocol_take_the_place_of_the_old_ones(tmp_path, uri):
    """As when the scale's own number of samples changes: the sweep keeps its name."""
    sweep = sweep_of(tmp_path, values=("shared",))
    (first,) = run_here(sweep).measured
    protocol = replace(sweep.trials[0].protocol, num_samples=70)
    other = replace(sweep, trials=(replace(sweep.trials[0], protocol=protocol),))
    (second,) = run_here(other).measured
    (run,) = children(uri)
    assert run.metrics[FD] == second.result.metrics[FD] != first.result.metrics[FD]
    assert run.run_id == first.run_id == second.run_id


def test_a_driver_that_was_killed_before_it_noted_its_run_makes_no_second_one(tmp_path, uri):
    for axis in ("weight_sharing", "cfg"):
        sweep = sweep_of(tmp_path, axis=axis)
        driver.prepare(sweep.works[0].config, resume="auto", allow_changes=False)
        parent = start_parent(sweep)
        made = training_run(sweep, parent, sweep.works[0], {})
        open_run(sweep.works[0].config).folder.delete(RUN_FILE)
        assert training_run(sweep, parent, sweep.works[0], {}).run_id == made.run_id


def test_a_sweep_whose_trials_failed_says_so(tmp_path, uri, monkeypatch):
    sweep = sweep_of(tmp_path)
    monkeypatch.setattr(driver, "_run", lambda *arguments: {sweep.works[0].digest: "no luck"})
    ended = run_sweep(sweep)
    assert "no luck" in "\n".join(ended.lines)
    (parent,) = tracking.find_runs(uri, "unite")
    assert parent.status == "FAILED"


def test_a_second_driver_is_refused_and_leaves_the_first_one_alone(tmp_path, uri, monkeypatch):
    """It would delete the files of Tune and the request to stop under the first one."""
    sweep = sweep_of(tmp_path)
    monkeypatch.setattr(driver, "_run", lambda *arguments: {})
    with hold(sweep.folder, "sweep"):
        request_stop(sweep.folder)
        before = sorted(sweep.folder.list(recursive=True))
        with pytest.raises(
            BusyError, match=f"is run by process {os.getpid()} on .*: wait until it ends"
        ):
            run_sweep(sweep)
        assert sorted(sweep.folder.list(recursive=True)) == before
    assert not run_sweep(sweep).stopped


@pytest.mark.parametrize(
    ("error", "state"),
    [(CapacityError("0.5 CPUs free"), NO_ROOM), (TrainingError("of its own"), "failed")],
)
def test_what_would_only_repeat_is_returned_and_not_tried_again(
    tmp_path, monkeypatch, error, state
):
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr("unite.drivers.trial._run", fail)
    sweep = sweep_of(tmp_path)
    context = Context(
        sweep=sweep,
        parent=None,
        layout=TrialLayout(concurrent=1, trial_cpus=1.0),
        login=tracking.Login.of_this_process(),
    )
    works = {"a": sweep.works[0]}
    told = run_trial({"work": "a"}, works=works, context=context)
    assert told == {"state": state, "error": str(error)}


def test_a_trial_is_tried_again_once_its_storage_is_back(tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise StorageError("cannot read s3://b/run: AWS Error SLOW_DOWN")

    monkeypatch.setattr("unite.drivers.trial._run", fail)
    sweep = sweep_of(tmp_path)
    context = Context(sweep=sweep, parent=None, layout=None, login=None)
    works = {"a": sweep.works[0]}
    with pytest.raises(StorageError, match="SLOW_DOWN"):  # Tune starts it again
        run_trial({"work": "a"}, works=works, context=context)
    monkeypatch.setattr(trials, "persist", fail)
    assert run_trial({"work": "a"}, works=works, context=context)["state"] == "failed"


def test_a_trial_whose_results_cannot_be_published_ends_no_others(tmp_path, monkeypatch, caplog):
    def fail(*arguments: object) -> None:
        raise StorageError("cannot read s3://b/run: AWS Error SLOW_DOWN")

    sweep = sweep_of(tmp_path)
    monkeypatch.setattr(driver, "publish", fail)
    driver._publish_ended(sweep, None, sweep.works[0])
    assert "is published at the end of the sweep: cannot read s3://b/run" in caplog.text


def test_a_training_that_was_resumed_tells_no_time_of_the_whole(tmp_path, monkeypatch):
    (work,) = sweep_of(tmp_path, values=("shared",)).works
    run, told = open_run(work.config), []
    monkeypatch.setattr(trials, "is_trained", lambda run: False)
    monkeypatch.setattr(trials, "read_result", lambda run, trial: None)
    monkeypatch.setattr(trials, "_stop_asked", lambda context: False)
    monkeypatch.setattr(trials, "_train", lambda *arguments: {"stopped": False})
    monkeypatch.setattr(trials, "_measure_somewhere", lambda run, trial, layout, seconds: seconds)
    monkeypatch.setattr(trials, "write_result", lambda run, trial, result: told.append(result))
    context = Context(sweep=None, parent=None, layout=None, login=None)
    runs = iter((run, replace(run, resume_from=run.folder / "checkpoints/000000000064")))
    monkeypatch.setattr(trials, "prepare", lambda *_, **__: next(runs))
    assert [trials._run(work, context) for _ in range(2)] == ["finished", "finished"]
    assert [sorted(each) for each in told] == [["training"], []]


def handle_of(uri: str, run: tracking.RunInfo) -> tracking.RunHandle:
    return tracking.RunHandle(uri, run.run_id, "")
