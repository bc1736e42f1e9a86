"""A request: one checkpoint and one suite under one protocol, which is evaluated at most once.

A request's digest names everything that its numbers depend on, as the folders of results do
(`Task.digest`), so that no argument that changes nothing makes another request. The one difference:
extractors enter as they were asked for, because one that is fitted on the way is not known before.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from functools import cached_property

from unite.checkpoints.layout import MARKER
from unite.config.serialise import json_digest
from unite.evaluation.arguments import EvaluateArguments, without_effect
from unite.evaluation.images.features import NAMED
from unite.evaluation.suite import Suite
from unite.evaluation.target import Subject, Target
from unite.runs import is_builtin
from unite.storage import Store

FOLDER = "schedule"
PATHS = ("data", "eval_data", "reference", "weights")
"""Arguments that hold places; a job runs in another folder, so they are made absolute."""


@dataclass(kw_only=True)
class Measurement:
    """One suite under one protocol, for all checkpoints of a run that share config and data.

    What is the same for them is found once: a storage may hold thousands of checkpoints.
    """

    target: Target
    """One of these checkpoints, with its data."""
    arguments: EvaluateArguments
    """Arguments of `jobs/evaluate.py`, with one suite; `run` is filled in for each checkpoint."""
    opened: Suite
    """The suite of that checkpoint, as it was asked for."""
    _made: Suite | None = None
    _is_looked_for: bool = False

    @classmethod
    def of(cls, suite: Suite, target: Target, arguments: EvaluateArguments) -> Measurement:
        """One suite of what `jobs/evaluate.py` was asked for."""
        name = suite.suite
        chosen = replace(absolute(arguments), suite=(name,), run="", storage=target.storage)
        defaults = EvaluateArguments()
        others = without_effect(chosen, (name,))  # they belong to other suites
        chosen = replace(chosen, **{name: getattr(defaults, name) for name in others})
        return cls(target=target, arguments=chosen, opened=suite)

    @property
    def suite(self) -> str:
        """Name of the suite."""
        return self.opened.suite

    def as_asked(self, subject: Subject) -> Suite:
        """Suite of a checkpoint with its needs as they were asked for: it names a request."""
        return replace(self.opened.as_asked, subject=subject, home=subject.home)

    def as_made(self, subject: Subject, *, look_again: bool = True) -> Suite | None:
        """Suite of a checkpoint as it is evaluated; None while its extractor is not fitted yet.

        Without `look_again` an extractor that was not there is not looked for a second time.
        """
        if self._made is None and (look_again or not self._is_looked_for):
            self._is_looked_for = True
            self._made = self.opened.resolved()
        return self._made and replace(self._made, subject=subject, home=subject.home)


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """A checkpoint and a suite under one protocol, the subject of one job."""

    subject: Subject
    """The checkpoint."""
    committed: int
    """Time at which it was committed, in nanoseconds since 1970; 0 for an export or a file."""
    measurement: Measurement

    def __str__(self) -> str:
        return f"{self.suite} of {self.run} after {self.images:,} images"

    @property
    def arguments(self) -> EvaluateArguments:
        """Arguments of `jobs/evaluate.py`."""
        return replace(self.measurement.arguments, run=self.subject.uri)

    @property
    def suite(self) -> str:
        """Name of the suite."""
        return self.measurement.suite

    @property
    def run(self) -> str:
        """Name of the run."""
        run = self.measurement.target.run
        return run.name if run else self.subject.uri

    @property
    def images(self) -> int:
        """Training images that the checkpoint has seen."""
        return self.subject.images

    @cached_property
    def digest(self) -> str:
        """16 digits that name checkpoint, suite and protocol."""
        asked = self.measurement.arguments
        content = {
            "task": self.measurement.as_asked(self.subject).digest,
            "extractors": self.measurement.opened.needs,
            "sweep": [asked.cfg_sweep, asked.cfg_adaptive],
        }
        if asked.reference:  # samples do not depend on it, their numbers do
            content["reference"] = asked.reference
        return json_digest(content)

    @property
    def records(self) -> Store:
        """Folder of the scheduler's records of it."""
        return Store(self.subject.home) / FOLDER / f"{self.suite}-{self.digest}"

    @property
    def is_gone(self) -> bool:
        """True if a training has deleted the checkpoint, as it does but for the last and best."""
        return self.committed > 0 and not Store(self.subject.uri).exists(MARKER)

    def has_result(self, *, look_again: bool = True) -> bool:
        """True if the numbers are there, whoever asked for them; `look_again` as of `as_made`."""
        made = self.measurement.as_made(self.subject, look_again=look_again)
        return made is not None and made.is_kept()


def absolute(arguments: EvaluateArguments) -> EvaluateArguments:
    """The same arguments, understood from any folder."""
    named = {name: getattr(arguments, name) for name in PATHS}
    places = {
        name: Store.open(path).uri for name, path in named.items() if path and not is_builtin(path)
    }
    extractors = tuple(
        name if name in NAMED else Store.open(name).uri for name in arguments.extractor
    )
    return replace(arguments, extractor=extractors, **places)


def command(request: EvaluationRequest) -> list[str]:
    """The words that evaluate a request, in the repository's folder."""
    return ["python", "jobs/evaluate.py", *flags(request.arguments)]


def flags(arguments: EvaluateArguments) -> list[str]:
    """Flags that give `jobs/evaluate.py` these arguments."""
    words: list[str] = []
    for item in dataclasses.fields(EvaluateArguments):
        value, flag = getattr(arguments, item.name), item.name.replace("_", "-")
        if value == item.default:
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, tuple):
            words += [f"--{flag}", *map(str, value)]
        else:
            words += [f"--{flag}", str(value)]
    return words
