"""One piece of the ablation of the decoder's fine-tuning: a run to train and measure, or a parent.

A worker computes it in its own process and keeps the result, so that nothing is done twice.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

import torch

from unite.ablation.decoder_gan import ARMS, PARENT, SETS, Measured
from unite.ablation.results import is_trained
from unite.checkpoints.layout import checkpoint_digest, latest, read_state
from unite.cluster.train import set_threads, train_rank
from unite.config.finetune import FinetuneRunConfig, ParentConfig, finetune_recipe
from unite.config.finetune_checks import validate_finetune
from unite.config.recipes import recipe
from unite.config.scales import Fields
from unite.config.schema import RunConfig
from unite.config.serialise import replace as replace_fields
from unite.data.loader import local_reader
from unite.drivers.evaluate import evaluate
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.drawing import Drawing
from unite.evaluation.request import Evaluation, open_evaluation
from unite.flow import NOISE_VERSION
from unite.metrics.versions import library_versions
from unite.storage import Store
from unite.tracking import Tracker
from unite.training.finetune import find_parent, named
from unite.training.parallelize import World
from unite.training.runs import Run, begin, open_run
from unite.training.setup import Job

SUITES = ("generation", "reconstruction")
PICTURED = 10
"""Samples in the picture of a fine-tuning's own evaluation, which measures nothing here."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One run to train, or a parent to measure: plain data, for a worker."""

    parent: str
    """Place of the parent's run."""
    arm: str
    seed: int
    recipe: str
    """Name of the fine-tuning's recipe."""
    epochs: float
    """Passes over the training set; 0 = the recipe's."""
    fields: Fields = field(default_factory=dict)
    """Further overrides of the fine-tuning's recipe."""
    samples: int
    extractors: tuple[str, ...]
    folder: str
    """Folder of the results."""
    use_gpu: bool = False

    @property
    def file(self) -> str:
        """Name of its result."""
        arm = self.arm.replace(", ", "-").replace(" ", "-")
        return f"{Store(self.parent).name}-{arm}-{self.seed}.json"


def read_measured(piece: Piece) -> Measured | None:
    """The result of a piece; None when there is none, or of another run, checkpoint or version.

    Those that were kept before their versions were count as of any.
    """
    folder = Store.open(piece.folder)
    if not folder.is_file(piece.file):
        return None
    kept, run = folder.read_json(piece.file), run_folder(piece)
    newest = latest(run)
    now = (run.name, newest and checkpoint_digest(newest), _protocol(piece))
    if now != (Store(kept["run"]).name, kept.pop("checkpoint"), kept.pop("protocol")):
        return None
    if kept.pop("versions", versions := _versions()) != versions:
        return None
    return Measured(**kept | {"run": run.uri})


def compute(piece: Piece) -> None:
    """Train and measure a piece, and keep its result."""
    _set_threads(piece.use_gpu)
    if read_measured(piece) is not None:
        return
    begun = time.process_time()
    run = Store.open(piece.parent) if piece.arm == PARENT else _tune(piece)
    trained = time.process_time()
    checkpoint = latest(run)
    assert checkpoint is not None
    values, spread = _measure(checkpoint, piece)
    measuring = time.process_time() - trained
    result = Measured(
        parent=Store(piece.parent).name,
        arm=piece.arm,
        seed=piece.seed,
        metrics=values,
        spread=spread,
        training=dict(read_state(checkpoint, "metrics")["metrics"]),
        run=run.uri,
        cpu_seconds={"training": trained - begun, "measuring": measuring},
    )
    kept = asdict(result) | {
        "checkpoint": checkpoint_digest(checkpoint),
        "protocol": _protocol(piece),
        "versions": _versions(),
    }
    Store.open(piece.folder).write(piece.file, json.dumps(kept, indent=1).encode())


def train_parent(run: Run) -> None:
    """Train a prepared parent in this process."""
    _set_threads(run.config.cluster.use_gpu)
    _train(run)


def _set_threads(use_gpu: bool) -> None:
    """One thread of arithmetic for a worker without a GPU: that is what it reserves."""
    if not use_gpu:
        set_threads(1, 1)


