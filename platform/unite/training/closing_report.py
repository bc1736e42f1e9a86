"""Report of a finished run: reconstruction, samples, latent spread, pictures.

Nothing here is expensive: the driver may be a laptop or a cluster's head without a GPU, so the
grid is the one that the last evaluation drew on the training device. Only for the digits, whose
model is tiny, more samples are drawn: a classifier that was trained on the real training images (an
RBF support vector machine) is asked which digit it reads in each, and in the real held-out ones.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from unite.checkpoints.load import load
from unite.checkpoints.store import latest, read_state
from unite.data.loader import sequential_batches
from unite.data.shards import ShardSet
from unite.domains import Domain, build_domain
from unite.figures.dynamics import dynamics_figure
from unite.figures.sheet import picture
from unite.runs import DIGITS, data_uri, read_metrics
from unite.storage import Store
from unite.training.evaluation import GRID_FILE, GRID_SEED, sample_images
from unite.training.finished import Report
from unite.training.interruptions import in_words, read_interruptions
from unite.training.runs import Run
from unite.words import command

CURVES_FILE = "curves.png"
READABLE_SAMPLES = 1000


def build_report(run: Run) -> Report:
    """The figures of the newest checkpoint, and the path of the last evaluation's grid."""
    folder = latest(run.folder)
    if folder is None:
        raise ValueError(f"{run.folder} has no committed checkpoint to report on")
    state = read_state(folder, "images", "metrics")
    metrics = state["metrics"]
    readable = run.config.data.train == DIGITS
    metric = build_domain(run.config.domain).best_metric
    read = _draw_and_read(run, folder) if readable else {}
    return Report(
        images=state["images"],
        quality=metrics.get(f"eval/{metric}"),
        metric=metric,
        latent_std=metrics.get("latent/std"),
        grid=_grid(run.folder),
        curves=_draw_curves(run),
        interruptions=in_words(
            read_interruptions(run.folder),
            state["images"],
            build_domain(run.config.domain).noun,
        ),
        read_samples=read.get("read_samples"),
        read_real=read.get("read_real"),
    )


def _draw_curves(run: Run) -> str:
    domain, limit = build_domain(run.config.domain), run.config.training.collapse_std
    figure = dynamics_figure(
        read_metrics(run.folder),
        metric=f"eval/{domain.best_metric}",
        collapse_std=limit,
        noun=domain.noun,
    )
    run.folder.write(CURVES_FILE, picture(figure).png)
    return f"{run.folder}/{CURVES_FILE}"


def _grid(folder: Store) -> str:
    if folder.is_file(GRID_FILE):
        return f"{folder}/{GRID_FILE}"
    draw = command("python", "jobs/generate.py", "--run", folder.uri, "--out", "samples")
    return f"none yet; draw some: {draw}"


def _draw_and_read(run: Run, checkpoint: Store) -> dict[str, float]:
    if run.config.cluster.threads_per_worker:
        torch.set_num_threads(run.config.cluster.threads_per_worker)
    model = load(checkpoint.uri)
    images = sample_images(model, run.config, READABLE_SAMPLES, GRID_SEED)
    return read_as_intended(run, model.domain, images)


def read_as_intended(run: Run, domain: Domain, images: np.ndarray) -> dict[str, float]:
    """Share of samples, and of real held-out images, read as their class (0..1).

    `images` are uint8 (N, H, W, C) of classes 0, 1, 2, ... in turn.
    """
    from sklearn.svm import SVC

    pictures, labels = _all_pictures(run, "train", domain)
    held_out, held_out_labels = _all_pictures(run, "eval", domain)
    classifier = SVC(gamma="scale").fit(_features(pictures), labels)
    intended = np.arange(len(images)) % domain.num_classes
    read = classifier.predict(_features(images))
    return {
        "read_samples": float((read == intended).mean()),
        "read_real": float((classifier.predict(_features(held_out)) == held_out_labels).mean()),
    }


def _all_pictures(
    run: Run, split: Literal["train", "eval"], domain: Domain
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of a whole small set, uint8 (N, H, W, C) as the domain renders them, and labels."""
    shards = ShardSet.open(data_uri(run.config, split), split, domain.columns)
    pictures, labels = [], []
    for batch in sequential_batches(shards, domain, batch_size=256):
        fields = {name: torch.from_numpy(value) for name, value in batch.fields.items()}
        sample, labels_B = domain.to_sample(fields)
        pictures.append(domain.render(sample).numpy())
        labels.append(labels_B.numpy())
    return np.concatenate(pictures), np.concatenate(labels)


def _features(pictures: np.ndarray) -> np.ndarray:
    return pictures.reshape(len(pictures), -1) / 255.0
