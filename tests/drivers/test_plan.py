"""The plan of a training run and what its dry run checks, without Ray."""

import dataclasses
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from unite.cluster import connect
from unite.cluster.connect import CapacityError
from unite.config.recipes import recipe
from unite.config.serialise import replace
from unite.data.manifest import ShardError
from unite.drivers import plan as plans
from unite.drivers.plan import GIB, describe_memory, dry_run, memory_warnings, print_plan
from unite.models import UNITE
from unite.storage import Store
from unite.training.memory import WorkerMemory
from unite.training.runs import Run
from unite.training.setup import build_model
from unite.training.timings import Timings, rate_name

NEEDED = WorkerMemory(state=1 * GIB, step=4 * GIB, host=2 * GIB)


def write(folder, file: str, labels: list[int], cell: bytes | None = None) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(stream, "PNG")
    cells = [stream.getvalue() if cell is None else cell] * len(labels)
    pq.write_table(pa.table({"img": cells, "label": labels}), folder / file)


@pytest.fixture
def run(tmp_path) -> Run:
    write(tmp_path, "train-0.parquet", [0, 1, 2] * 20)
    write(tmp_path, "train-1.parquet", [0, 1, 2])
    write(tmp_path, "test-0.parquet", [0])
    changes = {"data.train": str(tmp_path), "storage": str(tmp_path / "runs"), "name": "a"}
    config = replace(recipe("cifar10-small"), changes)
    return Run(config=config, folder=Store.open(tmp_path / "runs" / "a"))


@pytest.fixture(autouse=True)
def alone(monkeypatch) -> None:
    """No cluster, two cores, and steps that take no time to measure."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(plans, "reachable_nodes", lambda: [{"CPU": 2.0, "GPU": 0.0}])
    monkeypatch.setattr(plans, "measure_rate", lambda config, threads: 1e9)
    monkeypatch.setattr(plans, "worker_memory", lambda config: NEEDED)
    monkeypatch.setattr(plans, "machine_memory", lambda: 64 * GIB)


def test_the_plan_counts_parameters_and_flops_and_warns_of_classes(run, capsys) -> None:
    print_plan(run)
    said = capsys.readouterr().out
    model: UNITE = build_model(run.config)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert f"{trained:,} trained" in said
    assert "GFLOP per image" in said and "columns: image from img" in said
    assert "7 of the 10 classes of domain.num_classes never occur" in said
    assert "(starts afresh)" in said


def test_the_plan_tells_the_time_of_earlier_runs(run, capsys) -> None:
    print_plan(run)
    assert "\ntime" not in capsys.readouterr().out
    Timings(Store.open(run.config.storage)).add({rate_name(run.config): 1e10})
    print_plan(run)
    assert "from 1 earlier run of cifar10-small on this machine" in capsys.readouterr().out


def test_a_finished_run_says_so(run, capsys) -> None:
    images = 64 * 1000
    done = dataclasses.replace(run, resume_from=run.folder / f"checkpoints/{images:012d}")
    print_plan(done)
    assert "finished, nothing is left to train: add --resume never" in capsys.readouterr().out


def test_the_dry_run_looks_at_shards_memory_time_and_workers(run, capsys) -> None:
    dry_run(run)
    said = capsys.readouterr().out
    assert "train: 2 shards, a row of each decoded" in said
    assert "eval: 1 shard, a row of each decoded" in said
    assert "about 7 GiB per worker (1 GiB state, 4 GiB step)" in said
    assert "from a few steps timed now" in said
    assert "1 worker on this machine (2 CPUs, 0 GPUs); CPUs per worker: 1" in said
    assert "warning" not in said


def test_the_dry_run_finds_a_later_shard_that_holds_no_images(run, tmp_path) -> None:
    write(tmp_path, "train-1.parquet", [0, 1], cell=b"no image")
    with pytest.raises(ShardError, match="train-1.parquet: none of its first 2 rows"):
        dry_run(run)


def test_the_dry_run_refuses_more_workers_than_fit(run, capsys) -> None:
    many = dataclasses.replace(run, config=replace(run.config, {"cluster.num_workers": 8}))
    with pytest.raises(CapacityError, match="8 workers at .* but the cluster has 2 CPUs"):
        dry_run(many)
    patient = dataclasses.replace(many, config=replace(many.config, {"cluster.wait_s": 60.0}))
    dry_run(patient)
    assert "it would wait up to 60 s for a larger cluster: 8 workers" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "machine", "gpu", "said"),
    [
        ({}, 10 * GIB, 0, []),
        ({}, 8 * GIB, 0, ["1 worker and the driver need about 9 GiB of main memory"]),
        ({"cluster.num_workers": 2}, 10 * GIB, 0, ["2 workers and the driver need about 16 GiB"]),
        ({"cluster.use_gpu": True}, 5 * GIB, 6 * GIB, []),
        ({"cluster.use_gpu": True}, 5 * GIB, 0, []),
        ({"cluster.use_gpu": True}, 5 * GIB, 4 * GIB, ["needs about 5 GiB of its GPU"]),
    ],
)
def test_workers_that_do_not_fit_into_the_machine_are_warned_of(changes, machine, gpu, said):
    config = replace(recipe("cifar10-small"), changes)
    found = list(memory_warnings(config, NEEDED, machine, gpu))
    assert len(found) == len(said) and all(a in b for a, b in zip(said, found, strict=True))
    assert "GiB" in describe_memory(config, NEEDED)


def test_only_a_gpu_that_trains_decides_on_the_cut(monkeypatch) -> None:
    """A laptop's card of 2 GiB does not refuse what a cluster's cards are to train."""
    monkeypatch.setattr(plans.torch.cuda, "is_available", lambda: True)
    small = plans.Card(name="a small card", memory=2 * GIB)
    monkeypatch.setattr(plans.Card, "of", lambda device: small)
    config = replace(recipe("unite-b"), {"cluster.use_gpu": True})
    with pytest.raises(ValueError, match="a small card has"):
        plans.describe_cut(config)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert "each worker cuts it" in plans.describe_cut(config)
    assert plans._as_cut(config) == config


def test_a_cluster_is_private_unless_it_is_named(monkeypatch) -> None:
    assert connect.is_private()
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert not connect.is_private()