def _train(run: Run) -> None:
    """Train a run in this process, unless it is finished, on the device that its config says."""
    if is_trained(run):
        return
    begin(run)
    world = World(device=torch.device("cuda" if run.config.cluster.use_gpu else "cpu"))
    train_rank(Job.of(run), world, lambda *_: Tracker(), local_reader)


def parent_config(name: str, seed: int, fields: Fields) -> RunConfig:
    """A parent of its own seed, of the recipe `name` with overrides."""
    own = {"name": f"{name}-seed-{seed}", "training.seed": seed, "tracking.enabled": False}
    return replace_fields(recipe(name), {**fields, **own})


def run_folder(piece: Piece) -> Store:
    """Folder of the run of a piece: its fine-tuning's, or the parent itself."""
    return Store.open(piece.parent) if piece.arm == PARENT else _run_of(piece).folder


def _run_of(piece: Piece) -> Run:
    """The run of a fine-tuning, which begins with the parent's weights."""
    parent = find_parent(piece.parent, storage="")
    config = piece_config(piece, parent.config, parent.identity)
    return replace(open_run(config), start_from=parent.place)


def _tune(piece: Piece) -> Store:
    run = _run_of(piece)
    _train(run)
    return run.folder


def piece_config(piece: Piece, parent: RunConfig, identity: ParentConfig) -> FinetuneRunConfig:
    """The config of a fine-tuning; ValueError when it cannot run."""
    base = finetune_recipe(piece.recipe, replace(parent, name=""))
    changes = {**piece.fields, **ARMS[piece.arm], "finetune.seed": piece.seed, "parent": identity}
    changes |= {"evaluation.every_images": 10**9, "checkpoint.every_images": 10**9}
    changes |= {"evaluation.num_samples": PICTURED, "tracking.enabled": False}
    changes["cluster.use_gpu"] = piece.use_gpu
    if piece.epochs:
        changes["finetune.epochs"] = piece.epochs
    return validate_finetune(named(replace_fields(base, changes)))


def _protocol(piece: Piece) -> list[object]:
    """All that a result depends on beside its checkpoint, as JSON values."""
    fields = [[name, piece.fields[name]] for name in sorted(piece.fields)]
    known = [piece.samples, list(piece.extractors), piece.recipe, piece.epochs, SETS]
    return [*known, fields] if fields else known


def _versions() -> dict[str, str]:
    """Versions behind the numbers: an arm and its control are compared under the same ones."""
    return library_versions() | {"noise": NOISE_VERSION}


def _measure(checkpoint: Store, piece: Piece) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Means and, of what is measured on samples, standard deviations over sets of samples."""
    sets = [_evaluate(checkpoint, piece, seed) for seed in range(SETS)]
    means = {
        name: statistics.fmean(each[name] for each in sets if name in each) for name in sets[0]
    }
    spread = {
        name: statistics.stdev(each[name] for each in sets)
        for name in sets[0]
        if name.startswith("generation/")
    }
    return means, spread


def _evaluate(checkpoint: Store, piece: Piece, seed: int) -> dict[str, float]:
    storage = Store(checkpoint.uri.rsplit("/checkpoints/", 1)[0].rpartition("/")[0]).uri
    arguments = EvaluateArguments(
        run=checkpoint.uri,
        suite=SUITES if seed == 0 else SUITES[:1],
        storage=storage,
        seed=seed,
        num_samples=piece.samples,
        extractor=piece.extractors,
        num_workers=0,
        use_gpu=piece.use_gpu,
        track=False,
    )
    outcomes = evaluate(_sharing_latents(open_evaluation(arguments, storage), piece))
    return {
        f"{outcome.suite}/{row.card.metric}": row.card.value
        for outcome in outcomes
        for row in outcome.rows
    }


def _sharing_latents(request: Evaluation, piece: Piece) -> Evaluation:
    """The request with latents that a parent and all its arms have in common."""
    latents = (Store.open(piece.folder) / "latents").uri
    suites = (
        replace(suite, latents=latents) if isinstance(suite, Drawing) else suite
        for suite in request.suites
    )
    return replace(request, suites=tuple(suites))
