"""The passes of a model on addressed noise, for evaluations and analyses (METHOD 5; paper Figs. 6
and 7). Training draws its tokenization noise here too.

Tokenization: z0 = GE(x). Generation: z_hat(z_t) = GE(z_t, t, y) with z_t = t z0 + (1 - t) eps.
Noise is addressed by (seed, row of the data set, purpose), so a result depends neither on the batch
nor on the worker. eps is the same at every noise level t of an image: levels are compared on common
random numbers. Shapes: B samples, K registers, D latent channels, H hidden width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unite.flow.path import interpolate
from unite.flow.random import Purpose, normal, stream_keys, uniform
from unite.sampling.protocol import Condition

if TYPE_CHECKING:
    from unite.models.unite import UNITE


def evaluation_keys(seed: int, rows_B: Tensor, purpose: Purpose) -> Tensor:
    """Keys (B,) of one purpose in an evaluation of rows of a data set."""
    return stream_keys(seed, rows_B, int(Purpose.EVALUATION), int(purpose))


def tokenization_noise(
    model: UNITE, sample: Any, keys: Callable[[Purpose], Tensor]
) -> tuple[Tensor, Tensor]:
    """Inputs of the tokenization pass: noise (B, K, D) and t ~ U[0, tokenize_t_max] (METHOD 1).

    `keys` gives the keys (B,) of a purpose: those of a training step or of an evaluation.
    """
    mask_BK = model.domain.register_mask(sample)
    num_registers, latent_dim = model.noise_shape
    if mask_BK is not None:
        num_registers = mask_BK.shape[1]
    noise_BKD = normal(keys(Purpose.TOKENIZE_NOISE), (num_registers, latent_dim))
    t_B = uniform(keys(Purpose.TOKENIZE_T)) * model.config.encoder.tokenize_t_max
    return noise_BKD, t_B


def condition_labels(condition: Condition, labels_B: Tensor | None) -> Tensor | None:
    """The labels that the generation pass sees; None = the null class.

    ValueError when it is to see labels and none are given.
    """
    if condition == "null":
        return None
    if labels_B is None:
        raise ValueError("condition: 'label' needs labels_B; give them, or use 'null'")
    return labels_B


@torch.inference_mode()
def tokenize_rows(
    model: UNITE,
    sample: Any,
    rows_B: Tensor,
    *,
    seed: int,
    activations: list[Tensor] | None = None,
) -> Tensor:
    """z0 (B, K, D) of a batch; `activations` gets each block's registers (B, K, H).

    `rows_B`: int64 row numbers in the data set, on the model's device.
    """
    noise_BKD, t_B = tokenization_noise(model, sample, partial(evaluation_keys, seed, rows_B))
    return model.tokenize(sample, noise_BKD, t_B, activations=activations)


@torch.inference_mode()
def denoise_rows(
    model: UNITE,
    z0_BKD: Tensor,
    t: float,
    rows_B: Tensor,
    *,
    seed: int,
    labels_B: Tensor | None = None,
    mask_BK: Tensor | None = None,
    activations: list[Tensor] | None = None,
) -> Tensor:
    """z_hat(z_t) (B, K, D) at one noise level; labels None = the null class.

    t is 1 on clean data and 0 on pure noise. `mask_BK` is True at real registers, None = all.
    """
    keys_B = evaluation_keys(seed, rows_B, Purpose.FLOW_NOISE)
    t_B = torch.full_like(rows_B, t, dtype=z0_BKD.dtype)
    z_t_BKD = interpolate(z0_BKD, normal(keys_B, tuple(z0_BKD.shape[1:])), t_B)
    return model.denoise(z_t_BKD, t_B, labels_B, mask_BK=mask_BK, activations=activations)
