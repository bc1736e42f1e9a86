"""A pair: one checkpoint and one suite under one protocol, which is evaluated at most once.

A pair's digest names everything that its numbers depend on, as the folders of results do
(`Task.digest`), so that no argument that changes nothing makes another pair. The one difference:
extractors enter as they were asked for, because one that is fitted on the way is not known before.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property

from unite.config.schema import SamplingConfig
from unite.evaluation.arguments import EvaluateArguments, without_effect
from unite.evaluation.guidance import SUITE as SWEEP
from unite.evaluation.guidance import at_scale
from unite.evaluation.images.extractors import EXTRACTORS
from unite.evaluation.images.preparation import fitted_sources
from unite.evaluation.images.sources import AUTO, SMALL, ExtractorSource
from unite.evaluation.plan import NEEDS_FEATURES, Ingredients, suites_of
from unite.evaluation.results import RESULTS_FILE, read_outcomes
from unite.evaluation.suites.generation import Generation
from unite.evaluation.sweep import SCALES
from unite.evaluation.target import Target
from unite.evaluation.task import Subject, Suite
from unite.runs import is_builtin
from unite.storage import Store

FOLDER = "schedule"
DIGEST_DIGITS = 16
PATHS = ("data", "eval_data", "reference", "weights")
"""Arguments that hold places; a job runs in another folder, so they are made absolute."""
NAMED_EXTRACTORS = (AUTO, "inception", SMALL, *EXTRACTORS)


@dataclass(kw_only=True)
class Measurement:
    """One suite under one protocol, for all checkpoints of a run that share config and data.

    What is the same for them is found once: a storage may hold thousands of checkpoints.
    """

    target: Target
    """One of these checkpoints, with its data."""
    request: EvaluateArguments
    """Arguments of `jobs/evaluate.py`, with one suite; `run` is filled in for each checkpoint."""
    places: tuple[str, ...] = ()
    """Extractors, as they were chosen."""
    _asked: Suite | None = None
    _made: Suite | None = None
    _is_looked_for: bool = False

    @classmethod
    def of(
        cls, suite: str, target: Target, arguments: EvaluateArguments, places: tuple[str, ...]
    ) -> Measurement:
        """One suite of a request."""
        chosen = replace(absolute(arguments), suite=(suite,), run="", storage=target.storage)
        defaults = EvaluateArguments()
        others = without_effect(chosen, (suite,))  # they belong to the request's other suites
        chosen = replace(chosen, **{name: getattr(defaults, name) for name in others})
        places = places if suite in NEEDS_FEATURES else ()
        return cls(target=target, request=chosen, places=places)

    @property
    def suite(self) -> str:
        """Name of the suite."""
        return self.request.suite[0]

    @property
    def is_searched(self) -> bool:
        """True if the guidance scale is searched."""
        return self.request.cfg_sweep or self.request.cfg_adaptive

    def as_asked(self, subject: Subject) -> Suite:
        """Task of a checkpoint with its extractors as they were asked for: it names a pair."""
        self._asked = self._asked or self._task(())
        return replace(self._asked, subject=subject, home=subject.home)

    def as_made(self, subject: Subject, *, look_again: bool = True) -> Suite | None:
        """Task of a checkpoint as it is evaluated; None while its extractor is not fitted yet.

        Without `look_again` an extractor that was not there is not looked for a second time.
        """
        if self._made is None and (look_again or not self._is_looked_for):
            config, self._is_looked_for = self.target.subject.config, True
            weights = self.request.weights or config.weights
            sources = fitted_sources(
                self.places, self.target.train, config.domain, self.target.storage, weights
            )
            self._made = None if sources is None else self._task(sources)
        return self._made and replace(self._made, subject=subject, home=subject.home)

    def _task(self, sources: tuple[ExtractorSource, ...]) -> Suite:
        ingredients = Ingredients(target=self.target, arguments=self.request, sources=sources)
        (task,) = suites_of(ingredients)
        if isinstance(task, Generation) and self.is_searched:
            return at_scale(task, SamplingConfig.cfg_scale)  # the sweep chooses it
        return task


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A checkpoint and a suite under one protocol, the subject of one job."""

    subject: Subject
    """The checkpoint."""
    committed: int
    """Time at which it was committed, in nanoseconds since 1970."""
    measurement: Measurement

    def __str__(self) -> str:
        return f"{self.suite} of {self.run} after {self.images:,} images"

    @property
    def arguments(self) -> EvaluateArguments:
        """Arguments of `jobs/evaluate.py`."""
        return replace(self.measurement.request, run=self.subject.uri)

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
        request = self.measurement.request
        content = {
            "task": self.measurement.as_asked(self.subject).digest,
            "extractors": self.measurement.places,
            "sweep": [request.cfg_sweep, request.cfg_adaptive],
        }
        text = json.dumps(content, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_DIGITS]

    @property
    def records(self) -> Store:
        """Folder of the scheduler's records of it."""
        return Store(self.subject.home) / FOLDER / f"{self.suite}-{self.digest}"

    def has_result(self, *, look_again: bool = True) -> bool:
        """True if the numbers are there, whoever asked for them; `look_again` as of `as_made`."""
        task = self.measurement.as_made(self.subject, look_again=look_again)
        if task is None:
            return False
        if not self.measurement.is_searched:
            return task.folder.is_file(RESULTS_FILE)
        assert isinstance(task, Generation)
        return any(self._is_best_of_sweep(at_scale(task, scale)) for scale in SCALES)

    def _is_best_of_sweep(self, task: Generation) -> bool:
        """True if a sweep of the requested kind has ended at this scale."""
        found = task.folder / SWEEP
        if not (task.folder.is_file(RESULTS_FILE) and found.is_file(RESULTS_FILE)):
            return False
        (outcome,) = read_outcomes(found)
        return outcome.rows[0].card.details["adaptive"] == self.measurement.request.cfg_adaptive


def absolute(arguments: EvaluateArguments) -> EvaluateArguments:
    """The same request, understood from any folder."""
    named = {name: getattr(arguments, name) for name in PATHS}
    places = {
        name: Store.open(path).uri for name, path in named.items() if path and not is_builtin(path)
    }
    extractors = tuple(
        name if name in NAMED_EXTRACTORS else Store.open(name).uri for name in arguments.extractor
    )
    return replace(arguments, extractor=extractors, **places)


def command(pair: Pair) -> list[str]:
    """The words that evaluate a pair, in the repository's folder."""
    return ["python", "jobs/evaluate.py", *flags(pair.arguments)]


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
