"""A tiny trained run on the digits, made once, and evaluations of it in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from unite.cluster.evaluate import Evaluation, evaluate, prepare
from unite.config.recipes import recipe
from unite.config.serialise import replace
from unite.data.ingest.digits import prepare_digits
from unite.data.loader import local_reader
from unite.evaluation.arguments import READERS, EvaluateArguments, chosen_suites
from unite.evaluation.results import Outcome
from unite.storage import Store
from unite.tracking import NullTracker
from unite.training.parallelize import World
from unite.training.runs import begin, open_run
from unite.training.setup import Job, build_trainer

Evaluate = Callable[..., list[Outcome]]


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage folder with the digits and the run `tiny`: 8 steps of 32 images."""
    place = tmp_path_factory.mktemp("storage")
    prepare_digits(Store.open(place / "data" / "digits"))
    changes = {
        "storage": str(place),
        "name": "tiny",
        "training.epochs": 8 * 32 / 1500,
        "checkpoint.every_images": 256,
    }
    run = open_run(replace(recipe("smoke"), changes))
    begin(run)
    trainer = build_trainer(
        Job(config=run.config, folder=run.folder), World(), NullTracker(), local_reader
    )
    trainer.run()
    trainer.stream.close()
    return place


@pytest.fixture
def request_of(storage: Path) -> Callable[..., Evaluation]:
    """A checked evaluation of `tiny` in this process, on pixel features."""

    def make(**changes: object) -> Evaluation:
        wanted = chosen_suites(tuple(changes.get("suite", ())))
        usual = {"num_samples": 100, "extractor": ("pixels",)}
        read = {name: value for name, value in usual.items() if set(READERS[name]) & set(wanted)}
        settings = {"num_workers": 0, **read, **changes}
        return prepare(EvaluateArguments(**settings), str(storage))

    return make


@pytest.fixture
def run_suites(request_of: Callable[..., Evaluation]) -> Evaluate:
    """Evaluates and returns the outcomes."""

    def run(*suites: str, **changes: object) -> list[Outcome]:
        return evaluate(request_of(suite=suites, **changes), Console(quiet=True))

    return run
