"""Counts, durations and commands as messages have them."""

import shlex

import pytest

from unite.words import clock, command, count, duration


def test_counts_have_their_noun():
    assert [count(n, "image") for n in (0, 1, 2, 1500)] == [
        "0 images",
        "1 image",
        "2 images",
        "1,500 images",
    ]
    assert count(2, "class", "classes") == "2 classes"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (9.9, "0:09"), (61, "1:01"), (3661, "1:01:01"), (-5, "0:00")]
)
def test_clock(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(4, "4 s"), (106, "2 min"), (5400, "1.5 h"), (200_000, "2.3 days")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_commands_can_be_pasted():
    words = ["python", "jobs/train.py", "--storage", "my runs/it's"]
    assert shlex.split(command(*words)) == words
