"""Sampling from seeds and classes: noise, the guided flow, the decoder (METHOD 4).

Shapes: B batch, K registers, D latent channels, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unite.config.schema import Precision, SamplingConfig, Solver
from unite.config.validate import sampling_problems
from unite.flow.guidance import GuidedPredictor
from unite.flow.path import velocity
from unite.flow.solvers import solve
from unite.models.unite import UNITE
from unite.sampling.precision import autocast
from unite.sampling.seeds import check_labels, conditions, fresh_seeds, sample_noise


@dataclass(frozen=True, kw_only=True)
class Samples:
    """A batch of samples and its cost in evaluations."""

    labels_B: Tensor
    """Classes; the null class means none."""
    z_BKD: Tensor
    """Latents at t = 1."""
    reconstruction: Any
    """The decoded latents, as the domain's head gives them (images: (B, C, H, W), not clamped)."""
    mask_BK: Tensor | None = None
    """Registers in use; None = all."""
    nfe_B: Tensor
    """Velocity evaluations of each sample (int64, CPU): the number of function evaluations."""
    network_rows_B: Tensor
    """Rows that the denoiser evaluated for each sample: nfe plus its unconditional passes."""


def sample(
    model: UNITE,
    labels_B: Tensor | Sequence[int] | None = None,
    noise_BKD: Tensor | None = None,
    seeds_B: Tensor | Sequence[int] | None = None,
    solver: Solver = "dopri5",
    num_steps: int = 50,
    cfg_scale: float = 1.0,
    cfg_interval: tuple[float, float] = (0.1, 1.0),
    *,
    num: int | None = None,
    atol: float = 1e-6,
    rtol: float = 1e-3,
    mask_BK: Tensor | None = None,
) -> tuple[Tensor, Any]:
    """Sample the classes `labels_B`, or `num` samples without a class: latents (B, K, D), and their
    decoded form.

    Images are (B, C, H, W), to be clamped to [0, 1] (`model.domain.render` does). The noise
    is given, or made from one integer seed per sample, or fresh; so are sizes, by `mask_BK`. The
    remaining arguments are those of SamplingConfig. ValueError on labels, seeds or noise that do
    not fit the model and on settings out of range; IntegrationError when the flow leaves the finite
    numbers.
    """
    if (labels_B is None) == (num is None):
        raise ValueError("give labels_B or num, the number of samples without a class")
    if labels_B is None:
        labels_B = torch.full((num or 0,), model.null_label)
    config = SamplingConfig(
        solver=solver,
        num_steps=num_steps,
        cfg_scale=cfg_scale,
        cfg_interval=cfg_interval,
        atol=atol,
        rtol=rtol,
    )
    if problems := list(sampling_problems(config)):
        raise ValueError("; ".join(problems))
    samples = draw(model, labels_B, config, noise_BKD=noise_BKD, seeds_B=seeds_B, mask_BK=mask_BK)
    return samples.z_BKD, samples.reconstruction


def generate_batches(
    model: UNITE,
    labels: Tensor,
    seeds: Tensor,
    batch_size: int,
    config: SamplingConfig,
    *,
    mask: Tensor | None = None,
    precision: Precision = "float32",
) -> Iterator[Samples]:
    """Draw samples in batches; the batch size changes a sample by rounding at most.

    `mask` (N, K) is that of `conditions`; None draws the sizes.
    """
    for start in range(0, len(labels), batch_size):
        part = slice(start, start + batch_size)
        mask_BK = None if mask is None else mask[part]
        with autocast(precision, next(model.parameters()).device):
            samples = draw(model, labels[part], config, seeds_B=seeds[part], mask_BK=mask_BK)
        yield samples


