"""Stacks of matrices that ranks orthogonalise in turn: who has which, and how all get all."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor


def owners_of(shapes: list[tuple[int, int, int]], world: int) -> list[int]:
    """The rank that orthogonalises each stack: the largest first, each to the least busy rank."""

    costs = [count * rows * rows * (2 * columns + rows) for count, rows, columns in shapes]
    busy, owners = [0] * world, [0] * len(shapes)
    for number in sorted(range(len(shapes)), key=lambda n: -costs[n]):
        owners[number] = busy.index(min(busy))
        busy[owners[number]] += costs[number]
    return owners


def gathered(
    mine: dict[int, Tensor],
    shapes: list[tuple[int, int, int]],
    owners: list[int],
    rank: int,
    world: int,
    device: torch.device,
) -> dict[int, Tensor]:
    """The stacks of all ranks, by number, from those of each; bfloat16, as orthogonalised."""
    sizes = [math.prod(shape) for shape in shapes]
    shares = [[n for n, owner in enumerate(owners) if owner == r] for r in range(world)]
    longest = max(sum(sizes[n] for n in share) for share in shares)
    dtype = next((stack.dtype for stack in mine.values()), torch.bfloat16)
    own = torch.zeros(longest, dtype=dtype, device=device)
    if mine:
        flat = torch.cat([mine[n].reshape(-1) for n in shares[rank]])
        own[: len(flat)] = flat
    everything = torch.empty(world * longest, dtype=dtype, device=device)
    # As bytes, which every backend takes.
    dist.all_gather_into_tensor(everything.view(torch.uint8), own.view(torch.uint8))
    found = {}
    for share, row in zip(shares, everything.view(world, longest), strict=True):
        pieces = row[: sum(sizes[n] for n in share)].split([sizes[n] for n in share])
        found |= {n: piece.view(shapes[n]) for n, piece in zip(share, pieces, strict=True)}
    return found
