"""The command that a user types, interrupted and typed again; and as a Ray job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from unite.checkpoints.store import committed
from unite.storage import Store
from unite.training.progress import read_progress

LONG = ("--training.epochs", "2000", "--checkpoint.every-images", "1000000")
QUICK = ("--tracking.no-enabled",)


def start(root: Path, storage: Path, *flags: str) -> subprocess.Popen:
    command = [sys.executable, "jobs/train.py", "smoke", "--storage", str(storage), *flags]
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
def test_a_first_interrupt_saves_and_the_same_command_continues(root, tmp_path):
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

    again = start(root, tmp_path, *LONG, *QUICK, *name)
    wait_until_training(again, folder, saved[0] + 32)
    os.kill(again.pid, signal.SIGKILL)
    assert f"continues after {saved[0]:,} images" in again.communicate(timeout=120)[0]


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


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["nonsense"], "unknown recipe 'nonsense'"),
        (["digitz"], "did you mean digits"),
        (["smoke", "--flow.steps", "0"], "flow.steps = 0 must be above 0"),
        (["smoke", "--domain.patch", "3"], "domain.size = 8 is not divisible"),
        (["unite-b"], "needs --data.train"),
        (["smoke", "--data.train", "/nowhere/at/all"], "/nowhere/at/all"),
        (["smoke", "--storage", "/proc/nothing"], "/proc/nothing"),
    ],
)
def test_bad_input_is_named_before_ray_starts(root, tmp_path, flags, words):
    command = [sys.executable, "jobs/train.py", *flags]
    if "--storage" not in flags:
        command += ["--storage", str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
