"""The agent of a spot node: what it asks, what it drains, and what it survives."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from unite import network
from unite.drivers.metadata import MetadataError
from unite.drivers.spot_watch import START_S, find_in_time, watch


class Sky:
    """A cloud whose looks see one of `ends` after the other: a time, None, or an error."""

    name = "Sky"

    def __init__(self, *ends: float | None | Exception) -> None:
        self.ends = list(ends)

    def ends_at(self) -> float | None:
        end = self.ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end


def test_the_node_is_drained_at_the_notice_with_its_time():
    drained: list[float] = []
    sky, at = Sky(None, None, time.time() + 120), time.time() + 120
    sky.ends[-1] = at
    assert watch(sky, drained.append, every_s=0.001)
    assert drained == [at]


def test_one_look_without_a_notice_drains_nothing():
    drained: list[float] = []
    assert not watch(Sky(None), drained.append, every_s=1.0, once=True)
    assert drained == []


def test_a_service_that_is_silent_for_a_while_is_asked_on_and_told_once(caplog):
    drained: list[float] = []
    silent = MetadataError("the service does not answer")
    sky = Sky(silent, silent, None, time.time() + 120)
    assert watch(sky, drained.append, every_s=0.001)
    assert len(drained) == 1
    assert caplog.text.count("does not answer; asking on") == 1
    with pytest.raises(MetadataError):
        watch(Sky(silent), drained.append, every_s=1.0, once=True)


def test_a_service_that_is_slow_when_the_machine_starts_is_asked_again(turned_clock):
    """Nobody starts the agent of a node of `ray up` a second time."""
    now = [0.0]
    turned_clock(network, monotonic=lambda: now[0], sleep=lambda s: now.__setitem__(0, now[0] + s))
    sky, answers = Sky(), [MetadataError("timed out"), MetadataError("503"), None]

    def find() -> Sky:
        if (error := answers.pop(0)) is not None:
            raise error
        return sky

    assert find_in_time(find) is sky and not answers
    answers += [MetadataError("nobody")] * 1000
    with pytest.raises(MetadataError, match="nobody"):
        find_in_time(find)
    assert now[0] < 2 * START_S


def test_a_drain_that_fails_is_tried_again_until_the_machine_is_gone(caplog):
    tries: list[float] = []

    def drain(end: float) -> None:
        tries.append(end)
        if len(tries) < 3:
            raise RuntimeError("the head is busy")

    assert watch(Sky(time.time() + 120), drain, every_s=0.001)
    assert len(tries) == 3 and caplog.text.count("the head is busy; trying again") == 2

    def never(end: float) -> None:
        raise RuntimeError("the head is gone")

    with pytest.raises(RuntimeError, match="the head is gone"):
        watch(Sky(time.time()), never, every_s=0.001)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "RAY_ADDRESS: name the head of the cluster"),
        (["--address", "http://head:8265"], "--address 'http://head:8265'"),
        (["--address", "head:gcs"], "--address 'head:gcs'"),
        (["--address", "head:6379", "--every-s", "0"], "--every-s 0.0 must be above 0"),
        (
            ["--address", "head:6379", "--cloud", "aws", "--once"],
            "http://127.0.0.1:9/latest/api/token",
        ),
    ],
)
def test_bad_input_is_one_line(root, flags, words, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")
    command = [sys.executable, "-m", "unite.cli", "spot-watch", *flags]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert words in done.stderr
