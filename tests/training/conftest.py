"""A tiny run on the built-in digits in this process: no Ray, no MLflow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from unite.config.recipes import recipe
from unite.config.schema import RunConfig
from unite.config.serialise import replace
from unite.data.ingest.digits import prepare_digits
from unite.data.loader import local_reader
from unite.storage import Store
from unite.tracking import Tracker
from unite.training.loop import Trainer
from unite.training.parallelize import World
from unite.training.runs import begin, open_run
from unite.training.setup import Job, build_trainer

MakeTrainer = Callable[..., Trainer]


@pytest.fixture(scope="session")
def digits_storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage folder that already holds the digits."""
    storage = tmp_path_factory.mktemp("storage")
    prepare_digits(Store.open(storage / "data" / "digits"))
    return storage


@pytest.fixture
def smoke(digits_storage: Path, tmp_path: Path) -> RunConfig:
    """The smoke recipe: 8 steps of 32 images, checkpoints every 2, digits shared by all tests."""
    (tmp_path / "data").symlink_to(digits_storage / "data")
    changes = {
        "storage": str(tmp_path),
        "training.epochs": 8 * 32 / 1500,
        "checkpoint.every_images": 64,
        "checkpoint.keep_last": 10,
        "evaluation.every_images": 1_000_000,
    }
    return replace(recipe("smoke"), changes)


@pytest.fixture
def make_trainer() -> MakeTrainer:
    """Builds a trainer for a config, continuing its run when one exists."""
    made: list[Trainer] = []

    def make(config: RunConfig, **options: object) -> Trainer:
        run = open_run(config, **options)  # type: ignore[arg-type]
        begin(run)
        job = Job(config=run.config, folder=run.folder, resume_from=run.resume_from)
        made.append(build_trainer(job, World(), Tracker(), local_reader))
        return made[-1]

    yield make
    for trainer in made:
        trainer.stream.close()
