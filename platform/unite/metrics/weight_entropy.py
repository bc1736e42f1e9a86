"""Weight entropy as a description length (paper Section 4; METHOD 5).

For each parameter tensor: the Shannon entropy, in bits, of the histogram of its values over its own
range, times its number of elements, / 8 / 1e6 = megabytes. A constant tensor has entropy 0. A
tensor of n elements has at most log2(min(n, bins)) bits per element, so figures of small models say
little about large ones, and figures of different bin counts cannot be compared.

Groups, by parameter name: `norm` is every norm's weight and bias, and the adaLN modulation;
`functional` is the rest of the blocks, which is attention and MLP; `other` is what is outside the
blocks (input, registers, time, class and in-context embeddings, patch embedding, final projection,
heads).

The paper gives neither its bin count nor how its "random" encoder was drawn, but its figures tell.
179.2 MB at random is 10.98 bits per parameter, in both of its groups, and uniform weights have
log2(bins) bits: PAPER_BINS = 2048. Its norm figure of 60.0 MB is 11 bits of each adaLN weight, so
these were not zero, as a fresh UNITE has them, but Xavier-uniform like the other Linears
(`random_state`). Measured so, seed 0, the Base encoder (`part("tokenizer")`, 130.8M parameters)
has, in MB:
    bins   norm   functional   other   total
    2048   60.0   116.8        2.5     179.3    paper: norm 60.0, functional 119.2, total 179.2
    256    43.6    84.9        1.7     130.3
The paper's "functional" thus is everything but norm. A fresh UNITE as it is, zeros included, has
no norm entropy at all, and with 2048 bins 119.2 MB of the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from unite.lazy import torch
from unite.paper import ENTROPY_BINS

if TYPE_CHECKING:
    from torch import Tensor, nn

Group = Literal["norm", "functional", "other"]
GROUPS: tuple[Group, ...] = get_args(Group)

NORM = re.compile(r"^norm\d*$|_norm$")
"""Names of the norms' modules: norm, norm1, q_norm, ..."""
DEFAULT_BINS = PAPER_BINS = ENTROPY_BINS
"""The bin count that reproduces the paper's figures (above); 256 do not."""


@dataclass(frozen=True, kw_only=True)
class TensorEntropy:
    """Entropy of one parameter tensor."""

    name: str
    group: Group
    num_elements: int
    bits: float
    """Entropy per element, bits."""

    @property
    def megabytes(self) -> float:
        """Entropy of the whole tensor, 10^6 bytes."""
        return self.bits * self.num_elements / 8e6


@dataclass(frozen=True, kw_only=True)
class WeightEntropy:
    """Entropies of all tensors of a model or of a part of it."""

    bins: int
    tensors: tuple[TensorEntropy, ...]

    def part(self, *prefixes: str) -> WeightEntropy:
        """The tensors whose names start with one of `prefixes` (module names)."""
        starts = tuple(f"{prefix}." for prefix in prefixes)
        chosen = tuple(tensor for tensor in self.tensors if tensor.name.startswith(starts))
        if not chosen:
            raise ValueError(f"prefixes: no parameter is named {' or '.join(starts)}*")
        return WeightEntropy(bins=self.bins, tensors=chosen)

    def megabytes(self) -> dict[str, float]:
        """Entropy by group, and `total`, in MB (10^6 bytes)."""
        groups = {
            group: sum(tensor.megabytes for tensor in self.tensors if tensor.group == group)
            for group in GROUPS
        }
        return {**groups, "total": sum(groups.values())}


def weight_entropy(parameters: Mapping[str, Tensor], *, bins: int = DEFAULT_BINS) -> WeightEntropy:
    """Entropy of every tensor; give `dict(model.named_parameters())` or a state without buffers.

    ValueError for fewer than two bins or a tensor that is not finite.
    """
    if bins < 2:
        raise ValueError(f"bins: {bins}; a histogram needs at least 2")
    tensors = tuple(
        TensorEntropy(
            name=name,
            group=group_of(name),
            num_elements=tensor.numel(),
            bits=histogram_bits(tensor, bins, name),
        )
        for name, tensor in parameters.items()
    )
    return WeightEntropy(bins=bins, tensors=tensors)


def group_of(name: str) -> Group:
    """The group of a parameter of UNITE, by its name."""
    modules = name.split(".")[:-1]
    if modules and (modules[-1] == "modulation" or NORM.search(modules[-1])):
        return "norm"
    return "functional" if "blocks" in modules else "other"


def histogram_bits(tensor: Tensor, bins: int, name: str = "tensor") -> float:
    """Shannon entropy, in bits, of a histogram of the values over [min, max]."""
    # float64, because float32 counts stop at 2^24 and its bin edges are coarse.
    values = tensor.detach().double().flatten()
    low, high = values.min(), values.max()
    if not (low.isfinite() and high.isfinite()):
        raise ValueError(f"{name}: its values are not finite, so it has no histogram")
    if low == high:
        return 0.0
    counts = torch.histc(values, bins, low.item(), high.item())
    shares = counts[counts > 0] / values.numel()
    return float(-(shares * shares.log2()).sum())


BASELINE = "a fresh model, its matrices that start at zero (adaLN, final projection) Xavier-uniform"
"""Description of the model that `random_state` draws."""


def random_state(build: Callable[[], nn.Module], seed: int) -> dict[str, Tensor]:
    """Parameters of an untrained model, as the paper's baseline has them.

    `build` makes the model from its config alone. Its initial weights are drawn under `seed`, then
    every matrix that it starts at zero (adaLN modulation, final projection) is drawn
    Xavier-uniform, as the paper's figures say. The caller's random state is left alone.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)  # of the CPU: a GPU's state is left alone
        parameters = dict(build().named_parameters())
        for tensor in parameters.values():
            if tensor.ndim == 2 and not tensor.any():
                torch.nn.init.xavier_uniform_(tensor)
    return {name: tensor.detach() for name, tensor in parameters.items()}
