"""The suites of each domain: the one place that lists them.

    suites_for.register(MyConfig, lambda domain: {**SHARED, "mine": Entry("package.module:Mine")})

A suite is loaded when it is used: a command that is finished, or wrongly typed, says so at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import singledispatch
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unite.evaluation.suite import Suite


@dataclass(frozen=True)
class Entry:
    """A suite of a domain."""

    place: str
    """Module and class, `package.module:Class`."""
    reads: tuple[str, ...] = ()
    """Fields of `EvaluateArguments` that not every suite reads, and this one does."""

    def load(self) -> type[Suite]:
        """The suite's class."""
        module, _, name = self.place.partition(":")
        return getattr(import_module(module), name)


Entries = Mapping[str, Entry]
"""Name of a suite -> its entry, in the order of tables."""

HERE = "unite.evaluation.suites"
"""Package of the suites."""
SHARED: Entries = {
    "alignment": Entry(f"{HERE}.alignment:AlignmentSuite", ("analysis_images",)),
    "trajectory": Entry(f"{HERE}.trajectory:TrajectorySuite", ("analysis_images",)),
    "entropy": Entry(f"{HERE}.entropy:EntropySuite", ("entropy_bins",)),
    "probe": Entry(f"{HERE}.probe:ProbeSuite", ("num_images", "probe_images")),
    "compute": Entry(f"{HERE}.compute:ComputeSuite"),
}
"""Suites that know a sample only through its domain."""


@singledispatch
def suites_for(domain: Any) -> Entries:
    """The suites of the domain of this config; ValueError for a domain that has none.

    A domain registers by the type of its config. None as the config asks for all that it may have.
    """
    raise ValueError(
        f"there are no suites for {type(domain).__name__}: register them with "
        "unite.evaluation.suites.suites_for"
    )


def meant(name: str, known: Entries) -> list[str]:
    """Suites that a name stands for: its own, else those of each part, `generation-molecules` and
    `generation-crystals` for `generation`."""
    return [name] if name in known else [each for each in known if each.split("-")[0] == name]


def all_suites() -> Entries:
    """The suites of all domains; those of one name read the arguments of each."""
    union: dict[str, Entry] = {}
    for kind in suites_for.registry:
        if kind is not object:
            for name, entry in suites_for.dispatch(kind)(None).items():
                before = union.get(name, entry)
                reads = dict.fromkeys((*before.reads, *entry.reads))
                union[name] = Entry(before.place, tuple(reads))
    return union
