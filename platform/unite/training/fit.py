"""Fit of a training step to the memory of a GPU: chunk, recompute and micro-batch (accumulation).

A run says what is computed; how a step is cut changes its numbers by rounding alone. With
`training.fit` auto, the fields of `CUT` that stand as the recipe has them are chosen for the card:
no recompute before recompute, then the largest micro-batch, then the largest chunk, whichever fits
first. Fields that were set stay as they are.

Bytes are those of `memory.worker_memory`, which traces a step on the meta device, corrected by what
compiled steps of UNITE-B were measured to need (MEASURED): fused blocks keep less than the trace.
Where even the trace without that correction fits, the choice is sure; else one step at the chosen
cut is tried before training, and the next one down is taken if the memory does not suffice.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from unite.config.finetune import FinetuneRunConfig
from unite.config.recipes import names, recipe
from unite.config.schema import RunConfig
from unite.config.serialise import flatten, replace
from unite.config.workers import sizes
from unite.domains import build_domain
from unite.models.kernels.choose import BF16_CAPABILITY
from unite.models.unite import UNITE
from unite.training.graphs import is_small
from unite.training.memory import WorkerMemory, largest_micro_batch, worker_memory
from unite.training.step import Address, TrainingStep
from unite.words import GIB

logger = logging.getLogger(__name__)

CHUNK, RECOMPUTE = "flow.chunk", "training.gradient_checkpointing"
ACCUMULATION, MICRO_BATCH = "training.accumulation", "training.micro_batch"
CUT = (CHUNK, RECOMPUTE, ACCUMULATION, MICRO_BATCH)
"""Fields that decide, of which the accumulation follows from the micro-batch that is chosen."""
FULL_TOKENS = 2**16
"""Tokens of a tokenization pass, registers and the samples' own, that fill a card: more at once are
not faster. 128 images of UNITE-B, 512 of 32 x 32 pixels, whose step is bound by launches."""
FULL_REGISTERS = 2**17
"""Registers of a pass of the flow that fill a card: 512 rows of UNITE-B."""
USABLE = 0.9
"""Share of a card's memory that is counted on: the rest is lost between blocks of memory."""
CONTEXT_BYTES = GIB
"""Memory of the driver, its libraries and the compiled code."""
FULL = 0.97
"""Share of the memory that a tried step may have reached at its peak."""
COMPILERS = ("g++", "clang++", "c++")


@dataclass(frozen=True, kw_only=True)
class Card:
    """A device to train on."""

    name: str
    memory: int
    """Bytes in all."""
    capability: tuple[int, int] = (9, 0)
    """Version of its architecture."""

    @classmethod
    def of(cls, device: torch.device) -> Card:
        """A CUDA device of this process."""
        properties = torch.cuda.get_device_properties(device)
        return cls(
            name=properties.name,
            memory=properties.total_memory,
            capability=(properties.major, properties.minor),
        )

    @property
    def usable(self) -> int:
        """Bytes that a run may count on."""
        return round(USABLE * self.memory) - CONTEXT_BYTES


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A config that fits a card."""

    config: RunConfig
    needed: WorkerMemory
    sure: bool
    """True if it fits without the correction by measurements, too."""
    kept: tuple[str, ...] = ()
    """Fields that were set and stayed."""

    def describe(self, card: Card) -> str:
        """The choice and its reason in one line."""
        flow, training = self.config.flow, self.config.training
        words = [
            f"micro-batches of {largest_micro_batch(self.config)}",
            "recompute" if training.gradient_checkpointing else "no recompute",
            f"{flow.chunk or flow.steps} of {flow.steps} noisings at once",
            "compiled" if training.compile else "eager",
            *(["CUDA graphs"] if is_small(training, self.needed.step, card.memory) else []),
        ]
        why = (
            f"about {self.needed.device / GIB:.3g} GiB of the {card.usable / GIB:.3g} that "
            f"{card.name} has to spare"
        )
        if not self.sure:
            why += "; a trial step decides"
        if self.kept:
            why += f"; as set: {', '.join(self.kept)}"
        return f"{', '.join(words)} ({why})"


def fits(config: RunConfig) -> bool:
    """True if a config's cut is to be chosen; fine-tuning has passes of its own, and keeps it."""
    return config.training.fit == "auto" and not isinstance(config, FinetuneRunConfig)


