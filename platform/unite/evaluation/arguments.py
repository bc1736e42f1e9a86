"""Options of `jobs/evaluate.py`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from unite.config.effects import refuse_changed
from unite.config.schema import DomainConfig, Precision, Solver
from unite.evaluation.suites import all_suites, meant, suites_for
from unite.paper import ENTROPY_BINS

LEAST_BATCH = 32
"""Smallest `--batch-size`: batches of half as many rows, and no fewer, round each row alike
(`instruments.LEAST_ROWS`)."""
AUTO = ("auto",)
"""Features of the distances by themselves: Inception where its weights are, else a fitted one."""


@dataclass(frozen=True, kw_only=True)
class WorkerArguments:
    """Workers and their batch size; nothing here changes a result."""

    num_workers: int | None = None
    """Ray actors; None = one per GPU with --use-gpu, else one per CPU. 0 = this process, no Ray."""
    use_gpu: bool = False
    """Reserve one GPU per worker."""
    wait_s: float = 0.0
    """Seconds to wait for an autoscaling cluster to bring the workers' resources."""
    batch_size: int = 0
    """Largest number of images that a worker computes at once, at least 32, below which rounding
    would change; 0 = 250 on a CPU, on a GPU by its memory (128 with 24 GB, 512 with 80)."""


@dataclass(frozen=True, kw_only=True)
class SampleArguments(WorkerArguments):
    """A checkpoint, the samples that are drawn of it, and their reference."""

    run: str = "latest"
    """latest, a run's name or MLflow id, or a path or s3:// URI of a run, checkpoint, export or
    weights file."""
    storage: str = ""
    """Folder or s3:// URI of the runs; empty = UNITE_STORAGE, else ./runs."""
    ema: bool = True
    """Measure the averaged weights; false takes those of the last step."""
    data: str = ""
    """Folder of training shards; empty = the run's own."""
    num_samples: int = 0
    """N generated samples; 0 = 50,000, or for small data sets twice the training images; of
    molecules and crystals 10,000."""
    seed: int = 0
    """Seed of the set of samples and of all other noise."""
    cfg_scale: float | None = None
    """Guidance scale; 1 = none. None, here and below, takes the run's own setting."""
    cfg_interval: tuple[float, float] | None = None
    """Interval of t, both ends excluded, in which guidance acts."""
    extractor: tuple[str, ...] = AUTO
    """auto, inception, small (fitted on the training data), pixels, or folders of fitted ones."""
    reference: str = ""
    """Statistics of the real images (npz) for the first extractor; empty = made and kept."""
    precision: Precision | None = None
    """Arithmetic of the model, which the card names: bfloat16 = autocast; None = bfloat16 with
    --use-gpu, else float32, which stays exact on a GPU too."""
    weights: str = ""
    """Folder or s3:// URI of pretrained files (Inception, VGG); empty = the run's, then
    UNITE_WEIGHTS, then torch's cache."""
    track: bool = True
    """Write the results into the training run in MLflow."""

    @property
    def arithmetic(self) -> Precision:
        """Precision that the model runs in."""
        return self.precision or ("bfloat16" if self.use_gpu else "float32")


@dataclass(frozen=True, kw_only=True)
class EvaluateArguments(SampleArguments):
    """Measure a checkpoint."""

    recipe: str = ""
    """Instead of a run, a recipe: an untrained model of it, on the suites entropy and compute."""
    suite: tuple[str, ...] = ()
    """Some of generation, reconstruction, alignment, trajectory, entropy, probe, compute; of a
    joint model also one part's alone, such as generation-molecules; empty = all."""
    eval_data: str = ""
    """Folder of held-out shards; empty = the run's own."""
    labels: Literal["balanced", "uniform"] = "balanced"
    """Classes of the samples: balanced = equally many of each, uniform = drawn at random."""
    solver: Solver | None = None
    """Solver of the flow; None takes the run's own setting."""
    num_steps: int | None = None
    """Steps of heun, midpoint and euler."""
    cfg_sweep: bool = False
    """Measure every guidance scale from 1.0 to 4.0 in steps of 0.2; the rest is then measured at
    the best."""
    cfg_adaptive: bool = False
    """Find the same scale with at most a quarter of the samples."""
    pose_samples: int = 0
    """Molecules, the first ones, that PoseBusters judges (0.2 s each), and as many true ones."""
    num_images: int = 0
    """Held-out images to reconstruct; 0 = all, at most 50,000."""
    analysis_images: int = 1024
    """Held-out images of alignment and trajectory, at most."""
    probe_images: int = 50_000
    """Training images that the probe is fitted on, at most."""
    entropy_bins: int = ENTROPY_BINS
    """Histogram bins of the weight entropy; the paper gives none, 2048 meet its figures."""
    push: str = ""
    """File of results that MLflow did not take, as a message named it: send it, measure nothing."""


