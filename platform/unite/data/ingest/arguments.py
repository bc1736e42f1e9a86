"""Command line of `jobs/prepare_data.py`: the kind of source, then the options of that kind."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

import tyro

from unite.config.effects import refuse_changed
from unite.config.flags import parse
from unite.config.names import BUILTIN
from unite.data.ingest.digits import BUILTIN_DIGITS
from unite.data.ingest.kind import KINDS, Ingest, kind_of

Kind = TypeVar("Kind", bound=Ingest)
USUAL = "images"


@dataclass(frozen=True, kw_only=True)
class PrepareArguments(Generic[Kind]):
    """A preparation and its running."""

    ingest: tyro.conf.OmitArgPrefixes[Kind]
    num_cpus: float = 0
    """CPUs at work at once; 0 = all of the cluster."""
    dry_run: bool = False
    """Encode a row of every shard, print counts and the estimated size, write nothing."""


def parse_arguments(words: Sequence[str], description: str | None) -> PrepareArguments[Any]:
    """The preparation that the words of a command line ask for.

    The first word is a kind of source where another word follows that is no option; so a folder
    can have the name of a kind, as it could before there were kinds. A built-in data set that is
    named for a kind is of it. ValueError for a first word that is none of them.
    """
    name, rest = USUAL, list(words)
    built_in = [word.removeprefix(BUILTIN) for word in rest if word.startswith(BUILTIN)]
    if built_in and built_in[0] in KINDS:
        name, rest = built_in[0], rest[1:] if rest[0] == built_in[0] else rest
    elif rest and rest[0] in KINDS and _is_kind(rest):
        name, rest = rest[0], rest[1:]
    elif len(rest) > 1 and not any(word.startswith("-") for word in rest[:2]):
        close = difflib.get_close_matches(rest[0], KINDS, n=1)
        hint = f"; did you mean {close[0]}?" if close else "."
        raise ValueError(
            f"{rest[0]!r} is no kind of source{hint} Kinds: {', '.join(KINDS)}. Without one the "
            "first word is the source of images, and the only one without an option before it"
        )
    kind: Any = PrepareArguments[kind_of(name)]  # type: ignore[misc]
    return parse(kind, description=description, args=rest)


def _is_kind(words: list[str]) -> bool:
    follows_source = len(words) > 1 and not words[1].startswith("-")
    return follows_source or not os.path.exists(words[0])


def check_digits(arguments: PrepareArguments[Any]) -> None:
    """ValueError for options that do nothing to the built-in digits."""
    acting, why = ("source", "out"), f"on {BUILTIN_DIGITS}, which are as they are"
    others = [item.name for item in fields(arguments.ingest) if item.name not in acting]
    refuse_changed(arguments.ingest, others, why)
    refuse_changed(arguments, ("num_cpus",), why)
