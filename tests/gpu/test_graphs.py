"""CUDA graphs of a small model's steps, on a card."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unite.config.recipes import recipe
from unite.config.serialise import replace
from unite.data.ingest.digits import prepare_digits
from unite.data.loader import local_reader
from unite.storage import Store
from unite.tracking import Tracker
from unite.training.graphs import CHECKS, WARM_UP, CudaRecorder, GraphedStep
from unite.training.parallelize import World, parallelize
from unite.training.runs import begin, open_run
from unite.training.setup import Job, build_model, build_trainer
from unite.training.step import Address, TrainingStep

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


def graphed(name: str, count: int, broken: bool = False) -> GraphedStep:
    """A recorded step of a recipe after `count` micro-batches; `broken` waits for the device."""
    config = recipe(name)
    model = parallelize(build_model(config), config.training, CUDA)
    step = TrainingStep(model, config, None)
    if broken:
        usual = step.tokenize

        def waits(*given):
            latent_BKD = usual(*given)
            float(latent_BKD.sum())
            return latent_BKD

        step.tokenize = waits
    ours = GraphedStep(step, list(model.parameters()), CudaRecorder())
    for number in range(count):
        arrays = model.domain.example_fields(8, np.random.default_rng(number))
        fields = {key: torch.from_numpy(value).to(CUDA) for key, value in arrays.items()}
        sample, labels_B = model.domain.to_sample(fields)
        rows_B = torch.arange(8, device=CUDA) + 8 * number
        where = Address(seed=0, epochs_B=torch.zeros_like(rows_B), rows_B=rows_B)
        ours.zero_grad()
        ours.backward(sample, labels_B, where, flow_weight=1.0)
    return ours


@pytest.mark.parametrize("name", ["qm9-tiny", "mp20-tiny"])
def test_steps_of_atoms_are_recorded(name):
    ours = graphed(name, READY + 1)
    assert not ours.off and [shape.checks for shape in ours.shapes.values()] == [CHECKS]


def test_a_step_that_waits_goes_on_without_a_graph_on_the_usual_stream():
    ours = graphed("smoke", READY + 1, broken=True)
    assert ours.off and torch.cuda.current_stream() == torch.cuda.default_stream()
    torch.cuda.empty_cache()
    buffers = list(ours.buffers.values())
    assert buffers and all(bool(torch.isfinite(buffer).all()) for buffer in buffers)
