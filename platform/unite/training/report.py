"""What a finished run shows: reconstruction, samples, latent spread, pictures.

For the digits it also asks a classifier that was trained on the real training images (an RBF
support vector machine) which digit it reads in each sample, and in the real held-out images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from unite.checkpoints.load import load
from unite.checkpoints.store import latest
from unite.data.loader import sequential_batches
from unite.data.shards import ShardSet
from unite.sampling.grid import image_grid, save_png
from unite.training.evaluation import GRID_SEED, sample_images
from unite.training.runs import DIGITS, Run, data_uri

READABLE_SAMPLES = 1000
GRID_IMAGES = 100


@dataclass(frozen=True, kw_only=True)
class Report:
    """The figures that are printed at the end of a run."""

    images: int
    psnr_db: float | None
    latent_std: float | None
    grid: str
    read_samples: float | None = None
    read_real: float | None = None


def build_report(run: Run) -> Report:
    """Sample from the newest checkpoint's averaged weights and write the grid into the run."""
    folder = latest(run.folder)
    if folder is None:
        raise ValueError(f"{run.folder} has no committed checkpoint to report on")
    state = folder.read_json("state.json")
    if run.config.cluster.threads_per_worker:
        torch.set_num_threads(run.config.cluster.threads_per_worker)
    model = load(folder.uri)
    readable = run.config.data.train == DIGITS
    images = sample_images(
        model, run.config, READABLE_SAMPLES if readable else GRID_IMAGES, GRID_SEED
    )
    grid = image_grid(images[:GRID_IMAGES], columns=min(10, model.domain.num_classes))
    save_png(run.folder, "samples.png", grid)
    scores: dict[str, float] = {}
    if readable:
        scores = read_as_intended(run, model.domain, images)
    metrics = state["metrics"]
    return Report(
        images=state["images"],
        psnr_db=metrics.get("eval/psnr"),
        latent_std=metrics.get("latent/std"),
        grid=f"{run.folder}/samples.png",
        **scores,
    )


def read_as_intended(run: Run, domain: Any, images: np.ndarray) -> dict[str, float]:
    """Share of samples, and of real held-out images, read as their class (0..1).

    `images` are uint8 (N, H, W, C) of classes 0, 1, 2, ... in turn.
    """
    from sklearn.svm import SVC

    pixels, labels = _all_images(run, "train", domain)
    held_out, held_out_labels = _all_images(run, "eval", domain)
    classifier = SVC(gamma="scale").fit(pixels, labels)
    intended = np.arange(len(images)) % domain.num_classes
    read = classifier.predict(images.reshape(len(images), -1) / 255.0)
    return {
        "read_samples": float((read == intended).mean()),
        "read_real": float((classifier.predict(held_out) == held_out_labels).mean()),
    }


def _all_images(
    run: Run, split: Literal["train", "eval"], domain: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels in 0..1 (N, H*W*C) and labels (N,) of a whole small set."""
    shards = ShardSet.open(data_uri(run.config, split), split=split)
    batches = list(sequential_batches(shards, domain, batch_size=256, rank=0, world=1))
    images = np.concatenate([batch.fields["image"] for batch in batches])
    labels = np.concatenate([batch.fields["label"] for batch in batches])
    return images.reshape(len(images), -1) / 255.0, labels
