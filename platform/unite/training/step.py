"""Training step of UNITE (METHOD 3): the losses of a micro-batch and their gradients.

Shapes: B micro-batch, K registers, D latent width, F noisings per latent, C noisings per chunk.
The flow term is differentiated chunk by chunk against the latent as a leaf, so that only one
chunk's activations are alive; its gradient then joins the reconstruction's backward pass. With
stop-gradient nothing joins. Randomness is addressed by (seed, epoch, row, purpose).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unite.config.schema import RunConfig
from unite.flow.path import flow_error, interpolate
from unite.flow.random import Purpose, normal, stream_keys, uniform
from unite.flow.timesteps import sample_times
from unite.metrics.image_quality import Perceptual
from unite.models.unite import UNITE
from unite.sampling.passes import tokenization_noise


@dataclass(frozen=True, kw_only=True)
class Address:
    """Address of a micro-batch's randomness: one (epoch, row) per sample."""

    seed: int
    epochs_B: Tensor
    rows_B: Tensor

    def keys(self, purpose: Purpose, *more: int | Tensor) -> Tensor:
        """Keys (B,) of one purpose."""
        return stream_keys(self.seed, self.epochs_B, self.rows_B, int(purpose), *more)

    def repeated(self, noisings: range) -> tuple[Address, Tensor]:
        """The address tiled once per noising, and the noising of each row: (C*B,)."""
        count, batch = len(noisings), self.rows_B.shape[0]
        tiled = Address(
            seed=self.seed,
            epochs_B=self.epochs_B.repeat(count),
            rows_B=self.rows_B.repeat(count),
        )
        first = torch.arange(noisings.start, noisings.stop, device=self.rows_B.device)
        return tiled, first.repeat_interleave(batch)


@dataclass(frozen=True, kw_only=True)
class StepLosses:
    """Detached terms of one micro-batch; its latent (B, K, D) and the mask of the registers in use
    (B, K), or None, for the monitors."""

    terms: dict[str, Tensor]
    latent_BKD: Tensor
    mask_BK: Tensor | None


