"""Words of messages: counts with their noun, durations, commands that can be pasted or install."""

from __future__ import annotations

import shlex

GIB = 2**30
"""Bytes."""


def count(number: float, noun: str, plural: str = "") -> str:
    """A count with its noun: "1 image", "0.5 CPUs"; `plural` where an s is not enough."""
    text = f"{number:,}" if isinstance(number, int) else f"{number:g}"
    return f"{text} {noun if number == 1 else plural or f'{noun}s'}"


def clock(seconds: float) -> str:
    """A duration as m:ss, or h:mm:ss from an hour on."""
    minutes, rest = divmod(max(int(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def duration(seconds: float) -> str:
    """A duration in one rounded number with its unit."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def command(*words: str) -> str:
    """A command line for a shell, its words quoted where they must be."""
    return shlex.join(words)


def brings(*extras: str) -> str:
    """The command that brings what the package needs, with extras of pyproject.toml."""
    wanted = f'".[{",".join(sorted(set(extras)))}]"' if extras else "."
    return f"pip install -e {wanted} in the folder of the project brings it"
