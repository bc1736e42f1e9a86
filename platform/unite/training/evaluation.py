"""The light evaluation during training: held-out reconstruction and a grid of samples.

Both use the averaged (EMA) weights. Reconstruction uses addressed noise, so its figures depend on
the weights and the images alone, not on batch size or ranks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from unite.config.schema import RunConfig
from unite.data.bad_rows import BadDataError
from unite.models.unite import UNITE
from unite.sampling.generator import draw
from unite.sampling.grid import image_grid
from unite.sampling.passes import tokenize_rows
from unite.sampling.seeds import labels_in_turn
from unite.training.parallelize import World

GRID_SEED = 2603_22283
GRID_FILE = "samples.png"
"""File in the run's folder: the sample grid of the newest evaluation."""


@torch.inference_mode()
def reconstruct(model: UNITE, sample_input: Any, rows_B: torch.Tensor, seed: int) -> Any:
    """D(GE_tokenize(x)) with tokenization noise addressed by row (B,)."""
    rows_B = rows_B.to(next(model.parameters()).device)
    latent_BKD = tokenize_rows(model, sample_input, rows_B, seed=seed)
    return model.decode(latent_BKD, model.domain.register_mask(sample_input))


def evaluate_reconstruction(
    model: UNITE, batches: Iterable[Any], world: World, seed: int
) -> dict[str, float]:
    """Mean of the domain's metrics over this rank's batches and all ranks: {"eval/psnr": dB, ...}.

    `batches` are data-room batches; rows are counted once each. BadDataError when they hold none,
    because none can be read.
    """
    sums: dict[str, float] = {}
    count = 0
    for batch in batches:
        fields = {name: torch.from_numpy(value) for name, value in batch.fields.items()}
        fields = {name: value.to(world.device) for name, value in fields.items()}
        sample_input, _ = model.domain.to_sample(fields)
        recon = reconstruct(model, sample_input, torch.as_tensor(batch.rows_B), seed)
        for name, value_B in model.domain.reconstruction_metrics(recon, sample_input).items():
            sums[name] = sums.get(name, 0.0) + float(value_B.double().sum())
        count += len(batch.rows_B)
    # A rank may have had no batch, and so know no name: whole dicts are exchanged, not numbers.
    parts = world.gather((sums, count))
    total = sum(rows for _, rows in parts)
    if not total:
        raise BadDataError(
            f"none of the first {model.domain.noun}s of data.eval can be read, as many as "
            "evaluation.num_images says (the log has the reasons): repair data.eval, or name "
            "another folder"
        )
    names = {name: None for part, _ in parts for name in part}
    return {f"eval/{name}": sum(p.get(name, 0.0) for p, _ in parts) / total for name in names}


def sample_images(model: UNITE, config: RunConfig, num: int, seed: int) -> np.ndarray:
    """Pictures of `num` samples, classes in turn: uint8 (N, H, W, C)."""
    device = next(model.parameters()).device
    labels_B = labels_in_turn(torch.arange(num, device=device), model.domain.num_classes)
    samples = draw(
        model, labels_B, config.sampling, seeds_B=torch.arange(num, device=device) + seed
    )
    return model.domain.render(samples.reconstruction, samples.mask_BK).cpu().numpy()


def sample_grid(model: UNITE, config: RunConfig) -> np.ndarray:
    """The fixed-seed grid, one column per class for up to ten classes: uint8 (H, W, C)."""
    num = config.evaluation.num_samples
    images = sample_images(model, config, num, GRID_SEED)
    return image_grid(images, columns=min(model.domain.num_classes or 10, 10, num))