def draw(
    model: UNITE,
    labels_B: Tensor | Sequence[int],
    config: SamplingConfig,
    *,
    noise_BKD: Tensor | None = None,
    seeds_B: Tensor | Sequence[int] | None = None,
    mask_BK: Tensor | None = None,
) -> Samples:
    """`sample` with its settings in one object, and with the cost in the result.

    The network runs in its own precision, the integration around it in float64: that costs nothing
    beside the network, and keeps rounding, which differs from batch to batch, out of dopri5's error
    estimates and thereby out of its steps.
    """
    if config.cfg_scale != 1.0 and not model.domain.num_classes:
        raise ValueError(
            f"cfg_scale = {config.cfg_scale} has no effect: the model has no classes to guide to"
        )
    weight = next(model.parameters())
    device, dtype = weight.device, weight.dtype
    labels_B = check_labels(torch.as_tensor(labels_B), model)
    if noise_BKD is None and mask_BK is None:
        seeds_B = _given_seeds(seeds_B, len(labels_B))
        mask_BK = conditions(model, seeds_B, labels_B=labels_B).mask_BK
    mask_BK = None if mask_BK is None else mask_BK.to(device)
    z_BKD = _initial_noise(model, len(labels_B), noise_BKD, seeds_B, mask_BK).to(device)

    def predict(z_BKD: Tensor, t_B: Tensor, labels_B: Tensor, rows_B: Tensor) -> Tensor:
        mask = None if mask_BK is None else mask_BK[rows_B.to(device)]
        return model.denoise(z_BKD.to(dtype), t_B.to(dtype), labels_B, mask_BK=mask)

    guided = GuidedPredictor(
        predict, labels_B, model.null_label, config.cfg_scale, config.cfg_interval
    )

    def field(z_BKD: Tensor, t_B: Tensor, rows_B: Tensor) -> Tensor:
        return velocity(guided(z_BKD, t_B, rows_B), z_BKD, t_B, model.flow.t_clamp)

    with _evaluating(model), torch.inference_mode():
        solution = solve(
            field,
            z_BKD.double(),
            solver=config.solver,
            num_steps=config.num_steps,
            alpha=model.flow.shift,
            atol=config.atol,
            rtol=config.rtol,
            mask_BK=mask_BK,
        )
        z_BKD = solution.z.to(dtype)
        return Samples(
            labels_B=labels_B,
            z_BKD=z_BKD,
            reconstruction=model.decode(z_BKD, mask_BK),
            mask_BK=mask_BK,
            nfe_B=solution.nfe_B,
            network_rows_B=guided.network_rows_B,
        )


@contextmanager
def _evaluating(model: UNITE) -> Iterator[None]:
    """Context with the model in evaluation mode; its own mode returns after it."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _given_seeds(seeds_B: Tensor | Sequence[int] | None, num: int) -> Tensor:
    """The seeds of `num` samples, fresh ones where none are given."""
    seeds_B = fresh_seeds(num) if seeds_B is None else torch.as_tensor(seeds_B).long()
    if seeds_B.shape != (num,):
        raise ValueError(f"seeds_B has shape {tuple(seeds_B.shape)}, but there are {num} labels")
    return seeds_B


def _initial_noise(
    model: UNITE,
    num: int,
    noise_BKD: Tensor | None,
    seeds_B: Tensor | Sequence[int] | None,
    mask_BK: Tensor | None,
) -> Tensor:
    """The state at t = 0, zero where the mask says padding."""
    expected = model.noise_shape if mask_BK is None else (mask_BK.shape[1], model.noise_shape[1])
    if noise_BKD is not None and seeds_B is not None:
        raise ValueError("give noise_BKD or seeds_B, not both: the seeds would have no effect")
    if noise_BKD is None:
        noise_BKD = sample_noise(_given_seeds(seeds_B, num), expected)
    if noise_BKD.shape != (num, *expected):
        raise ValueError(
            f"noise_BKD has shape {tuple(noise_BKD.shape)}, but {num} labels and this model need "
            f"{(num, *expected)}"
        )
    return noise_BKD if mask_BK is None else noise_BKD * mask_BK[..., None].to(noise_BKD)
