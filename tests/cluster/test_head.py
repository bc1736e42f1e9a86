"""The watch over Ray's own processes; killed for real in tests/fault/test_train_command.py."""

import subprocess
import sys

from unite.cluster.head import message, watch


def process(seconds: float) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({seconds})"])


def test_the_process_that_ends_is_named():
    lives, ends, told = process(600), process(0), []
    try:
        watch({"GCS": lives, "raylet": ends}, lambda: True, told.append)
    finally:
        lives.kill()
        lives.wait()
    assert told == ["raylet"]
    assert "Ray's raylet on this machine was killed" in message("raylet")
    assert "the same command goes on" in message("raylet")


def test_a_shutdown_is_no_loss():
    ended, told = process(0), []
    ended.wait()
    watch({"GCS": ended}, lambda: False, told.append)
    assert told == []
