"""MLflow's own pages over the runs of sweeps: they are found, shown, and can be compared.

The compare page is looked at with a real smoke sweep. The filters of the documentation need trials
with known values, so these are written as the sweeps leave them, without their training.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest
import torch

from unite import tracking
from unite.ablation.options import SweepOptions
from unite.ablation.results import Result, is_trained, total_images, write_result
from unite.ablation.roles import LATENT_STD
from unite.ablation.trials import Sweep, Trial, expand
from unite.checkpoints.store import CheckpointWriter, checkpoint_digest, latest
from unite.config.axes import find_axis
from unite.config.schema import TrackingConfig
from unite.data.ingest.digits import prepare_digits
from unite.drivers.sweep import SweepResult, run_sweep
from unite.drivers.sweep_runs import publish, start_parent, training_run
from unite.storage import Store
from unite.tracking.server import connect, describe
from unite.training.runs import begin, open_run

pytestmark = [pytest.mark.mlflow_server, pytest.mark.slow]

FD = "eval/generation/fd-pixels"
DOC_HEADING = "## Finding trials in MLflow"
PATIENCE_S = 60
VIEWPORT = {"width": 1600, "height": 1000}

# Sweep -> its finished trials, by MLflow's name of the run, with what was measured.
FINISHED: dict[str, dict[str, dict[str, float]]] = {
    "flow_ratio": {
        "F = 4, shared, seed 0": {FD: 0.6, LATENT_STD: 0.9},
        "F = 14, shared, seed 0": {FD: 0.5, LATENT_STD: 0.9},
        "F = 14, separate, seed 0": {FD: 0.6, LATENT_STD: 0.9},
        "F = 14, separate, seed 1": {FD: 0.8, LATENT_STD: 0.9},
    },
    "stop_grad": {
        "shared, stop-grad, seed 0": {FD: 0.6, LATENT_STD: 0.9},  # the run of F = 4, shared
        "separate, no stop-grad, seed 0": {FD: 2.0, LATENT_STD: 0.01},
    },
}
FOUND = {
    "tags.role = 'sweep'": set(FINISHED),
    "tags.axis = 'flow_ratio' and tags.value = '14'": {
        "F = 14, shared, seed 0",
        "F = 14, separate, seed 0",
        "F = 14, separate, seed 1",
    },
    "tags.axis = 'flow_ratio' and tags.arm = 'separate' and tags.seed = '0'": {
        "F = 14, separate, seed 0"
    },
    f"tags.figure = 'fig5' and metrics.`{FD}` < 0.7": {
        "F = 4, shared, seed 0",
        "F = 14, shared, seed 0",
        "F = 14, separate, seed 0",
    },
    f"tags.axis = 'stop_grad' and metrics.`{LATENT_STD}` < 0.1": {"separate, no stop-grad, seed 0"},
    "tags.digest = 'DIGEST'": {"F = 4, shared, seed 0", "shared, stop-grad, seed 0"},
    "tags.`mlflow.parentRunId` = 'RUN_ID'": set(FINISHED["flow_ratio"]),
}
"""What each filter of docs/mlflow.md selects among them, DIGEST being that of F = 4, shared."""


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """Two sweeps in MLflow."""

    folder: Path
    uri: str
    experiment: str
    run_ids: dict[str, str]
    """By axis, both sweeps; by name, their trials."""
    sweeps: dict[str, str]
    """Axis -> name."""
    digest: str
    """Of F = 4, shared."""


def finish(sweep: Sweep, parent: tracking.RunHandle, trial: Trial, metrics: dict) -> str:
    """What a trial leaves behind, without its training; the id of its run in MLflow."""
    (work,) = (each for each in sweep.works if trial in each.trials)
    run = open_run(work.config)
    if not is_trained(run):
        begin(run)
        handle = training_run(sweep, parent, work, {})
        tracker = tracking.open_tracker(handle, spool=tracking.spool_folder(run.folder))
        for step in range(100, 600, 100):
            tracker.log({"loss/total": 100 / step}, step)
        tracker.close()
        state = {"images": total_images(run), "metrics": {}}
        writer = CheckpointWriter(run=run.folder, config=work.config.checkpoint)
        writer.save({"model": {"weight": torch.zeros(1)}}, state)
        writer.close()
    checkpoint = checkpoint_digest(latest(run.folder))
    size = {"images": total_images(run), "parameters": trial.parameters, "flops": 1e12}
    write_result(run, trial, Result(metrics=metrics, checkpoint=checkpoint, **size))
    ids = {each.trial.digest: each.run_id for each in publish(sweep, parent, work)}
    return ids[trial.digest]


@pytest.fixture(scope="module")
def tracked(tmp_path_factory) -> Tracked:
    folder = tmp_path_factory.mktemp("storage")
    prepare_digits(Store.open(folder / "data" / "digits"))
    ids, digests, names = {}, {}, {}
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for axis, finished in FINISHED.items():
            values = ("4", "14") if axis == "flow_ratio" else ()
            options = SweepOptions(scale="smoke", seeds=2, storage=str(folder), values=values)
            sweep = expand(find_axis(axis), options)
            trials = {sweep.label(trial): trial for trial in sweep.trials}
            parent = start_parent(sweep)
            ids[axis], names[axis] = parent.run_id, sweep.name
            for name, metrics in finished.items():
                digests[name] = trials[name].digest
                ids[name] = finish(sweep, parent, trials[name], metrics)
            tracking.finish_run(parent, "FINISHED")
    return Tracked(
        folder=folder,
        uri=parent.uri,
        experiment=parent.experiment_id,
        run_ids=ids,
        sweeps=names,
        digest=digests["F = 4, shared, seed 0"],
    )


def documented(root: Path) -> list[str]:
    """The filter strings of the documentation, which two blanks divide from their meaning."""
    section = (root / "docs" / "mlflow.md").read_text().partition(DOC_HEADING)[2]
    block = section.split("```")[1]
    return [line.partition("  ")[0] for line in block.strip().splitlines()]


def test_the_documented_filters_select_the_right_runs(tracked, root):
    filters = documented(root)
    assert set(filters) == set(FOUND), "say in FOUND what a new filter selects"
    names = {run_id: name for name, run_id in tracked.run_ids.items()}
    client = connect(tracked.uri)
    for text in filters:
        query = text.replace("DIGEST", tracked.digest)
        query = query.replace("RUN_ID", tracked.run_ids["flow_ratio"])
        found = client.search_runs([tracked.experiment], query)
        assert {names[run.info.run_id] for run in found} == FOUND[text], text


@pytest.fixture(scope="module")
def server(tracked) -> Iterator[str]:
    """The address of an `mlflow server` on the sweeps' sqlite file."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port]
    with (tracked.folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--backend-store-uri", tracked.uri, "--workers", "1"],
            cwd=tracked.folder,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # 3x faster
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not answers(f"http://127.0.0.1:{port}/health"):
            assert time.monotonic() < deadline and process.poll() is None, "no MLflow server"
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its workers too: the group is theirs
        process.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def page(chromium):
    """A tab of the machine's Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=VIEWPORT)
        page.set_default_timeout(PATIENCE_S * 1000)
        yield page
        browser.close()


@pytest.mark.browser
def test_the_experiment_page_filters_by_our_metrics_below_a_sweep(tracked, server, page):
    query = urlencode({"searchFilter": f"tags.figure = 'fig5' and metrics.`{FD}` < 0.7"})
    page.goto(f"{server}/#/experiments/{tracked.experiment}/runs?{query}")
    sweep = page.get_by_role("row").filter(has_text=tracked.sweeps["flow_ratio"])
    sweep.get_by_role("button").click()  # unfolds it
    for name in ("F = 4, shared, seed 0", "F = 14, shared, seed 0", "F = 14, separate, seed 0"):
        page.get_by_role("row").filter(has_text=name).wait_for()
    assert page.get_by_text("seed 1").count() == 0
    assert page.get_by_text(tracked.sweeps["stop_grad"]).count() == 0


@pytest.fixture(scope="module")
def smoke(ray_cluster, tracked) -> SweepResult:
    """A real sweep in the same MLflow: two trials, trained and measured."""
    options = SweepOptions(
        scale="smoke",
        seeds=1,
        storage=str(tracked.folder),
        tracking=TrackingConfig(uri=tracked.uri, experiment="smoke"),
    )
    ended = run_sweep(expand(find_axis("weight_sharing"), options))
    assert ended.whole
    return ended


@pytest.mark.ray
@pytest.mark.browser
def test_the_compare_page_draws_the_varied_field_against_an_evaluation(
    smoke, tracked, server, page, screens
):
    chosen = [each.run_id for each in smoke.measured]
    experiment = connect(tracked.uri).get_experiment_by_name("smoke")
    query = {"runs": json.dumps(chosen), "experiments": json.dumps([experiment.experiment_id])}
    page.goto(f"{server}/#/compare-runs?{urlencode(query)}")
    page.get_by_text("Comparing 2 Runs from 1 Experiment").wait_for()
    for sharing in ("shared", "separate"):
        page.get_by_text(f"{sharing}, seed 0").first.wait_for()
    page.locator(".axis-title", has_text="model.sharing").wait_for()
    # Chosen by MLflow itself: the field that varies, and the metric that was logged first.
    page.locator(".axis-title", has_text="eval/").first.wait_for()
    titles = page.locator(".axis-title").all_text_contents()
    varied = [title for title in titles if "/" not in title]
    assert varied == ["model.sharing"], "nothing else varies"
    screens(page, "mlflow-compare")
    metrics = page.get_by_role("combobox").nth(1)
    metrics.click()
    for name in (FD, LATENT_STD, "loss/total"):
        metrics.fill(name)  # the list is drawn only as far as it is seen
        page.get_by_title(name, exact=True).first.wait_for()


@pytest.fixture(scope="module")
def trained(smoke, tracked, server) -> str:
    """The address of a trained trial's page, as commands print it."""
    (separate,) = (each for each in smoke.measured if each.trial.value == "separate")
    experiment = connect(tracked.uri).get_experiment_by_name("smoke").experiment_id
    return describe(tracking.RunHandle(server, separate.run_id, experiment))


@pytest.mark.ray
@pytest.mark.browser
def test_a_runs_page_opens_in_model_training_and_says_what_the_run_is(trained, page, screens):
    page.goto(trained)
    for words in ("sweep_weight_sharing.py", "digits train", FD):
        page.get_by_text(words).first.wait_for()
    samples = page.locator("img[src*='samples.png']")
    samples.wait_for()
    assert samples.evaluate("each => each.naturalWidth") > 100
    assert samples.bounding_box()["y"] < VIEWPORT["height"], "seen without scrolling"
    assert page.get_by_text("Judges").count() == 0, "the pages for language models are not shown"
    screens(page, "mlflow-run")


@pytest.mark.ray
@pytest.mark.browser
def test_charts_begin_with_evaluation_and_show_the_samples(trained, page, screens):
    page.goto(trained.replace("?", "/model-metrics?"))
    page.get_by_role("button", name="Add chart").first.wait_for()
    text = page.locator("body").inner_text()
    sections = re.findall(r"^([\w/ ]+?)\s*\(\d+\)$", text, re.MULTILINE)
    assert sections and sections[0] == "eval", text
    grid = page.locator("img[src*='samples']").first
    grid.wait_for()
    # MLflow writes all params above the picture, so that it has to be scrolled to inside its card.
    assert grid.evaluate("each => each.naturalWidth") > 100
    assert page.get_by_text("eval/samples").first.bounding_box()["y"] < VIEWPORT["height"]
    screens(page, "mlflow-charts")
