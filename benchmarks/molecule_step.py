"""Training steps on molecules: sorted groups, each cut to its longest sample, against full padding.

Headline: samples per second of the sorted groups over those of the padded ones. Both arms compute
the same batch with the same noise, alternate within one run, and the median of their ratio in pairs
is taken, so that a machine that gets slower slows both. Their gradients agree to 1e-5 of the
largest, or the script fails.

  python benchmarks/molecule_step.py                        qm9-tiny's model, batch 64 in 4 groups
  python benchmarks/molecule_step.py --recipe qm9 --batch 512
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import numpy as np
import torch

from unite.config.recipes import recipe
from unite.domains import build_domain
from unite.domains.base import Domain
from unite.models import UNITE
from unite.training.groups import groups
from unite.training.step import Address, TrainingStep

# Molecules of 0, 1, 2, ... atoms among 30,000 of QM9's training set.
QM9_SIZES = (
    *(0, 0, 0, 0, 2, 0, 3, 4, 16, 38, 102, 267, 501, 906, 1620, 2373, 3193, 3814, 4021, 4092, 2841),
    *(3007, 1054, 1399, 162, 480, 16, 81, 0, 8),
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the benchmark."""

    recipe: str = "qm9-tiny"
    """Recipe of molecules whose model is trained."""
    batch: int = 64
    """Samples per step."""
    groups: int = 4
    """Groups that a batch is cut into."""
    steps: int = 5
    """Pairs of steps that are timed."""
    threads: int = 1
    """Threads of CPU arithmetic."""


def batch_of(domain: Domain, num: int, seed: int) -> dict[str, np.ndarray]:
    """Decoded samples; of a domain with sizes those of QM9, as far as its samples reach."""
    generator = np.random.default_rng(seed)
    fields = domain.example_fields(num, generator)
    most_B = domain.sizes(fields)
    if most_B is None:
        return fields
    shares = np.array(QM9_SIZES) / sum(QM9_SIZES)
    fields["num_atoms"] = np.minimum(generator.choice(len(shares), num, p=shares), most_B)
    outside_BN = np.arange(fields["numbers"].shape[1]) >= fields["num_atoms"][:, None]
    for values in fields.values():
        if values.shape[:2] == outside_BN.shape:
            values[outside_BN] = 0
    return fields


def step(
    training: TrainingStep, fields: dict[str, np.ndarray], options: Options, cut: bool
) -> None:
    """Gradients of one batch, in sorted groups or padded in full."""
    domain = training.model.domain
    training.model.zero_grad()
    if cut:
        parts = groups(domain, fields, options.batch, options.groups)
    else:
        size = options.batch // options.groups
        spans = (slice(start, start + size) for start in range(0, options.batch, size))
        parts = ((rows, {name: v[rows] for name, v in fields.items()}) for rows in spans)
    numbers = np.arange(options.batch)
    for rows, arrays in parts:
        sample, labels_B = domain.to_sample({k: torch.from_numpy(v) for k, v in arrays.items()})
        rows_B = torch.from_numpy(numbers[rows])
        address = Address(seed=0, epochs_B=torch.zeros_like(rows_B), rows_B=rows_B)
        training.backward(sample, labels_B, address, flow_weight=1.0, scale=1.0 / options.groups)


def gradient(model: UNITE) -> torch.Tensor:
    """All gradients in one vector."""
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def main(options: Options) -> float:
    """Compare gradients, time the arms in turn, print the table; returns the ratio."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = recipe(options.recipe)
    domain = build_domain(config.domain)
    model = UNITE(config.model, domain, config.flow)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    training = TrainingStep(model, config, None)
    fields = batch_of(domain, options.batch, seed=0)
    step(training, fields, options, cut=False)
    padded = gradient(model)
    step(training, fields, options, cut=True)
    apart = ((gradient(model) - padded).abs().max() / padded.abs().max()).item()
    if apart > 1e-5:
        raise SystemExit(f"the gradients of the two arms differ by {apart:.1e} of the largest")
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(options.steps):
        for cut in (False, True):
            started = time.perf_counter()
            step(training, fields, options, cut=cut)
            seconds[cut].append(time.perf_counter() - started)
    ratio = statistics.median(a / b for a, b in zip(seconds[False], seconds[True], strict=True))
    print(f"gradients agree to {apart:.1e} of the largest")
    print("| arm | samples/s |\n| --- | --- |")
    for cut, name in ((False, "padded to the most"), (True, "sorted groups, cut")):
        print(f"| {name} | {options.batch / statistics.median(seconds[cut]):.1f} |")
    print(f"ratio {ratio:.2f}")
    return ratio


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options, description=__doc__))