@dataclass(frozen=True, kw_only=True)
class Table4Arguments(SampleArguments):
    """Measure one checkpoint under the protocols of the paper's Table 4, side by side."""


@dataclass(frozen=True, kw_only=True)
class CurveArguments(EvaluateArguments):
    """Measure every checkpoint that a run has kept, and draw the losses with the distances."""

    suite: tuple[str, ...] = ("generation",)
    """Suites to measure; of generation and reconstruction what ranks runs first is drawn."""
    push: Annotated[str, tyro.conf.Suppress] = ""


def readers(domain: DomainConfig | None = None) -> Mapping[str, tuple[str, ...]]:
    """Arguments that only some suites, of a domain or of all, read -> those suites."""
    found: dict[str, tuple[str, ...]] = {}
    for name, entry in (suites_for(domain) if domain else all_suites()).items():
        for argument in entry.reads:
            found[argument] = (*found.get(argument, ()), name)
    return found


def without_effect(
    arguments: EvaluateArguments, suites: Sequence[str], domain: DomainConfig | None = None
) -> dict[str, Any]:
    """Changed arguments that none of the suites reads; `domain` asks for its own suites."""
    read = readers(domain)
    defaults = EvaluateArguments()
    changed = {name: getattr(arguments, name) for name in readers()}
    return {
        name: value
        for name, value in changed.items()
        if value != getattr(defaults, name) and not set(read.get(name, ())) & set(suites)
    }


@dataclass(frozen=True, kw_only=True)
class DataArguments(WorkerArguments):
    """A data set of images."""

    data: str
    """Folder or s3:// URI of parquet shards (jobs/prepare_data.py), or builtin:digits."""
    split: Literal["train", "eval"] = "train"
    """Split of the data set."""
    size: int = 0
    """Side in pixels that images are cropped to; 0 = as they are stored."""
    channels: int = 0
    """3 (RGB) or 1 (grey); 0 = as they are stored."""
    storage: str = ""
    """Folder or s3:// URI of the runs; empty = UNITE_STORAGE, else ./runs."""
    weights: str = ""
    """Folder or s3:// URI of pretrained files; empty = UNITE_WEIGHTS, then torch's cache."""


@dataclass(frozen=True, kw_only=True)
class ReferenceArguments(DataArguments):
    """Build the statistics of a data set's images, once for all evaluations."""

    extractor: str = "auto"
    """auto, inception, small, pixels, or the folder of a fitted one."""
    out: str = ""
    """npz file; empty = in the storage, where evaluations find it."""


@dataclass(frozen=True, kw_only=True)
class FitArguments(DataArguments):
    """Fit a small feature extractor on a data set's own labels."""

    name: str = ""
    """Name in metrics' names, FD-<name>; empty = the data folder's name and -cnn."""
    seed: int = 0
    """Seed of initial weights and order."""
    images: int = 0
    """Training images seen, repeats counted; 0 = 200,000, 20 passes over a small set, or what four
    minutes on one CPU thread allow, whichever is least."""
    out: str = ""
    """Folder; empty = in the storage, where evaluations find it."""


