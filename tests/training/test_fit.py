"""The cut of a step that fits a GPU: on paper for many cards, and that no cut changes a number."""

from __future__ import annotations

import itertools
import shutil

import pytest
import torch

from unite.config.effects import without_effect
from unite.config.finetune import extended
from unite.config.recipes import recipe
from unite.config.serialise import digest, flatten, replace
from unite.config.validate import validate
from unite.training import fit as fitting
from unite.training.fit import (
    Card,
    check_card,
    check_compiler,
    check_device,
    choose,
    settle,
)
from unite.training.memory import WorkerMemory, largest_micro_batch, worker_memory
from unite.training.parallelize import parallelize
from unite.training.setup import build_model
from unite.training.step import Address, TrainingStep
from unite.words import GIB

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
# GiB that a driver reports of a card sold as so many GB.
CARDS = {"24": 23.6, "40": 39.4, "80": 79.1, "141": 139.8}
# Measured on an H200 with 128 images of UNITE-B: (F, recompute, chunk) -> GiB.
MEASURED = {(14, True, 0): 44.6, (14, False, 2): 62.0, (3, True, 0): 22.3, (3, False, 0): 71.1}


def card(gib: float, **more) -> Card:
    return Card(name=f"a card of {gib:g} GiB", memory=round(gib * GIB), **more)


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "recompute", "chunk"), MEASURED)
def test_the_estimate_is_near_what_was_measured_and_never_under_it(steps, recompute, chunk) -> None:
    changes = {"flow.steps": steps, "flow.chunk": chunk, "training.batch_size": 128}
    changes["training.gradient_checkpointing"] = recompute
    needed = worker_memory(replace(recipe("unite-b"), changes)).device / GIB
    assert 1.0 <= needed / MEASURED[steps, recompute, chunk] <= 1.12


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "name",
    [
        "unite-b",
        pytest.param("unite-b-released", marks=pytest.mark.long),
        pytest.param("unite-l", marks=pytest.mark.long),
        pytest.param("unite-xl", marks=pytest.mark.long),
    ],
)
def test_a_typed_recipe_fits_every_card(name: str) -> None:
    """Each card takes no less than the smaller one, and stays below what it has to spare."""
    config, before = recipe(name), 0
    for gib in CARDS.values():
        found = choose(config, card(gib))
        cut = validate(found.config)
        assert found.needed.device <= 0.9 * gib * GIB - GIB
        assert found.needed == worker_memory(cut)
        assert found.sure == (worker_memory(cut, measured=False).device <= card(gib).usable)
        same = {name for name in flatten(config) if name not in fitting.CUT}
        assert all(flatten(cut)[name] == flatten(config)[name] for name in same)
        now = largest_micro_batch(cut) * (1 if cut.training.gradient_checkpointing else 1000)
        assert now >= before
        before = now
        assert name != "unite-b" or not cut.training.gradient_checkpointing
    if name == "unite-b":  # as it was measured to be fast
        assert (largest_micro_batch(cut), cut.flow.chunk) == (128, 2)


SMOKE = replace(recipe("smoke"), {"flow.steps": 4, "training.batch_size": 8})


def by_rows(config, *, measured: bool = True) -> WorkerMemory:
    """A worker that needs 1 GiB, and 1/8 GiB for each row of a pass; a third with recompute.

    Without the correction by measurements it is twice as much, but with recompute.
    """
    rows = largest_micro_batch(config) * (2 + (config.flow.chunk or config.flow.steps))
    recompute = config.training.gradient_checkpointing
    each = GIB // (24 if recompute else 8)
    return WorkerMemory(state=GIB, step=rows * each * (1 if measured or recompute else 2), host=0)


@pytest.fixture
def on_paper(monkeypatch):
    monkeypatch.setattr(fitting, "worker_memory", by_rows)


def cut_of(config) -> tuple[int, int, bool]:
    return largest_micro_batch(config), config.flow.chunk, config.training.gradient_checkpointing


@pytest.mark.parametrize(
    ("gib", "expected", "sure"),
    [
        (100.0, (8, 0, False), True),
        (12.0, (8, 0, False), False),  # 7 GiB on paper, 13 without the correction
        (7.0, (8, 2, False), False),
        (6.0, (8, 1, False), False),
        (5.0, (4, 2, False), False),
        (2.75, (1, 1, False), False),
        (2.43, (1, 2, True), True),
        (2.38, (1, 1, True), True),
    ],
)
def test_the_fastest_cut_that_fits_is_taken(on_paper, gib, expected, sure) -> None:
    found = choose(SMOKE, card(gib))
    assert cut_of(found.config) == expected and found.sure == sure
    words = found.describe(card(gib))
    assert ("a trial step decides" in words) != sure
    assert f"micro-batches of {expected[0]}" in words and "has to spare" in words


def test_what_was_set_stays(on_paper) -> None:
    two = replace(SMOKE, {"recipe": "smoke", "training.accumulation": 2})
    found = choose(two, card(100.0))
    assert found.config.training.accumulation == 2 and "flow.chunk" not in found.kept
    assert "as set: training.accumulation" in found.describe(card(100.0))
    recomputed = replace(SMOKE, {"training.gradient_checkpointing": True})
    assert choose(recomputed, card(100.0)).config.training.gradient_checkpointing
    chunked = replace(SMOKE, {"flow.chunk": 1})
    assert choose(chunked, card(100.0)).config.flow.chunk == 1
    as_set = replace(chunked, {"training.fit": "as_set"})
    assert choose(as_set, card(1.0)).config == as_set


