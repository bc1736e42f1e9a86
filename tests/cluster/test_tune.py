"""A sweep under Ray Tune: what fits, what is kept, and that nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from unite import tracking
from unite.ablation.options import SweepOptions
from unite.ablation.results import is_finished, read_result
from unite.ablation.trials import expand
from unite.checkpoints.store import committed
from unite.cluster.connect import CapacityError
from unite.cluster.resources import TrialLayout
from unite.cluster.tune import NO_ROOM, Item, run_grid
from unite.commands.sweep import main
from unite.config.axes import find_axis
from unite.config.schema import TrackingConfig
from unite.drivers.sweep import run_sweep
from unite.entry import run
from unite.storage import Store
from unite.training.progress import read_progress
from unite.training.runs import open_run

GONE_SECONDS = 90
ONE_PER_CLUSTER = ("TrainStateActor", "_AutoscalingCoordinatorActor")
"""Made by the first fit and the first data set, and meant to stay."""
# Epochs of a smoke trial: long enough to be caught in the middle; one that never ends by itself.
CATCHABLE, ENDLESS = 3.0, 150.0


def sweep_of(storage, **options):
    fields = {"scale": "smoke", "storage": str(storage), "tracking": TrackingConfig(enabled=False)}
    return expand(find_axis("weight_sharing"), SweepOptions(**(fields | options)))


def left_in(ray) -> tuple[set[str], set[str]]:
    """Living actors and placement groups of the cluster, but for Ray's own of which it has one."""
    from ray.util import placement_group_table
    from ray.util.state import list_actors

    with pytest.MonkeyPatch.context() as patch:
        # It asks this variable first, and would else find other clusters on this machine.
        patch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
        found: list[Any] = list_actors(limit=1000)
    living = [each for each in found if each.state != "DEAD"]
    actors = {
        f"{each.class_name} {each.actor_id}"
        for each in living
        if each.class_name not in ONE_PER_CLUSTER
    }
    groups = placement_group_table().items()
    return actors, {name for name, group in groups if group["state"] != "REMOVED"}


def assert_nothing_new(ray, before) -> None:
    """Ray takes a moment to end what a driver has left."""
    deadline = time.monotonic() + GONE_SECONDS
    while time.monotonic() < deadline:
        actors, groups = (now - was for now, was in zip(left_in(ray), before, strict=True))
        if not actors and not groups:
            return
        time.sleep(1)
    raise AssertionError(f"left behind: actors {actors}, placement groups {groups}")


def wait_until(condition, seconds=180.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.2)


def images_seen(folder: Store) -> int:
    return (read_progress(folder) or {}).get("images", 0)


def type_in(flags: list[str]) -> int:
    """The exit code of a sweep's script."""
    return run(lambda: main("noise", "", flags))


@pytest.mark.parametrize("dry", [True, False])
def test_a_sweep_that_is_too_large_ends_with_2_and_the_reason(tmp_path, capsys, monkeypatch, dry):
    nodes = [{"CPU": 2.0, "GPU": 0.0}]
    monkeypatch.setattr("unite.drivers.sweep.reachable_nodes", lambda: nodes)
    monkeypatch.setattr("unite.drivers.sweep.connect", lambda: None)
    monkeypatch.setattr("unite.cluster.resources.nodes", lambda: nodes)
    monkeypatch.setattr("unite.drivers.sweep._prepare_features", pytest.fail)
    flags = ["--scale", "smoke", "--storage", str(tmp_path), "--tracking.no-enabled"]
    flags += ["--workers", "4", *(["--dry-run"] if dry else [])]
    assert type_in(flags) == 2
    told = capsys.readouterr()
    assert "error: 4 workers at 0.38 CPUs each" in told.err
    assert "Lower --workers" in told.err and "--wait-s" in told.err
    assert ("2 of 2 runs to do" in told.out) == dry


def test_a_ray_that_does_not_start_ends_with_2_and_the_reason(tmp_path, capsys, monkeypatch):
    def fail(**settings):
        raise Exception("The current node timed out during startup.\nand a stack")

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", fail)
    flags = ["--scale", "smoke", "--storage", str(tmp_path), "--tracking.no-enabled"]
    assert type_in(flags) == 2
    assert "error: Ray did not start or could not be joined: The current node timed out" in (
        capsys.readouterr().err
    )


