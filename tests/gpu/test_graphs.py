"""CUDA graphs of a small model's steps, on a card."""

from __future__ import annotations

import pytest
import torch

from unite.config.recipes import recipe
from unite.config.serialise import replace
from unite.data.ingest.digits import prepare_digits
from unite.data.loader import local_reader
from unite.storage import Store
from unite.tracking import Tracker
from unite.training.graphs import CHECKS, WARM_UP
from unite.training.parallelize import World
from unite.training.runs import begin, open_run
from unite.training.setup import Job, build_trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CUDA = torch.device("cuda")
READY = WARM_UP + CHECKS + 1
"""Steps after which the graph is replayed by itself."""


@pytest.fixture
def make(tmp_path):
    """Makes trainers, each of a run of its own."""
    prepare_digits(Store.open(tmp_path / "data" / "digits"))
    made = []

    def trainer(**fields):
        changes = {f"training.{name}": value for name, value in fields.items()}
        changes |= {"storage": str(tmp_path), "name": f"run-{len(made)}"}
        changes |= {"training.log_every_steps": 1_000, "checkpoint.every_images": 10**9}
        run = open_run(replace(recipe("smoke"), {**changes, "evaluation.every_images": 10**9}))
        begin(run)
        made.append(build_trainer(Job.of(run), World(device=CUDA), Tracker(), local_reader))
        return made[-1]

    yield trainer
    for each in made:
        each.stream.close()


def steps(trainer, count: int) -> None:
    for _ in range(count):
        trainer.train_step(next(trainer.stream))
        trainer.images += trainer.plan.batch_size


@pytest.mark.parametrize(
    "fields",
    [{}, {"precision": "bfloat16", "compile": True}, {"accumulation": 2}],
    ids=["float32", "bfloat16, compiled", "micro-batches"],
)
def test_a_graph_is_recorded_and_trains_to_the_bit_as_without(make, fields):
    with_graphs, without = make(**fields), make(**fields, graphs="off")
    for trainer in (with_graphs, without):
        steps(trainer, READY + 6)
    graphs = with_graphs.objective.graphs
    assert not graphs.off and without.objective.graphs is None
    assert [shape.checks for shape in graphs.shapes.values()] == [CHECKS]
    for name, weight in without.model.state_dict().items():
        # The flow's weight is a float32 tensor in a graph: gradients differ by its rounding.
        torch.testing.assert_close(with_graphs.model.state_dict()[name], weight, rtol=0, atol=2e-3)


def test_a_replayed_step_does_not_wait_for_the_device(make, without_waits):
    trainer = make()
    steps(trainer, READY + 1)
    batch = next(trainer.stream)
    with without_waits():
        trainer.train_step(batch)
    assert not trainer.objective.graphs.off