def choose(config: RunConfig, card: Card) -> Fit:
    """The first cut that fits; ValueError, which says what would do, when none does."""
    for fit in candidates(config, card):
        return fit
    raise _too_large(config, card)


def candidates(config: RunConfig, card: Card) -> Iterator[Fit]:
    """Cuts that fit a card, the fastest first. A config that is not to be cut is the only one."""
    if not fits(config):
        yield Fit(config=config, needed=worker_memory(config), sure=True)
        return
    kept = set_by_user(config)
    for cut in _cuts(config, kept):
        needed = worker_memory(cut)
        if needed.device <= card.usable:
            traced = worker_memory(cut, measured=False)
            sure = traced.device <= card.usable
            yield Fit(config=cut, needed=needed, sure=sure, kept=kept)


def set_by_user(config: RunConfig) -> tuple[str, ...]:
    """Fields of CUT that are not as in the recipe."""
    if config.recipe not in names():
        return CUT
    usual, mine = flatten(recipe(config.recipe)), flatten(config)
    return tuple(name for name in CUT if mine[name] != usual[name])


def _cuts(config: RunConfig, kept: tuple[str, ...]) -> Iterator[RunConfig]:
    """Configs from the fastest cut to the smallest."""
    flow, training, registers = config.flow, config.training, config.model.num_registers
    typed = largest_micro_batch(config)
    share = training.batch_size // sizes(config.cluster, training.batch_size)[-1]
    tokens = registers + build_domain(config.domain).num_tokens(config.model)
    full = [n for n in _divisors(share) if n * tokens <= FULL_TOKENS] or [1]
    as_set = not {ACCUMULATION, MICRO_BATCH}.isdisjoint(kept)
    given = training.gradient_checkpointing
    for recompute in [given] if RECOMPUTE in kept else [False, True]:
        for micro in [typed] if as_set else full:
            for chunk in [flow.chunk or flow.steps] if CHUNK in kept else _divisors(flow.steps):
                large = micro * chunk * registers > FULL_REGISTERS
                if chunk > 1 and large and CHUNK not in kept:
                    continue
                changes = {CHUNK: 0 if chunk == flow.steps else chunk, RECOMPUTE: recompute}
                if micro != typed:
                    changes[MICRO_BATCH] = micro
                yield replace(config, changes)


def _divisors(number: int) -> list[int]:
    """Divisors, the largest first."""
    return [n for n in range(number, 0, -1) if number % n == 0]


def _too_large(config: RunConfig, card: Card) -> ValueError:
    """The error when nothing fits: what is too large, and what would do."""
    kept = set_by_user(config)
    smallest = worker_memory(list(_cuts(config, ()))[-1]).device
    free = next(candidates(replace(config, _as_in_recipe(config)), card), None) if kept else None
    if free is not None:
        wish = ", ".join(f"{name} = {flatten(config)[name]}" for name in kept)
        return ValueError(
            f"{wish} asks for more memory than {card.name} has to spare ({card.usable / GIB:.3g} "
            f"GiB): micro-batches of {largest_micro_batch(config)} need about "
            f"{worker_memory(list(_cuts(config, kept))[-1]).device / GIB:.3g}. Leave it out, and "
            f"{free.describe(card)} is chosen, or give {MICRO_BATCH} = "
            f"{largest_micro_batch(free.config)}"
        )
    least = (smallest + CONTEXT_BYTES) / USABLE / GIB
    return ValueError(
        f"one image of recipe {config.recipe} at a time, with recompute, needs about "
        f"{smallest / GIB:.3g} GiB, and {card.name} has {card.usable / GIB:.3g} of "
        f"{card.memory / GIB:.3g} to spare: a card of {math.ceil(least)} GiB would do, or a "
        "smaller model (model.encoder.depth, model.encoder.width)"
    )


