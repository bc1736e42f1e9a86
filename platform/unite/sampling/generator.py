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

from unite.config.schema import SamplingConfig, Solver
from unite.flow.guidance import GuidedPredictor
from unite.flow.path import velocity
from unite.flow.solvers import solve
from unite.models.unite import UNITE
from unite.sampling.seeds import fresh_seeds, sample_noise


@dataclass(frozen=True, kw_only=True)
class Samples:
    """A batch of samples and its cost in evaluations."""

    labels_B: Tensor
    """Classes; the null class means none."""
    z_BKD: Tensor
    """Latents at t = 1."""
    reconstruction: Any
    """The decoded latents, as the domain's head gives them (images: (B, C, H, W), not clamped)."""
    nfe_B: Tensor
    """Velocity evaluations of each sample (int64, CPU): the number of function evaluations."""
    network_rows_B: Tensor
    """Rows that the denoiser evaluated for each sample: nfe plus its unconditional passes."""


def sample(
    model: UNITE,
    labels_B: Tensor | Sequence[int],
    noise_BKD: Tensor | None = None,
    seeds_B: Tensor | Sequence[int] | None = None,
    solver: Solver = "dopri5",
    num_steps: int = 50,
    cfg_scale: float = 1.0,
    cfg_interval: tuple[float, float] = (0.1, 1.0),
    *,
    atol: float = 1e-6,
    rtol: float = 1e-3,
    mask_BK: Tensor | None = None,
) -> tuple[Tensor, Any]:
    """Sample the classes `labels_B`: latents (B, K, D), and their decoded form.

    Images are (B, C, H, W), to be clamped to [0, 1] (`model.domain.render` does). The noise
    is given, or made from one integer seed per sample, or fresh. The remaining arguments are those
    of SamplingConfig. ValueError on labels, seeds or noise that do not fit the model;
    IntegrationError when the flow leaves the finite numbers.
    """
    config = SamplingConfig(
        solver=solver,
        num_steps=num_steps,
        cfg_scale=cfg_scale,
        cfg_interval=cfg_interval,
        atol=atol,
        rtol=rtol,
    )
    samples = draw(model, labels_B, config, noise_BKD=noise_BKD, seeds_B=seeds_B, mask_BK=mask_BK)
    return samples.z_BKD, samples.reconstruction


def generate_batches(
    model: UNITE, labels: Tensor, seeds: Tensor, batch_size: int, config: SamplingConfig
) -> Iterator[Samples]:
    """Draw samples in batches; the batch size changes a sample by rounding at most."""
    for labels_B, seeds_B in zip(labels.split(batch_size), seeds.split(batch_size), strict=True):
        yield draw(model, labels_B, config, seeds_B=seeds_B)


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
    labels_B = _check_labels(torch.as_tensor(labels_B), model)
    weight = next(model.parameters())
    device, dtype = weight.device, weight.dtype
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


def _check_labels(labels_B: Tensor, model: UNITE) -> Tensor:
    if labels_B.dim() != 1 or not len(labels_B) or labels_B.is_floating_point():
        raise ValueError(
            f"labels_B must hold one integer per sample, not {labels_B.dtype} of shape "
            f"{tuple(labels_B.shape)}"
        )
    bad = labels_B[(labels_B < 0) | (labels_B > model.null_label)]
    if len(bad):
        num = model.domain.num_classes
        raise ValueError(
            f"labels_B holds {bad[0].item()}, but the model has {num} classes: labels are "
            f"0..{num - 1}, and {model.null_label} means no class"
        )
    return labels_B.long()


def _initial_noise(
    model: UNITE,
    num: int,
    noise_BKD: Tensor | None,
    seeds_B: Tensor | Sequence[int] | None,
    mask_BK: Tensor | None,
) -> Tensor:
    """The state at t = 0, zero where the mask says padding."""
    if noise_BKD is not None and seeds_B is not None:
        raise ValueError("give noise_BKD or seeds_B, not both: the seeds would have no effect")
    if noise_BKD is None:
        seeds_B = fresh_seeds(num) if seeds_B is None else torch.as_tensor(seeds_B).long()
        if seeds_B.shape != (num,):
            raise ValueError(
                f"seeds_B has shape {tuple(seeds_B.shape)}, but there are {num} labels"
            )
        noise_BKD = sample_noise(seeds_B, model.noise_shape)
        if mask_BK is not None:
            noise_BKD = noise_BKD[:, : mask_BK.shape[1]]
    expected = model.noise_shape if mask_BK is None else (mask_BK.shape[1], model.noise_shape[1])
    if noise_BKD.shape != (num, *expected):
        raise ValueError(
            f"noise_BKD has shape {tuple(noise_BKD.shape)}, but {num} labels and this model need "
            f"{(num, *expected)}"
        )
    return noise_BKD if mask_BK is None else noise_BKD * mask_BK[..., None].to(noise_BKD)