def test_an_accumulation_that_is_too_small_names_one_that_fits(on_paper) -> None:
    one = replace(SMOKE, {"recipe": "qm9-tiny", "training.accumulation": 1})
    with pytest.raises(ValueError, match="training.accumulation = 1 asks for more") as raised:
        choose(one, card(2.6))
    assert "give training.micro_batch = 2" in str(raised.value)


def test_a_card_too_small_for_one_image_says_what_would_do(on_paper) -> None:
    with pytest.raises(ValueError, match="one image of recipe smoke") as raised:
        choose(SMOKE, card(2.0))
    assert "a card of 3 GiB would do" in str(raised.value)
    assert choose(SMOKE, card(2.4))


@pytest.mark.parametrize(("name", "batch"), [("cifar10", 512), ("qm9", 512), ("unite-b", 1024)])
def test_micro_batches_are_as_large_as_fills_a_card(on_paper, name, batch) -> None:
    """Counted in tokens: steps on small samples are bound by launches, so they are not cut."""
    config = replace(recipe(name), {"training.batch_size": batch, "cluster.num_workers": 1})
    cut = choose(config, card(1e6)).config
    assert largest_micro_batch(cut) == (128 if name == "unite-b" else 512)
    assert cut.flow.chunk == (2 if name == "unite-b" else 0)


def test_a_trial_step_decides_in_doubt(on_paper, monkeypatch) -> None:
    monkeypatch.setattr(Card, "of", lambda device: card(12.0))
    model, tried = build_model(SMOKE), []

    def truth(fit, *rest) -> bool:
        tried.append(cut_of(fit.config))
        return False

    monkeypatch.setattr(fitting, "_fits_in_truth", truth)
    settled = settle(SMOKE, model, None, CUDA)
    assert tried == [(8, 0, False)] and cut_of(settled) == (8, 2, False)
    monkeypatch.setattr(Card, "of", lambda device: card(2.43))
    assert cut_of(settle(SMOKE, model, None, CUDA)) == (1, 2, True)
    assert model.tokenizer.checkpoint_blocks and len(tried) == 1, "sure: nothing is tried"
    assert settle(SMOKE, model, None, CPU) is SMOKE
    tuned = extended(SMOKE)
    assert settle(tuned, model, None, CUDA) is tuned


def test_the_choice_is_no_part_of_a_runs_name() -> None:
    assert digest(recipe("unite-b")) == digest(replace(recipe("unite-b"), {"training.fit": "auto"}))
    values = flatten(recipe("digits"))
    assert "training.fit" in without_effect(values, ["training.fit"])


def gradients(config, count: int) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Mean terms and gradients of a batch in `count` micro-batches."""
    model = build_model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model = parallelize(model, config.training, CPU)
    images = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    step, terms, rows = TrainingStep(model, config, None), {}, torch.arange(8)
    for part in rows.split(8 // count):
        address = Address(seed=0, epochs_B=torch.zeros_like(part), rows_B=part)
        given = images[part], part % 10, address
        losses = step.backward(*given, flow_weight=1.0, scale=1 / count)
        for name, value in losses.terms.items():
            terms[name] = terms.get(name, 0.0) + float(value) / count
    return terms, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.fixture(scope="module")
def whole():
    return gradients(replace(SMOKE, {"flow.stop_gradient": False}), 1)


CUTS = list(itertools.product((1, 2, 0), (False, True), (1, 2, 8)))


@pytest.mark.parametrize(("chunk", "recompute", "count"), CUTS)
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_no_cut_changes_a_number(whole, chunk, recompute, count, compiled) -> None:
    """Losses and gradients, beyond the rounding of sums in another order."""
    if compiled and (not shutil.which("g++") or (chunk, count) != (2, 2)):
        pytest.skip("compiled once with and without recompute, where there is a compiler")
    changes = {
        "flow.stop_gradient": False,
        "flow.chunk": chunk,
        "training.gradient_checkpointing": recompute,
        "training.compile": compiled,
    }
    terms, found = gradients(replace(SMOKE, changes), count)
    assert terms == pytest.approx(whole[0], rel=1e-5)
    assert found.keys() == whole[1].keys()
    for name, expected in whole[1].items():
        scale = float(expected.abs().max())
        torch.testing.assert_close(found[name], expected, rtol=0, atol=2e-5 * scale + 1e-7)


def test_a_card_without_bfloat16_is_named() -> None:
    old = card(16.0, capability=(7, 5))
    with pytest.raises(ValueError, match=r"a card of 16 GiB \(compute capability 7.5\) has no"):
        check_card(recipe("unite-b"), old)
    check_card(recipe("digits"), old)  # float32
    check_card(recipe("unite-b"), card(16.0, capability=(8, 0)))


def test_compiled_blocks_without_a_compiler_name_the_package(monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    check_compiler(recipe("digits"))
    with pytest.raises(ValueError, match="needs a C.. compiler.* install the package g"):
        check_compiler(recipe("unite-b"))
    monkeypatch.setenv("CXX", shutil.which("true", path="/bin:/usr/bin"))
    check_compiler(recipe("unite-b"))


def test_a_workers_card_is_looked_at_and_a_cpu_has_none(monkeypatch) -> None:
    monkeypatch.setattr(Card, "of", lambda device: card(16.0, capability=(7, 5)))
    with pytest.raises(ValueError, match="compute capability 7.5"):
        check_device(recipe("unite-b"), torch.device("cuda"))
    check_device(recipe("unite-b"), torch.device("cpu"))