def _as_in_recipe(config: RunConfig) -> dict[str, Any]:
    usual = flatten(recipe(config.recipe))
    return {name: usual[name] for name in set_by_user(config)}


def check_card(config: RunConfig, card: Card) -> None:
    """ValueError for a precision that a card lacks."""
    if config.training.precision == "bfloat16" and card.capability < BF16_CAPABILITY:
        major, minor = card.capability
        raise ValueError(
            f"training.precision = bfloat16: {card.name} (compute capability {major}.{minor}) has "
            "no matrix products in bfloat16, which came with 8.0: give --training.precision "
            "float32, or train on a newer card"
        )


def check_compiler(config: RunConfig) -> None:
    """ValueError when blocks are to be compiled and there is no C++ compiler."""
    named = os.environ.get("CXX", "")
    if not config.training.compile or any(map(shutil.which, filter(None, (named, *COMPILERS)))):
        return
    raise ValueError(
        "training.compile = True needs a C++ compiler, and none of "
        f"{', '.join(filter(None, (named, *COMPILERS)))} is here: install the package g++ (Debian, "
        "Ubuntu: apt-get install g++; Fedora: gcc-c++), or name one in CXX, or give "
        "--training.compile False"
    )


def check_device(config: RunConfig, device: torch.device) -> None:
    """ValueError when a worker's device, or its compiler, lacks what a run asks for."""
    check_compiler(config)
    if device.type == "cuda":
        check_card(config, Card.of(device))


def settle(config: RunConfig, model: UNITE, perceptual: Any, device: torch.device) -> RunConfig:
    """The config that a worker trains with on its device; `model` is on it, ready for steps.

    On a GPU the first of the candidates whose trial step fits. ValueError when none does.
    """
    if device.type != "cuda" or not fits(config):
        return config
    card = Card.of(device)
    for fit in candidates(config, card):
        if fit.sure or _fits_in_truth(fit, model, perceptual, card, device):
            apply(fit.config, model)
            logger.info("%s", fit.describe(card))
            return fit.config
        logger.warning("a trial step did not fit: %s", fit.describe(card))
    raise _too_large(config, card)


def apply(config: RunConfig, model: UNITE) -> None:
    """Let the model's blocks recompute as a config says."""
    for encoder in {model.tokenizer, model.denoiser}:
        encoder.checkpoint_blocks = config.training.gradient_checkpointing


def _fits_in_truth(
    fit: Fit, model: UNITE, perceptual: Any, card: Card, device: torch.device
) -> bool:
    """True if the memory suffices for one step on invented samples. It leaves no gradient."""
    apply(fit.config, model)
    torch.cuda.reset_peak_memory_stats(device)
    try:
        trial_step(fit.config, model, perceptual, device)
    except torch.OutOfMemoryError:
        return False
    finally:
        model.zero_grad(set_to_none=True)
        gc.collect()
        torch.cuda.empty_cache()
    # Weights and gradients were there; their average and the moments are still to come.
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    peak = torch.cuda.max_memory_allocated(device) + fit.needed.state - weights
    return peak + CONTEXT_BYTES <= FULL * card.memory


def trial_step(config: RunConfig, model: UNITE, perceptual: Any, device: torch.device) -> None:
    """Gradients of a micro-batch of the most registers that the domain invents."""
    domain, size = build_domain(config.domain), largest_micro_batch(config)
    arrays = domain.example_fields(size, np.random.default_rng(0))
    fields = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    sample, labels_B = model.domain.to_sample(fields)
    rows_B = torch.arange(size, device=device)
    address = Address(seed=0, epochs_B=torch.zeros_like(rows_B), rows_B=rows_B)
    step = TrainingStep(model, config, perceptual)
    step.backward(sample, labels_B, address, flow_weight=1.0)