@dataclass(frozen=True, kw_only=True)
class CompareArguments:
    """Put the numbers of two evaluations side by side."""

    a: Annotated[Positional[str], tyro.conf.arg(metavar="RUN")]
    """Run, or results.json, of the first."""
    b: Annotated[Positional[str], tyro.conf.arg(metavar="RUN")]
    """Run, or results.json, of the second."""
    allow_different_cards: bool = False
    """Compare numbers that were measured differently, and show the fields that differ."""


def chosen_suites(names: tuple[str, ...], domain: DomainConfig | None = None) -> tuple[str, ...]:
    """The suites asked for, in the order of the registry; all, where none is named.

    ValueError for a name that the domain, or without one every domain, does not have.
    """
    known = suites_for(domain) if domain else all_suites()
    wanted = [part for name in names for part in name.split(",") if part]
    for name in wanted:
        if not meant(name, known):
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else "."
            whose = f" for {domain.kind}" if domain else ""
            raise ValueError(f"--suite {name!r} is unknown{whose}{hint} Suites: {', '.join(known)}")
    asked = [each for name in wanted for each in meant(name, known)]
    return tuple(name for name in known if name in asked or not wanted)


def check_of_domain(
    arguments: EvaluateArguments, suites: Sequence[str], domain: DomainConfig
) -> None:
    """ValueError for a changed argument that no suite of this domain reads."""
    for name, value in without_effect(arguments, suites, domain).items():
        shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
        raise ValueError(
            f"--{name.replace('_', '-')} {shown} has no effect on {', '.join(suites)} of "
            f"{domain.kind}: leave it out"
        )


def check_data(arguments: DataArguments) -> None:
    """ValueError for values that no data set can fit, and for options without effect."""
    _check_workers(arguments)
    _refuse_negative(arguments, ("size", "images"))
    if arguments.channels not in (0, 1, 3):
        raise ValueError(f"--channels {arguments.channels} must be 3 (RGB), 1 (grey) or 0")
    if isinstance(arguments, FitArguments):
        refuse_changed(arguments, ("weights",), "on fitting, which reads no pretrained file")


def _check_workers(arguments: WorkerArguments) -> None:
    _refuse_negative(arguments, ("batch_size", "num_workers", "wait_s"))
    if 0 < arguments.batch_size < LEAST_BATCH:
        raise ValueError(
            f"--batch-size {arguments.batch_size} must be at least {LEAST_BATCH}, below which "
            "rounding would change (0 = by the device)"
        )
    if arguments.num_workers == 0:
        refuse_changed(arguments, ("wait_s",), "with --num-workers 0, without Ray")


def _refuse_negative(arguments: object, names: Sequence[str]) -> None:
    """ValueError for the first option, of those that there are, that is below 0."""
    for name in names:
        if (getattr(arguments, name, None) or 0) < 0:
            raise ValueError(f"--{name.replace('_', '-')} must not be negative")


def check(arguments: EvaluateArguments) -> None:
    """ValueError for values that no run can fit."""
    if arguments.cfg_sweep and arguments.cfg_adaptive:
        raise ValueError("--cfg-sweep and --cfg-adaptive exclude each other: choose one")
    sweeps = arguments.cfg_sweep or arguments.cfg_adaptive
    if sweeps and arguments.cfg_scale is not None:
        raise ValueError("--cfg-scale has no effect with a sweep, which chooses it: leave it out")
    suites = chosen_suites(arguments.suite)
    for name, value in without_effect(arguments, suites).items():
        theirs = dict.fromkeys(each.split("-")[0] for each in readers()[name])
        raise ValueError(
            f"--{name.replace('_', '-')} {value} has no effect on {', '.join(suites)}: it belongs "
            f"to {' and '.join(theirs)}. Leave it out, or add a --suite that reads it"
        )
    _refuse_negative(arguments, ("num_samples", "pose_samples", "num_images"))
    for name in ("analysis_images", "probe_images"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1")
    _check_workers(arguments)
    if arguments.entropy_bins < 2:
        raise ValueError("--entropy-bins must be at least 2: a histogram of one bin has no entropy")
