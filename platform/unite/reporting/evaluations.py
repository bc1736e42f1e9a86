"""Measurements of a run: from its folder, or, where that is out of reach, from MLflow.

Nothing here fails because of a file that is half written or missing: it becomes a problem, in words
that stand on the page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from unite.checkpoints.layout import CheckpointError
from unite.evaluation.results import RESULTS_FILE, Outcome, Row, read_outcomes
from unite.evaluation.suites import all_suites
from unite.runs import EVALUATIONS
from unite.storage import StorageError, Store
from unite.tracking import RunFiles

UNREADABLE = (StorageError, CheckpointError, ValueError, KeyError, TypeError)
"""Errors of files that are damaged or away; those of metrics and of MLflow are ValueErrors."""
AGAIN = "python jobs/evaluate.py --run {run} does it again"
TASK_FOLDER = re.compile(r"(?P<suite>.+)-[0-9a-f]{16}")
PICTURES_IN_MLFLOW = "evaluation/{suite}/{name}"
Parsed = TypeVar("Parsed")


@dataclass(frozen=True, kw_only=True)
class Found:
    """One suite's outcome, with a reader of the files beside it."""

    outcome: Outcome
    step: int
    """Training images that the checkpoint has seen."""
    newest: bool
    """True if the checkpoint's results.json holds it; False for other protocols."""
    read: Callable[[str], bytes]
    """Contents of a file by name; StorageError or TrackingError when it is not there."""


@dataclass(frozen=True, kw_only=True)
class Evaluations:
    """Everything that was measured on a run."""

    found: tuple[Found, ...] = ()
    problems: tuple[str, ...] = ()
    """Evaluations that are unfinished or cannot be read, in words."""

    def newest(self, suite: str) -> Found | None:
        """The outcome of a suite on the newest checkpoint that has one."""
        candidates = [each for each in self.found if each.newest and each.outcome.suite == suite]
        return max(candidates, key=lambda each: each.step, default=None)

    def beside(
        self, suite: str, name: str, parse: Callable[[bytes], Parsed]
    ) -> tuple[Parsed | None, Evaluations]:
        """A file beside a suite's newest numbers; and self, with a problem when it is not whole."""
        found = self.newest(suite)
        if found is None:
            return None, self
        try:
            return parse(found.read(name)), self
        except UNREADABLE as error:
            problem = f"{name} of its {suite} cannot be shown ({first_line(error)})"
            return None, with_problem(self, problem)

    @property
    def rows(self) -> list[tuple[Row, bool]]:
        """Numbers, each once, and True if it is from its suite's newest outcome."""
        latest = [self.newest(suite) for suite in {each.outcome.suite for each in self.found}]
        main = {row.card.digest() for each in latest if each for row in each.outcome.rows}
        rows = {row.card.digest(): row for each in self.found for row in each.outcome.rows}
        return [(row, digest in main) for digest, row in rows.items()]


def in_folder(run: Store) -> Evaluations:
    """Evaluations in a run's folder; StorageError when it cannot be listed."""
    found: list[Found] = []
    problems: list[str] = []
    for name in run.list(EVALUATIONS):
        home = run / EVALUATIONS / name
        for each in _of_checkpoint(home):
            if isinstance(each, Found):
                found.append(each)
            else:
                problems.append(f"{each}; {AGAIN.format(run=run.name)}")
    return Evaluations(found=tuple(found), problems=tuple(problems))


def _of_checkpoint(home: Store) -> Iterator[Found | str]:
    """Outcomes of one checkpoint's evaluations, and a text for each problem with them."""
    merged: list[Outcome] = []
    if home.is_file(RESULTS_FILE):
        try:
            merged = read_outcomes(home)
        except UNREADABLE as error:
            yield f"{EVALUATIONS}/{home.name}/{RESULTS_FILE} is not whole ({first_line(error)})"
    left = {outcome.suite: outcome for outcome in merged}
    for name in home.list():
        match = TASK_FOLDER.fullmatch(name)
        if match is None:
            continue
        folder = home / name
        if not folder.is_file(RESULTS_FILE):
            # Others hold what a suite is made of, such as samples, and never end in results.
            if match["suite"] in all_suites().keys() - {outcome.suite for outcome in merged}:
                yield f"the evaluation of {match['suite']} is not finished"
            continue
        try:
            (outcome,) = read_outcomes(folder)
        except UNREADABLE as error:
            yield f"{name}/{RESULTS_FILE} is not whole ({first_line(error)})"
            continue
        newest = _same(outcome, left.get(outcome.suite))
        yield _found(left.pop(outcome.suite) if newest else outcome, newest, folder.read)
    for outcome in left.values():
        yield _found(outcome, True, home.read)


def _same(outcome: Outcome, merged: Outcome | None) -> bool:
    return merged is not None and merged.rows == outcome.rows


def _found(outcome: Outcome, newest: bool, read: Callable[[str], bytes]) -> Found:
    step = max((row.card.step for row in outcome.rows), default=0)
    return Found(outcome=outcome, step=step, newest=newest, read=read)


def in_mlflow(files: RunFiles) -> Evaluations:
    """Evaluations in a run's artifacts; TrackingError when they cannot be listed."""
    found: list[Found] = []
    problems: list[str] = []
    for folder in files.list("evaluation"):
        name = f"{folder}/{RESULTS_FILE}"
        if name not in files.list(folder):
            continue
        try:
            outcomes = _outcomes(files.read(name))
        except UNREADABLE as error:
            problems.append(f"{name} in MLflow is not whole ({first_line(error)})")
            continue
        found += [_found(each, True, _reader(files, folder, each.suite)) for each in outcomes]
    return Evaluations(found=tuple(found), problems=tuple(problems))


def _outcomes(data: bytes) -> list[Outcome]:
    """The outcomes of a results.json that is given by its contents."""
    return [Outcome.from_dict(outcome) for outcome in json.loads(data)["outcomes"]]


def _reader(files: RunFiles, folder: str, suite: str) -> Callable[[str], bytes]:
    """Files of a suite: pictures are kept by step beside all others, the rest in its folder."""

    def read(name: str) -> bytes:
        step = int(folder.rsplit("/", 1)[-1])
        key = PICTURES_IN_MLFLOW.format(suite=suite, name=name.removesuffix(".png"))
        picture = files.images(key).get(step) if name.endswith(".png") else None
        return files.read(picture or f"{folder}/{suite}/{name}")

    return read


def with_problem(evaluations: Evaluations, problem: str) -> Evaluations:
    """The same evaluations with one more problem."""
    return replace(evaluations, problems=(*evaluations.problems, problem))


def first_line(error: Exception) -> str:
    """An error's first line, short enough to stand in a sentence."""
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