def test_a_dry_run_looks_at_the_data_and_waits_for_nothing(tmp_path, capsys, monkeypatch):
    flags = ["--scale", "gpu", "--storage", str(tmp_path), "--dry-run", "--rate", "1e12"]
    assert type_in(flags) == 2
    assert "--scale gpu needs --data" in capsys.readouterr().err
    assert type_in([*flags, "--data", str(tmp_path / "nowhere")]) == 2
    assert str(tmp_path / "nowhere") in capsys.readouterr().err
    monkeypatch.setattr("unite.drivers.sweep.reachable_nodes", lambda: [{"CPU": 2.0, "GPU": 0.0}])
    flags = ["--scale", "smoke", "--workers", "4", "--storage", str(tmp_path), "--dry-run"]
    assert type_in([*flags, "--rate", "1e9", "--wait-s", "60"]) == 0
    assert "it would wait up to 60 s for a larger cluster: 4 workers" in capsys.readouterr().out


def test_bad_input_is_named_before_ray_starts(tmp_path, capsys):
    storage = ["--storage", str(tmp_path)]
    assert type_in(["--values", "0.3", *storage]) == 2
    assert "'0.3' is not on axis noise" in capsys.readouterr().err
    assert type_in(["--scale", "gpu", *storage]) == 2
    assert "--scale gpu needs --data" in capsys.readouterr().err
    dead = ["--tracking.uri", "http://127.0.0.1:9"]
    assert type_in(["--scale", "smoke", *storage, *dead]) == 2
    assert "no MLflow server answers" in capsys.readouterr().err


def test_a_dry_run_shows_trials_and_starts_nothing(tmp_path, capsys):
    arguments = ["--scale", "smoke", "--storage", str(tmp_path), "--dry-run", "--rate", "1e10"]
    assert main("noise", "", arguments) == 0
    output = capsys.readouterr().out
    assert "sigma = 0.7, seed 0" in output and "2 of 2 runs to do" in output
    assert not list(tmp_path.iterdir())


@pytest.mark.ray
def test_a_sweep_that_cannot_start_ends_with_the_reason(ray_cluster):
    from unite.cluster.watch import Watcher

    class Waiting:
        status = "PENDING"
        config = {"work": "a"}

        class placement_group_factory:  # noqa: N801 - as Tune names it
            required_resources = {"CPU": 99.0}

    item = Item(key="a", label="a trial", folder="/nowhere")
    watcher = Watcher([item], lambda key: None, patience_s=0.0)
    with pytest.raises(CapacityError, match=r"no trial could start.*99\.0"):
        watcher.on_step_end(0, [Waiting()])


@pytest.mark.ray
def test_a_trial_without_room_ends_the_sweep_and_is_not_tried_again(ray_cluster, tmp_path):
    from unite.cluster.watch import Watcher

    items = [Item(key=key, label=key, folder="/nowhere") for key in "abc"]
    watcher = Watcher(items, pytest.fail)
    with pytest.raises(CapacityError, match="0.5 CPUs free"):
        run_grid(
            items,
            lambda config: {"state": NO_ROOM, "error": "0.5 CPUs free"},
            {},
            TrialLayout(concurrent=1, trial_cpus=0.01),
            watcher,
            folder=str(tmp_path),
            max_failures=3,
        )
    assert list(watcher.errors) == ["a"]


@pytest.mark.ray
def test_a_sweep_trains_measures_tracks_and_draws_once(ray_cluster, request, monkeypatch):
    before = left_in(ray_cluster)
    sweep, ended = request.getfixturevalue("smoke_sweep")
    assert ended.whole and len(ended.measured) == 2
    assert {f"table2_sharing{end}" for end in (".png", ".svg", ".csv")} <= set(ended.out.list())
    assert_nothing_new(ray_cluster, before)

    uri = sweep.options.tracking.uri
    parents = tracking.find_runs(uri, "unite", "tags.role = 'sweep'")
    assert len(parents) == 1
    wanted = "tags.axis = 'weight_sharing' and tags.value = 'separate' and tags.seed = '0'"
    (child,) = tracking.find_runs(uri, "unite", wanted)
    assert child.tags["mlflow.parentRunId"] == parents[0].run_id
    assert child.tags["figure"] == "table2_sharing" and child.status == "FINISHED"
    assert child.run_id == ended.measured[1].run_id
    fd = "eval/generation/fd-pixels"
    assert child.metrics[fd] == pytest.approx(ended.measured[1].result.metrics[fd])
    assert child.metrics["loss/total"] > 0  # its curves are in the same run
    assert child.params["model.sharing"] == "separate"

    def nothing(*arguments: object) -> None:
        raise AssertionError("a finished sweep started something")

    monkeypatch.setattr("unite.drivers.sweep._run", nothing)
    again = run_sweep(sweep)
    assert [each.run_id for each in again.measured] == [each.run_id for each in ended.measured]
    assert len(tracking.find_runs(uri, "unite")) == 3