class TrainingStep:
    """Computes losses and accumulates gradients; owns no state but the modules it is given."""

    def __init__(self, model: UNITE, config: RunConfig, perceptual: Perceptual | None) -> None:
        self.model = model
        self.config = config
        self.perceptual = perceptual

    def backward(
        self,
        sample: Any,
        labels_B: Tensor,
        address: Address,
        *,
        flow_weight: float | Tensor,
        scale: float = 1.0,
        before_last_pass: Callable[[], None] | None = None,
    ) -> StepLosses:
        """Add the gradients of `scale * loss` of one micro-batch to the parameters.

        `sample` is what the domain makes of a batch (images: float (B, C, H, W) in [0, 1]);
        `flow_weight` is w_g after warm-up, a number or a tensor (); `before_last_pass` is called
        before the last of the backward passes, after which no gradient grows. Returns the unscaled
        terms.
        """
        flow = self.config.flow
        sample = self.model.domain.augment(sample, address.keys(Purpose.FLIP))
        mask_BK = self.model.domain.register_mask(sample)
        with self.autocast():
            latent_BKD = self.tokenize(sample, address)
        leaf_BKD = latent_BKD.detach().requires_grad_(not flow.stop_gradient)
        flow_loss = self._flow_backward(
            leaf_BKD, labels_B, address, mask_BK, weight=flow_weight * scale
        )
        with self.autocast():
            terms = self.reconstruction(sample, latent_BKD, address, mask_BK)
        reconstruction = self.model.domain.reconstruction_loss(terms, self.config.loss)
        roots: list[Tensor] = [scale * reconstruction]
        gradients: list[Tensor | None] = [None]
        if leaf_BKD.grad is not None:
            roots.append(latent_BKD)
            gradients.append(leaf_BKD.grad)
        if before_last_pass is not None:
            before_last_pass()
        torch.autograd.backward(roots, gradients)
        named = self._named(terms, reconstruction, flow_loss, flow_weight)
        return StepLosses(terms=named, latent_BKD=latent_BKD.detach(), mask_BK=mask_BK)

    def losses(
        self, sample: Any, labels_B: Tensor, address: Address, *, flow_weight: float
    ) -> dict[str, Tensor]:
        """The loss terms with their graph, in one piece (no chunks); for tests and benchmarks."""
        mask_BK = self.model.domain.register_mask(sample)
        with self.autocast():
            latent_BKD = self.tokenize(sample, address)
            terms = self.reconstruction(sample, latent_BKD, address, mask_BK)
        target_BKD = latent_BKD.detach() if self.config.flow.stop_gradient else latent_BKD
        flow_loss = self.flow(target_BKD, labels_B, address, mask_BK, range(self.config.flow.steps))
        reconstruction = self.model.domain.reconstruction_loss(terms, self.config.loss)
        total = reconstruction + flow_weight * self._flow_scale() * flow_loss
        return {**terms, "reconstruction": reconstruction, "flow": flow_loss, "total": total}

    def tokenize(self, sample: Any, address: Address) -> Tensor:
        """z0 (B, K, D) from addressed noise and conditioning time (METHOD 3, step 1)."""
        noise_BKD, t_B = tokenization_noise(self.model, sample, address.keys)
        return self.model.tokenize(sample, noise_BKD, t_B).float()

    def reconstruction(
        self, sample: Any, latent_BKD: Tensor, address: Address, mask_BK: Tensor | None
    ) -> dict[str, Tensor]:
        """Unweighted terms of the reconstruction from the noised latent (steps 2 and 3)."""
        noised_BKD = self.decoder_noise(latent_BKD, address)
        reconstructed = self.model.decode(noised_BKD, mask_BK)
        return self.model.domain.reconstruction_terms(
            reconstructed, sample, self.config.loss, self.perceptual
        )

    def flow(
        self,
        target_BKD: Tensor,
        labels_B: Tensor,
        address: Address,
        mask_BK: Tensor | None,
        noisings: range,
    ) -> Tensor:
        """Sum over `noisings` of the batch-mean flow error (steps 5 and 6), one forward pass."""
        config, count = self.config.flow, len(noisings)
        tiled, index_B = address.repeated(noisings)
        target_BKD = target_BKD.repeat(count, 1, 1)
        t_B = sample_times(tiled.keys(Purpose.FLOW_T, index_B), config)
        noise_BKD = normal(tiled.keys(Purpose.FLOW_NOISE, index_B), tuple(target_BKD.shape[1:]))
        z_BKD = interpolate(target_BKD, noise_BKD, t_B)
        dropped_B = uniform(tiled.keys(Purpose.CLASS_DROP, index_B)) < config.class_dropout
        labels_B = labels_B.repeat(count).masked_fill(dropped_B, self.model.null_label)
        mask_BK = None if mask_BK is None else mask_BK.repeat(count, 1)
        with self.autocast():
            predicted_BKD = self.model.denoise(z_BKD, t_B, labels_B, mask_BK=mask_BK)
        error_B = flow_error(
            predicted_BKD, target_BKD, t_B, config.loss_space, config.t_clamp, mask_BK=mask_BK
        )
        return error_B.mean() * count

    def _flow_backward(
        self,
        leaf_BKD: Tensor,
        labels_B: Tensor,
        address: Address,
        mask_BK: Tensor | None,
        *,
        weight: float | Tensor,
    ) -> Tensor:
        config = self.config.flow
        chunk = config.chunk or config.steps
        total = torch.zeros((), device=leaf_BKD.device)
        for start in range(0, config.steps, chunk):
            part = self.flow(leaf_BKD, labels_B, address, mask_BK, range(start, start + chunk))
            (weight * self._flow_scale() * part).backward()
            total += part.detach()
        return total

    def decoder_noise(self, latent_BKD: Tensor, address: Address) -> Tensor:
        """The latent as the decoder gets it in training, (B, K, D) (METHOD 3, step 2)."""
        noise = self.config.reconstruction_noise
        if noise.probability == 0:
            return latent_BKD
        eps_BKD = normal(address.keys(Purpose.DECODER_NOISE), tuple(latent_BKD.shape[1:]))
        if noise.form == "additive":
            noised_BKD = latent_BKD + noise.sigma * eps_BKD
        else:
            u_B = uniform(address.keys(Purpose.DECODER_T))
            noised_BKD = interpolate(latent_BKD, eps_BKD, noise.sigma + (1 - noise.sigma) * u_B)
        gate_B = uniform(address.keys(Purpose.DECODER_GATE)) < noise.probability
        return torch.where(gate_B[:, None, None], noised_BKD, latent_BKD)

    def _flow_scale(self) -> float:
        return 1.0 / self.config.flow.steps if self.config.flow.reduction == "mean" else 1.0

    def autocast(self) -> Any:
        """Context in which the model runs in the training's precision."""
        if self.config.training.precision == "float32":
            return nullcontext()
        device = next(self.model.parameters()).device.type
        return torch.autocast(device, dtype=torch.bfloat16)

    def _named(
        self,
        terms: dict[str, Tensor],
        reconstruction: Tensor,
        flow_loss: Tensor,
        flow_weight: float | Tensor,
    ) -> dict[str, Tensor]:
        total = reconstruction.detach() + flow_weight * self._flow_scale() * flow_loss
        named = {f"loss/{name}": value.detach() for name, value in terms.items()}
        named["loss/reconstruction"] = reconstruction.detach()
        named["loss/flow"] = flow_loss / self.config.flow.steps
        named["loss/total"] = total
        return named
