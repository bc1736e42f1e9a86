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
from unite.evaluation.task import Suite
from unite.runs import DIGITS, committed_at
from unite.storage import Store

FOLDER = "schedule"
DIGEST_DIGITS = 16
PATHS = ("data", "eval_data", "reference", "weights")
"""Arguments that hold places; a job runs in another folder, so they are made absolute."""
NAMED_EXTRACTORS = (AUTO, "inception", SMALL, *EXTRACTORS)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A checkpoint and a suite under one protocol, the subject of one job."""

    target: Target
    arguments: EvaluateArguments
    """Arguments of `jobs/evaluate.py`, with one suite and the checkpoint as its run."""
    places: tuple[str, ...] = ()
    """Extractors, as they were chosen."""

    @classmethod
    def of(
        cls, suite: str, target: Target, arguments: EvaluateArguments, places: tuple[str, ...]
    ) -> Pair:
        """One suite of a request."""
        chosen = replace(
            absolute(arguments), suite=(suite,), run=target.subject.uri, storage=target.storage
        )
        defaults = EvaluateArguments()
        others = without_effect(chosen, (suite,))  # they belong to the request's other suites
        chosen = replace(chosen, **{name: getattr(defaults, name) for name in others})
        return cls(
            target=target,
            arguments=chosen,
            places=places if suite in NEEDS_FEATURES else (),
        )

    def __str__(self) -> str:
        return f"{self.suite} of {self.run} after {self.images:,} images"

    @property
    def suite(self) -> str:
        """Name of the suite."""
        return self.arguments.suite[0]

    @property
    def run(self) -> str:
        """Name of the run."""
        return self.target.run.name if self.target.run else self.target.subject.uri

    @property
    def images(self) -> int:
        """Training images that the checkpoint has seen."""
        return self.target.subject.images

    @cached_property
    def committed(self) -> int:
        """Time at which the checkpoint was committed, in nanoseconds since 1970."""
        return committed_at(Store.open(self.target.subject.uri))

    @cached_property
    def digest(self) -> str:
        """16 digits that name checkpoint, suite and protocol."""
        content = {
            "task": self._task(()).digest,
            "extractors": self.places,
            "sweep": [self.arguments.cfg_sweep, self.arguments.cfg_adaptive],
        }
        text = json.dumps(content, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_DIGITS]

    @property
    def records(self) -> Store:
        """Folder of the scheduler's records of it."""
        return Store.open(self.target.subject.home) / FOLDER / f"{self.suite}-{self.digest}"

    def has_result(self) -> bool:
        """True if the numbers are there, whoever asked for them."""
        images, weights = self.target.subject.config.domain, self._weights
        sources = fitted_sources(
            self.places, self.target.train, images, self.target.storage, weights
        )
        if sources is None:
            return False
        task = self._task(sources)
        if not (self.arguments.cfg_sweep or self.arguments.cfg_adaptive):
            return task.folder.is_file(RESULTS_FILE)
        assert isinstance(task, Generation)
        return any(self._is_best_of_sweep(at_scale(task, scale)) for scale in SCALES)

    def _is_best_of_sweep(self, task: Generation) -> bool:
        """True if a sweep of the requested kind has ended at this scale."""
        found = task.folder / SWEEP
        if not (task.folder.is_file(RESULTS_FILE) and found.is_file(RESULTS_FILE)):
            return False
        (outcome,) = read_outcomes(found)
        return outcome.rows[0].card.details["adaptive"] == self.arguments.cfg_adaptive

    def _task(self, sources: tuple[ExtractorSource, ...]) -> Suite:
        """The suite as `jobs/evaluate.py` makes it."""
        (task,) = suites_of(
            Ingredients(target=self.target, arguments=self.arguments, sources=sources)
        )
        if isinstance(task, Generation) and self.arguments.cfg_adaptive | self.arguments.cfg_sweep:
            return at_scale(task, SamplingConfig.cfg_scale)  # the sweep chooses it
        return task

    @property
    def _weights(self) -> str:
        return self.arguments.weights or self.target.subject.config.weights


def absolute(arguments: EvaluateArguments) -> EvaluateArguments:
    """The same request, understood from any folder."""
    named = {name: getattr(arguments, name) for name in PATHS}
    places = {
        name: Store.open(path).uri for name, path in named.items() if path not in ("", DIGITS)
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
