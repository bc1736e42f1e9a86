"""Gradients that leave with the last backward pass, and Muon shared by ranks, on real gloo ranks.

The sums of several ranks are added in another order than one rank adds them: weights agree to
rounding between numbers of ranks, and to the bit between ranks and ways of the same number.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from unite.training.exchange import GradientExchange
from unite.training.muon import Muon, _stack_shape, _stacks
from unite.training.parallelize import World
from unite.training.shares import owners_of

SCRIPT = Path(__file__).with_name("ranks.py")
STEPS = 2
FOUR = pytest.param(4, marks=pytest.mark.long)
"""Ranks on two cores; a step of four is also in what goes on from two."""


class Ranks:
    """Runs of ranks, each made once, by one process that has imported torch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: set[tuple[str, int]] = set()
        self.errors = folder / "errors.txt"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(SCRIPT), str(folder)],
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def state(self, name: str, size: int, rank: int = 0, step: int = STEPS, **options: Any) -> dict:
        if (name, size) not in self.made:
            self._run({"name": name, "size": size, "steps": STEPS, "changes": {}, **options})
            self.made.add((name, size))
        path = self.folder / f"{name}-{size}-{rank}-{step}.pt"
        return torch.load(path, weights_only=True)

    def _run(self, options: dict) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps(options), file=self.process.stdin, flush=True)
        codes = self.process.stdout.readline().split()
        assert codes == ["0"] * options["size"], self.errors.read_text()[-3000:]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> Iterator[Ranks]:
    ranks = Ranks(tmp_path_factory.mktemp("ranks"))
    yield ranks
    ranks.process.communicate(timeout=60)


def tensors(state: dict) -> dict[str, torch.Tensor]:
    return {f"{k}.{n}": v for k in ("model", "optimizer") for n, v in state[k].items()}


def same(one: dict, other: dict) -> None:
    first, second = tensors(one), tensors(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


GRADIENT = 1e-4
"""Share of a tensor's largest value by which sums in another order may differ: float32's unit
times a cancellation of a thousand."""
UPDATE = 2 * 1e-3 * 1.2
"""Difference that one step at lr 1e-3 may make to a weight: both updates have their size whatever
the gradient's, so that where that is rounding alone (a direction that Newton-Schulz blows up in
bfloat16, a sign of AdamW) one may be the other's opposite."""


def close(one: dict, other: dict) -> None:
    """States after a step from the same weights and state: what the optimisers remember agrees to
    rounding of the gradients, and no weight is further off than a step."""
    first, second = tensors(one), tensors(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        if name.startswith("optimizer."):
            atol = GRADIENT * float(value.abs().max())
        else:
            atol = UPDATE * max(1.0, 0.2 * max(value.shape, default=1) ** 0.5)
        torch.testing.assert_close(second[name], value, rtol=0, atol=atol, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, FOUR])
def test_ranks_train_what_one_rank_trains(ranks: Ranks, size: int) -> None:
    together = ranks.state("plain", size)
    close(ranks.state("plain", 1, step=1), ranks.state("plain", size, step=1))
    for rank in range(1, size):
        same(together, ranks.state("plain", size, rank))
    early, buckets = together["sent"].tolist()
    assert buckets > 4 and early > buckets / 2, "most left while the pass still ran"


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, FOUR])
def test_a_shared_muon_is_that_of_every_rank_to_the_bit(ranks: Ranks, size: int) -> None:
    same(ranks.state("plain", size), ranks.state("replicated", size, sharded=False))


@pytest.mark.slow
def test_micro_batches_exchange_once_and_change_nothing_but_rounding(ranks: Ranks) -> None:
    whole, cut = ranks.state("plain", 2, step=1), ranks.state("micro", 2, step=1, count=2)
    close(whole, cut)


@pytest.mark.slow
def test_gradients_are_summed_in_bfloat16_where_asked(ranks: Ranks) -> None:
    low = ranks.state("low", 2, changes={"training.exchange": "bfloat16"})
    full = ranks.state("plain", 2)
    same(low, ranks.state("low", 2, rank=1))
    moments = {n: v for n, v in tensors(full).items() if "momentum_buffer" in n}
    found = tensors(low)
    assert any(not torch.equal(found[name], value) for name, value in moments.items())
    for name, value in moments.items():
        error = (found[name] - value).norm() / value.norm().clamp_min(1e-12)
        assert error < 0.05, name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"), [(2, 4), pytest.param(4, 1, marks=pytest.mark.long), (1, 2)]
)
def test_another_number_of_ranks_goes_on_with_the_same_state(ranks, before, after) -> None:
    """The step after is that of ranks which had the state from the start."""
    ranks.state("plain", before)
    file = str(ranks.folder / f"plain-{before}-0-1.pt")
    found = ranks.state(f"from{before}", after, load=file)
    close(ranks.state("plain", before), found)
    if before == 1:
        same(found, ranks.state("again", after, load=file, sharded=False))


def test_stacks_do_not_depend_on_the_ranks_and_are_shared_evenly(monkeypatch) -> None:
    monkeypatch.setattr("unite.training.muon.STACK_VALUES", 3 * 8 * 24)
    parameters = [torch.empty(shape) for shape in [(8, 24)] * 5 + [(24, 8)] * 3 + [(16, 16)]]
    stacks = _stacks(parameters)
    assert stacks == [[0, 1, 2], [3, 4, 5], [6, 7], [8]]
    shapes = [_stack_shape([parameters[i] for i in stack]) for stack in stacks]
    assert shapes == [(3, 8, 24), (3, 8, 24), (2, 8, 24), (1, 16, 16)]
    assert sorted(owners_of(shapes, 4)) == [0, 1, 2, 3]
    assert owners_of(shapes, 2) == [1, 1, 0, 0], "the largest, then to whom has least to do"
    assert owners_of(shapes, 1) == [0, 0, 0, 0]


def test_stacks_of_any_size_give_the_same_update(monkeypatch) -> None:
    """Up to what a product rounds by the number of matrices beside it."""
    found = []
    for values in (1, 2**23):
        monkeypatch.setattr("unite.training.muon.STACK_VALUES", values)
        torch.manual_seed(0)
        given = [torch.nn.Parameter(torch.randn(8, 24)) for _ in range(3)]
        for parameter in given:
            parameter.grad = torch.randn(8, 24)
        Muon(given, lr=0.02).step()
        found.append(torch.stack([p.detach() for p in given]))
    torch.testing.assert_close(*found, rtol=0, atol=0.02 * torch.finfo(torch.bfloat16).eps)


def test_a_mean_without_a_last_pass_is_an_error() -> None:
    exchange = GradientExchange([torch.nn.Parameter(torch.ones(2))], World(size=2))
    with pytest.raises(RuntimeError, match="no last pass was announced"):
        exchange.finish()