@pytest.mark.ray
@pytest.mark.fault
def test_a_driver_that_is_killed_is_followed_by_one_that_repeats_nothing(
    ray_cluster, root, tmp_path, monkeypatch
):
    """The next driver comes at once, while the killed one's trial may still live."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = left_in(ray_cluster)
    options = {"values": ("shared",), "epochs": CATCHABLE, "tracking": TrackingConfig()}
    sweep = sweep_of(tmp_path, **options)
    interrupted = open_run(sweep.works[0].config).folder
    script = (
        "import sys; from unite.commands.sweep import main; sys.exit(main('weight_sharing', ''))"
    )
    flags = ["--scale", "smoke", "--storage", str(tmp_path)]
    flags += ["--values", "shared", "--epochs", str(options["epochs"])]
    address = ray_cluster.get_runtime_context().gcs_address
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tracking.check(uri)
    driver = subprocess.Popen(
        [sys.executable, "-c", script, *flags], cwd=root, env={**os.environ, "RAY_ADDRESS": address}
    )
    try:
        wait_until(lambda: driver.poll() is not None or len(committed(interrupted)) > 0)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    saved = committed(interrupted)
    assert saved and not is_finished(sweep.works[0])

    ended = run_sweep(sweep)
    assert ended.whole and len(ended.measured) == 1
    assert committed(interrupted)[-1] > saved[-1]
    assert read_result(open_run(sweep.works[0].config), sweep.trials[0]) is not None
    found = tracking.find_runs(uri, "unite")
    assert len(found) == 2, "the sweep and its trial, each once"
    assert {run.status for run in found} == {"FINISHED"}
    handle = tracking.RunHandle(uri, ended.measured[0].run_id, "")
    steps = [step for step, _ in tracking.metric_history(handle, "loss/total")]
    assert len(steps) == len(set(steps)) and steps[-1] > saved[-1], "one curve, without repeats"
    assert_nothing_new(ray_cluster, before)


@pytest.mark.ray
@pytest.mark.slow
def test_a_sweep_of_worker_groups_trains_measures_and_leaves_nothing(
    ray_cluster, tmp_path, monkeypatch
):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = left_in(ray_cluster)
    sweep = sweep_of(tmp_path, values=("shared",), workers=2, tracking=TrackingConfig())
    ended = run_sweep(sweep)
    assert ended.whole
    (measured,) = ended.measured
    assert measured.result.metrics["eval/generation/fd-pixels"] > 0
    (child,) = tracking.find_runs(
        f"sqlite:///{tmp_path}/mlflow.db", "unite", "tags.value = 'shared'"
    )
    assert child.status == "FINISHED" and child.metrics["loss/total"] > 0
    assert_nothing_new(ray_cluster, before)


@pytest.mark.ray
@pytest.mark.fault
# What a group beside its trial leaves is seen above, when it ends by itself.
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_stopped_sweep_saves_and_leaves_no_actors(ray_cluster, tmp_path, workers):
    """One worker trains inside its trial, two in a group beside it."""
    before = left_in(ray_cluster)
    sweep = sweep_of(tmp_path, values=("shared",), epochs=ENDLESS, workers=workers)
    folder = open_run(sweep.works[0].config).folder

    def stop() -> None:
        wait_until(lambda: images_seen(folder) >= 64)
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop)
    stopper.start()
    ended = run_sweep(sweep)
    stopper.join()
    assert ended.stopped and not ended.whole and not ended.measured
    assert committed(folder), "the trial saved before it ended"
    assert "not finished" in "\n".join(ended.lines)
    assert_nothing_new(ray_cluster, before)
