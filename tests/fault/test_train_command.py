"""The commands that a user types, interrupted or killed and typed again."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch

from trainers import trained
from unite.checkpoints.store import committed, latest, read_checkpoint
from unite.config.finetune import finetune_recipe
from unite.config.recipes import recipe
from unite.config.serialise import replace
from unite.data.ingest.digits import prepare_digits
from unite.storage import Store
from unite.training.finetune import Parent, find_parent
from unite.training.progress import read_progress
from unite.training.runs import open_run

LONG = ("--training.epochs", "2000", "--checkpoint.every-images", "1000000")
QUICK = ("--tracking.no-enabled",)
STEPS = 60
TUNING = {
    "finetune.epochs": STEPS * 32 / 1500,
    "finetune.batch_size": 32,
    "adversarial.adversarial_start": 0.1,
    "checkpoint.every_images": 5 * 32,
    "evaluation.every_images": 10**9,
}


def start(
    root: Path, storage: Path, *flags: str, words: tuple[str, ...] = ("jobs/train.py", "smoke")
) -> subprocess.Popen:
    command = [sys.executable, *words, "--storage", str(storage), *flags]
    return subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_until_training(process: subprocess.Popen, folder: Store, images: int) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        progress = read_progress(folder)
        if progress and progress.get("images", 0) >= images:
            return
        if process.poll() is not None:
            raise AssertionError(f"ended early:\n{process.stdout.read()}")
        time.sleep(0.2)
    process.kill()
    raise AssertionError("it never trained")


@pytest.mark.fault
@pytest.mark.ray
def test_a_first_interrupt_saves_and_the_same_command_would_continue(root, tmp_path):
    """That it does is seen where a raylet is lost, and a worker in tests/cluster/test_train.py."""
    name = ("--name", "run")
    process = start(root, tmp_path, *LONG, *QUICK, *name)
    folder = Store.open(tmp_path / "run")
    wait_until_training(process, folder, 96)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 130, output
    saved = committed(folder)
    assert len(saved) == 1, output
    assert "the same command continues" in output

    again = start(root, tmp_path, *LONG, *QUICK, *name, "--dry-run")
    assert f"continues after {saved[0]:,} images" in again.communicate(timeout=120)[0]
    assert again.returncode == 0


@pytest.mark.fault
@pytest.mark.ray
@pytest.mark.long
@pytest.mark.parametrize("lost", ["raylet", "gcs_server"])
def test_a_lost_raylet_or_gcs_is_one_line_and_the_same_command_goes_on(root, tmp_path, lost):
    flags = (*LONG[:2], "--checkpoint.every-images", "320", *QUICK, "--name", "run")
    process = start(root, tmp_path, *flags)
    folder = Store.open(tmp_path / "run")
    wait_until_training(process, folder, 640)
    assert committed(folder)
    (head,) = [each for each in psutil.Process(process.pid).children() if each.name() == lost]
    family = psutil.Process(process.pid).children(recursive=True)
    head.kill()
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 2, output
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert "was killed" in line and "the same command goes on" in line
    assert output.rstrip().endswith(line), "no line of Ray's own"
    _, alive = psutil.wait_procs(family, timeout=60)
    workers = [each for each in alive if each.is_running() and "TrainWorker" in each.name()]
    assert not workers

    seen = read_progress(folder)["images"]
    again = start(root, tmp_path, *flags)
    wait_until_training(again, folder, seen + 64)
    os.kill(again.pid, signal.SIGKILL)
    assert "continues after" in again.communicate(timeout=120)[0]


@pytest.mark.fault
@pytest.mark.ray
@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_killed_fine_tuning_goes_on_to_the_bit(root, tmp_path):
    """Every process of it gets SIGKILL; beside it, the same steps without an interruption."""
    torch.set_num_threads(1)
    parent = make_parent(tmp_path)
    flags = ("--run", "parent", "--name", "tuned", *QUICK)
    for name, value in TUNING.items():
        flags += (f"--{name.replace('_', '-')}", str(value))
    words = ("jobs/finetune_decoder.py", "small")
    process = start(root, tmp_path, *flags, words=words)
    folder = Store.open(tmp_path / "tuned")
    wait_for_checkpoint(process, folder)
    for each in (psutil.Process(process.pid), *psutil.Process(process.pid).children(True)):
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.communicate(timeout=60)
    saved = committed(folder)[-1]
    assert 0 < saved < STEPS * 32

    again = start(root, tmp_path, *flags, words=words)
    output = again.communicate(timeout=300)[0]
    assert again.returncode == 0, output
    assert f"continues after {saved:,} images" in output
    straight = tuned_here(parent, "straight")
    found = [read_checkpoint(latest(each)).parts for each in (folder, straight)]
    assert found[0].keys() == found[1].keys() >= {"model", "discriminator", "ema"}
    for part, tensors in found[1].items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, found[0][part][name]), f"{part}: {name}"


def make_parent(storage: Path) -> Parent:
    """A run of two steps, trained in this process."""
    prepare_digits(Store.open(storage / "data" / "digits"))
    changes = {"storage": str(storage), "name": "parent", "training.epochs": 2 * 32 / 1500}
    trained(replace(recipe("smoke"), {**changes, "tracking.enabled": False}))
    return find_parent(str(storage / "parent"), storage="")


def tuned_here(parent: Parent, name: str) -> Store:
    """The fine-tuning of TUNING in this process; returns its folder."""
    base = finetune_recipe("small", dataclasses.replace(parent.config, name=name))
    run = open_run(replace(base, {**TUNING, "parent": parent.identity}))
    trained(dataclasses.replace(run, start_from=parent.place))
    return run.folder


def wait_for_checkpoint(process: subprocess.Popen, folder: Store) -> None:
    deadline = time.monotonic() + 300
    while not committed(folder):
        assert time.monotonic() < deadline, "no checkpoint in time"
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
