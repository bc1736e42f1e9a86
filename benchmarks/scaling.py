"""Many GPUs on paper: python benchmarks/scaling.py prints the table of docs/scaling.md

For UNITE-B with 1,024 images a step, F = 14, bfloat16: time of a step's parts on 1 to 256 GPUs for
links of several rates, how much of the exchange hides behind the last backward pass, and the share
of linear scaling that is left. Nothing here was measured on more than one GPU. Measured on one H200
(2026-11-26): images per second, Newton-Schulz, the other parts of the optimisers; counted: FLOPs,
parameters, bytes, stacks of matrices.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import torch

from unite.config.recipes import recipe
from unite.config.schema import RunConfig
from unite.config.serialise import replace
from unite.domains import build_domain
from unite.models.groups import optimizer_group
from unite.models.unite import UNITE
from unite.training.flops import training_flops
from unite.training.muon import _stack_shape, _stacks
from unite.training.shares import owners_of

GPUS = (1, 8, 16, 64, 256)
NODE = 8
"""GPUs that NVLink connects."""
NVLINK = 300e9
"""Bytes per second and direction that an all-reduce reaches of NVLink's 450."""
LINKS = {"400 Gb/s": 50e9, "100 Gb/s": 12.5e9}
"""Bytes per second of each GPU's own link out of its node."""
BATCH = 1024
IMAGES_PER_S = 123.9
NEWTON_SCHULZ_S, OTHERS_S = 15.5e-3, 3.2e-3
"""Seconds of Newton-Schulz over all matrices, and of AdamW, clipping and averaging."""
LARGEST_MICRO_BATCH = 128
COLUMNS = (
    *("GPUs", "link out of a node", "images per GPU", "compute, ms", "all-reduce, ms"),
    *("of it hidden", "Newton-Schulz, ms", "all-gather, ms", "step, ms", "images/s"),
    *("efficiency", "with replicated Muon", "with bfloat16 exchange"),
)


@dataclass(frozen=True, kw_only=True)
class Size:
    """Figures of a model."""

    gradient_bytes: int
    """Bytes of float32 gradients."""
    matrix_bytes: int
    """Bytes of orthogonalised updates in bfloat16."""
    shapes: list[tuple[int, int, int]]
    """Stacks of matrices."""
    last_pass: float
    """Share of a step's FLOPs in the last backward pass: tokenizer, decoder and LPIPS."""


def size_of(config: RunConfig) -> Size:
    """Figures of a recipe's model."""
    with torch.device("meta"):
        model = UNITE(config.model, build_domain(config.domain), config.flow)
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    matrices: list[torch.Tensor] = [p for n, p in named if optimizer_group(n, p) == "muon"]
    flops = training_flops(config)
    back = sum(term.backward for name, term in flops.terms.items() if name != "denoise")
    return Size(
        gradient_bytes=4 * sum(p.numel() for _, p in named),
        matrix_bytes=2 * sum(p.numel() for p in matrices),
        shapes=[_stack_shape([matrices[i] for i in stack]) for stack in _stacks(matrices)],
        last_pass=back / flops.model,
    )


def busiest_share(shapes: list[tuple[int, int, int]], world: int) -> float:
    """Share of Newton-Schulz that the busiest of so many ranks computes."""
    costs = [count * rows * rows * (2 * columns + rows) for count, rows, columns in shapes]
    owners = owners_of(shapes, world)
    return max(
        sum(c for c, owner in zip(costs, owners, strict=True) if owner == rank)
        for rank in set(owners)
    ) / sum(costs)


@dataclass(frozen=True, kw_only=True)
class Step:
    """Seconds of a step's parts."""

    compute: float
    exchange: float
    """All-reduce of the gradients."""
    window: float
    """Last backward pass, behind which it can hide."""
    muon: float
    """Newton-Schulz of the busiest rank."""
    gather: float
    """All-gather of its results."""

    @property
    def hidden(self) -> float:
        return min(self.exchange, self.window)

    @property
    def total(self) -> float:
        exposed = self.exchange - self.hidden
        return self.compute + exposed + self.muon + self.gather + OTHERS_S


def step(size: Size, gpus: int, link: float, *, width: int = 4, shared: bool = True) -> Step:
    """A step on so many GPUs; `width` bytes per exchanged gradient, Muon `shared` or on every one.

    Inside a node the ring runs over NVLink. Beyond it each GPU reduces an eighth of the bytes over
    its own link, as NCCL's rings do.
    """
    local = BATCH // gpus
    compute = local / IMAGES_PER_S
    last = min(local, LARGEST_MICRO_BATCH) / IMAGES_PER_S * size.last_pass
    exchange = gather = 0.0
    if gpus > 1:
        sent, updates = size.gradient_bytes * width / 4, size.matrix_bytes
        inside, nodes = min(gpus, NODE), math.ceil(gpus / NODE)
        exchange = 2 * (inside - 1) / inside * sent / NVLINK
        exchange += 2 * (nodes - 1) / nodes * sent / inside / link
        gather = (inside - 1) / inside * updates / NVLINK
        gather += (nodes - 1) / nodes * updates / inside / link
    share = busiest_share(size.shapes, gpus) if shared else 1.0
    return Step(
        compute=compute,
        exchange=exchange,
        window=last,
        muon=NEWTON_SCHULZ_S * share,
        gather=gather if shared else 0.0,
    )


def table(size: Size) -> Iterator[str]:
    """Rows for every number of GPUs and link."""
    yield "| " + " | ".join(COLUMNS) + " |"
    yield "|" + " --- |" * len(COLUMNS)
    alone = step(size, 1, 1.0).total
    for gpus in GPUS:
        for name, rate in LINKS.items() if gpus > NODE else {"-": 1.0}.items():
            one = step(size, gpus, rate)
            others = step(size, gpus, rate, shared=False), step(size, gpus, rate, width=2)
            shares = [alone / (gpus * each.total) for each in (one, *others)]
            hidden = f"{one.hidden / one.exchange:.0%}" if one.exchange else "-"
            numbers = [one.compute, one.exchange, one.muon, one.gather, one.total]
            compute, exchange, muon, gather, total = (f"{1e3 * n:.1f}" for n in numbers)
            yield (
                f"| {gpus} | {name} | {BATCH // gpus} | {compute} | {exchange} | {hidden} | {muon} "
                f"| {gather} | {total} | {BATCH / one.total:.0f} | "
                + " | ".join(f"{share:.1%}" for share in shares)
                + " |"
            )


def main() -> None:
    """Print what the table rests on, and the table."""
    size = size_of(replace(recipe("unite-b"), {"training.gradient_checkpointing": False}))
    print(
        f"Gradients {size.gradient_bytes / 1e9:.2f} GB, updates "
        f"{size.matrix_bytes / 1e9:.2f} GB in {len(size.shapes)} stacks, last backward pass "
        f"{size.last_pass:.1%} of a step.\n"
    )
    print("\n".join(table(size)))


if __name__ == "__main__":
    main()
