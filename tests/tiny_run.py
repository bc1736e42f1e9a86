"""A tiny trained run on the digits, made once, and evaluations of it in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from trainers import trained
from typed import HEAVY, typed
from unite.checkpoints.export import write_export
from unite.checkpoints.load import load
from unite.config.recipes import recipe
from unite.config.schema import RunConfig
from unite.config.serialise import replace, to_dict
from unite.data.ingest.digits import prepare_digits
from unite.drivers.evaluate import evaluate
from unite.evaluation.arguments import EvaluateArguments, chosen_suites, readers
from unite.evaluation.chunks import Chunk
from unite.evaluation.instruments import Instruments
from unite.evaluation.request import Evaluation, open_evaluation
from unite.evaluation.results import Outcome
from unite.evaluation.suite import Task
from unite.models.unite import UNITE
from unite.storage import Store
from unite.training.setup import build_model

Evaluate = Callable[..., list[Outcome]]


@pytest.fixture(autouse=True)
def _what_is_kept_passes_its_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every chunk that any test keeps would be found whole by the next command."""
    run = Task.run

    def checked(task: Task, instruments: Instruments, chunk: Chunk) -> None:
        run(task, instruments, chunk)
        task.check_kept(chunk)

    monkeypatch.setattr(Task, "run", checked)


def train_tiny(storage: Path, **changes: Any) -> Path:
    """Train the recipe `smoke` with these fields, on digits in the storage; returns the storage."""
    prepare_digits(Store.open(storage / "data" / "digits"))
    trained(replace(recipe("smoke"), {"storage": str(storage), **changes}))
    return storage


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage folder with the digits and the run `tiny`: 8 steps of 32 images."""
    changes = {"training.epochs": 8 * 32 / 1500, "checkpoint.every_images": 256}
    return train_tiny(tmp_path_factory.mktemp("storage"), name="tiny", **changes)


@pytest.fixture
def request_of(storage: Path) -> Callable[..., Evaluation]:
    """A checked evaluation of `tiny` in this process, on pixel features."""

    def make(**changes: object) -> Evaluation:
        wanted = chosen_suites(tuple(changes.get("suite", ())))
        usual = {"num_samples": 100, "extractor": ("pixels",)}
        read = {name: value for name, value in usual.items() if set(readers()[name]) & set(wanted)}
        settings = {"num_workers": 0, **read, **changes}
        return open_evaluation(EvaluateArguments(**settings), str(storage))

    return make


@pytest.fixture
def run_suites(request_of: Callable[..., Evaluation]) -> Evaluate:
    """Evaluates and returns the outcomes."""

    def run(*suites: str, **changes: object) -> list[Outcome]:
        return evaluate(request_of(suite=suites, **changes))

    return run


@pytest.fixture
def random_export(tmp_path: Path) -> str:
    """An export of random weights, whose samples depend on their class; `tiny` has collapsed."""
    return export_of(recipe("smoke"), tmp_path)


@pytest.fixture
def separate_export(tmp_path: Path) -> str:
    """The same with two networks."""
    return export_of(replace(recipe("smoke"), {"model.sharing": "separate"}), tmp_path)


def export_of(config: RunConfig, folder: Path) -> str:
    """Random weights of a config, every one moved from its start."""
    torch.manual_seed(0)
    model = build_model(config)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    place = Store.open(folder / "export")
    write_export(model, to_dict(config), place)
    return place.uri


@pytest.fixture
def break_row(storage: Path, tmp_path: Path) -> Callable[[str, int], Path]:
    """Makes a copy of a split of the digits whose row cannot be decoded."""

    def make(split: str, row: int) -> Path:
        place = tmp_path / "broken"
        place.mkdir()
        (file,) = (storage / "data" / "digits").glob(f"{split}-*")
        table = pq.read_table(file)
        column = table.column("image").to_pylist()
        bad = b"no image"
        column[row] = {"bytes": bad, "path": None} if isinstance(column[row], dict) else bad
        images = pa.array(column, table.schema.field("image").type)
        table = table.set_column(table.schema.get_field_index("image"), "image", images)
        pq.write_table(table, place / f"{split}-00000-of-00001.parquet")
        return place

    return make


@pytest.fixture
def tiny(storage: Path) -> UNITE:
    """The trained model."""
    return load(str(storage / "tiny"))


@pytest.fixture
def data(storage: Path) -> str:
    """Folder of the digits."""
    return str(storage / "data" / "digits")


def dry_round(storage: Path, *words: str) -> str:
    """Output of a round of scheduled evaluation that only looks, without what computes it."""
    command = ["jobs/schedule_evals.py", "--dry-run", "--storage", str(storage), *words]
    done = typed(*command, heavy=HEAVY | {"scipy", "matplotlib"})
    return done.stdout + done.stderr


def value(outcome: Outcome, metric: str) -> float:
    """The number of a metric in an outcome."""
    (row,) = [row for row in outcome.rows if row.card.metric == metric]
    return row.card.value


def the_suite(evaluation: Evaluation) -> Any:
    """The generation suite of an evaluation whose reference exists by now."""
    (suite,) = [each for each in evaluation.suites if each.suite == "generation"]
    return suite.prepared(never)


def never(title: str, works: object) -> None:
    """What computes work, where all of it should be there."""
    raise AssertionError(f"{title} should have been there")
