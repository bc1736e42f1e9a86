"""An experiment with everything that a report can meet, written in plain code: nothing is trained.

Two training runs that were measured under different protocols, one with a hostile name, one that is
broken in every way, one with more sample grids than the page has room for; a sweep over F with two
arms and two seeds, one of its trials half written, one below it that is none of its own; one over
sigma; and one over an axis that nobody knows.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unite import tracking
from unite.ablation.options import SweepOptions
from unite.ablation.results import Result
from unite.ablation.trials import Sweep, Trial, expand
from unite.config.axes import find_axis
from unite.config.schema import TrackingConfig
from unite.evaluation.card import MetricCard
from unite.evaluation.results import Outcome, Row, merge_outcomes
from unite.evaluation.suites import all_suites
from unite.paper import counterpart
from unite.reporting.build import build
from unite.reporting.collect import Collected, collect
from unite.reporting.options import ReportOptions
from unite.reporting.view import View, view
from unite.storage import Store

EXPERIMENT = "rich"
HOSTILE = "<img src=x onerror=\"console.error('ran')\"></script><b>bold</b>"
STEPS = (9_600, 19_200, 28_800, 38_400)
LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
DEPTH = 4
CHECKPOINT = "c" * 16
SIDE = 80


@dataclass(frozen=True, kw_only=True)
class Rich:
    """The experiment, and what is known of it."""

    storage: Path
    uri: str
    hostile: str = HOSTILE
    good: str = "digits-base"
    other: str = "digits-wide-separate"
    broken: str = "digits-interrupted"
    many: str = "digits-long"
    foreign: str = "F = 14, shared, seed 0, of an older recipe"
    half_written: str = "F = 14, separate, seed 1"


class Writer:
    """Writes runs as the trainer, the evaluation and the sweeps leave them."""

    def __init__(self, storage: Path) -> None:
        self.storage = storage
        self.config = TrackingConfig(experiment=EXPERIMENT)
        self.uri = ""

    def start(self, name, folder="", params=None, tags=None, parent=None, config=None):
        """A run in MLflow, and its folder where it has one."""
        place = Store.open(self.storage) / folder if folder else None
        handle = tracking.start_run(
            self.config,
            storage=str(self.storage),
            name=name,
            params={"recipe": "digits", **(params or {})},
            config_dict=config or {},
            tags={"recipe": "digits", **(tags or {})} | ({"run_uri": place.uri} if place else {}),
            parent_run_id=parent,
        )
        self.uri = handle.uri
        if place:
            place.write_json("config.json", {})
            place.write_json("run.json", {"mlflow_run_id": handle.run_id})
        return handle, place

    def losses(self, handle, seed) -> None:
        """Twelve points of both losses; the flow loss rises again, as in Fig. 4."""
        tracker = tracking.open_tracker(handle, spool=self.storage / "spool" / handle.run_id)
        for number in range(1, 13):
            share = number / 12
            tracker.log(
                {
                    "loss/reconstruction": 2.4 * np.exp(-3 * share) + 0.12 + 0.01 * seed,
                    "loss/flow": 0.35 + 0.3 * (share - 0.35) ** 2 + 0.02 * seed,
                    "latent/std": 0.2 + 0.5 * share,
                    "eval/psnr": 12 + 20 * share - seed,
                },
                int(STEPS[-1] * share),
            )
        tracker.close()

    def results(self, handle, metrics, *, step=STEPS[-1], tags=None, images=None) -> None:
        """Results of an evaluation in MLflow."""
        spool = self.storage / "spool" / "results" / handle.run_id
        tracking.log_results(handle, metrics, step, spool=spool, tags=tags, images=images)


def card(suite: str, metric: str, value: float, **fields) -> MetricCard:
    common = {"step": STEPS[-1], "checkpoint": CHECKPOINT, "data": "d" * 64, "num_samples": 297}
    return MetricCard(suite=suite, metric=metric, value=value, **(common | fields))


def suites(shift: float, samples: int, step: int = STEPS[-1]) -> list[Outcome]:
    """Every suite's outcome; `shift` moves the values, `samples` is the protocol."""
    drawn = {
        "num_samples": samples, "solver": "heun", "num_steps": 25, "cfg_scale": 1.5,
        "extractor": "digits-cnn", "label_sampling": "balanced",
    }  # fmt: skip
    generation = {"fd-digits-cnn": 7.988, "cs-digits-cnn": 9.412, "precision-digits-cnn": 0.653}
    reconstruction = {"rfd-digits-cnn": 0.1881, "psnr": 33.22, "ssim": 0.9964}
    curve = {f"psnr_t{t:.2f}": 8 + 20 * t for t in LEVELS} | {"psnr_z0": 33.22}
    parts = {"norm_mb": 0.021, "functional_mb": 0.176, "other_mb": 0.018, "total_mb": 0.215}
    start = {f"random_{name}": 1.3 * value for name, value in parts.items()}
    alignment = {"cka_mean": 0.71, "latent_cosine_mean": 0.8958}
    levels = {"levels": list(LEVELS)}
    contents: dict[str, tuple[Mapping[str, float], dict]] = {
        "generation": (generation, drawn),
        "reconstruction": (reconstruction, {}),
        "alignment": (alignment, {"details": levels}),
        "trajectory": (curve, {"details": levels}),
        "entropy": (parts | start, {"details": {"bins": 2048}}),
        "compute": ({"params_m": 0.39 + shift, "tflop_per_sample": 0.00011}, {}),
    }
    return [
        Outcome(
            suite=suite,
            rows=tuple(
                Row(
                    card=card(suite, name, value + shift, step=step, **fields),
                    paper=_paper(suite, name),
                )
                for name, value in values.items()
            ),
            files=_files(suite, shift),
        )
        for suite, (values, fields) in contents.items()
    ]


def _paper(suite: str, name: str):
    known = {"fd-digits-cnn": "fid", "rfd-digits-cnn": "rfid"}
    return counterpart(known[name], suite=suite) if name in known else None


def _files(suite: str, shift: float) -> dict[str, bytes]:
    if suite == "trajectory":
        return {"trajectory.png": png(picture(1.0))}
    if suite != "alignment":
        return {}
    blocks = np.linspace(0.95, 0.6 + 0.1 * shift, DEPTH)
    curves = [(blocks * (0.8 + 0.2 * t)).tolist() for t in LEVELS]
    content = {
        "config": {"levels": list(LEVELS)},
        "num_images": 297,
        "cka": curves,
        "cknna": [[0.6 * value for value in curve] for curve in curves],
        "cosine": [[0.9 * value for value in curve] for curve in curves],
        "latent_cosine": [0.6 + 0.35 * t for t in LEVELS],
    }
    return {"alignment.json": json.dumps(content).encode()}


def picture(share: float) -> np.ndarray:
    """A grid of digits in noise, (SIDE, SIDE, 3) uint8."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    digits_BHW = digits.images[digits.target.argsort(kind="stable")[:: len(digits.target) // 100]]
    grid_HW = digits_BHW[:100].reshape(10, 10, 8, 8).transpose(1, 2, 0, 3).reshape(SIDE, SIDE) / 16
    noise_HW = np.random.default_rng(0).random((SIDE, SIDE))
    mixed_HW = share * grid_HW + (1 - share) * noise_HW
    return np.repeat((255 * mixed_HW)[:, :, None], 3, axis=2).astype(np.uint8)


def png(image_HWC: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image_HWC).save(file, format="PNG")
    return file.getvalue()


def evaluate(folder: Store, outcomes: list[Outcome]) -> None:
    """What jobs/evaluate.py leaves in a run's folder."""
    home = folder / "evaluations" / CHECKPOINT
    for outcome in outcomes:
        outcome.save(home / f"{outcome.suite}-{'0' * 16}")
    merge_outcomes(home, outcomes, tuple(all_suites()))
    home.write_json("results.json", {"outcomes": [outcome.to_dict() for outcome in outcomes]})


def logged(outcomes: list[Outcome]) -> dict[str, float]:
    """As they go to MLflow."""
    return {f"eval/{o.suite}/{r.card.metric}": r.card.value for o in outcomes for r in o.rows}


def write_training_runs(writer: Writer, rich: Rich) -> None:
    sampling = {"sampling.solver": "heun", "sampling.num_steps": 25, "sampling.cfg_scale": 1.5}
    for seed, (name, sharing, samples) in enumerate(
        [(rich.good, "shared", 3_000), (rich.other, "separate", 1_000)]
    ):
        params = {"model.sharing": sharing, "training.seed": seed, **sampling}
        handle, folder = writer.start(name, folder=name, params=params)
        writer.losses(handle, seed)
        outcomes = suites(0.05 * seed, samples)
        evaluate(folder, outcomes)
        for number, step in enumerate(STEPS[: 4 - seed]):
            grid = {"samples": picture(0.25 * (number + 1))}
            writer.results(handle, {"eval/reconstruction/psnr": 33.0}, step=step, images=grid)
        writer.results(handle, logged(outcomes))
        tracking.finish_run(handle, "FINISHED")

    handle, _ = writer.start(rich.hostile, folder="hostile")
    writer.losses(handle, 2)
    tracking.finish_run(handle, "FINISHED")

    handle, folder = writer.start(rich.many, folder=rich.many)
    for step in range(1_000, 10_000, 1_000):
        writer.results(handle, {}, step=step, images={"samples": picture(step / 10_000)})
    tracking.finish_run(handle, "FINISHED")


def write_broken_run(writer: Writer, rich: Rich) -> None:
    """Ended in the middle; a broken results.json, curves, pictures and a grid."""
    handle, folder = writer.start(rich.broken, folder=rich.broken)
    folder.write_json("progress.json", {"state": "training", "images": 900, "total_images": 38_400})
    outcomes = [o for o in suites(0.1, 3_000, step=900) if o.suite in ("alignment", "trajectory")]
    broken = {"alignment.json": b'{"config"', "trajectory.png": b"\x89PNG cut off"}
    evaluate(folder, [replace(outcome, files=broken) for outcome in outcomes])
    home = folder / "evaluations" / CHECKPOINT
    (home / f"probe-{'0' * 16}").write("chunk.npz", b"")
    (home / f"generation-{'1' * 16}").write("results.json", b'{"outcomes": [')
    writer.results(handle, {}, step=500, images={"samples": picture(0.2)})
    writer.results(handle, {}, step=900, images={"samples": picture(0.3)})
    (artifact,) = (writer.storage).rglob("*samples+step+900+*.png")
    artifact.write_bytes(b"half a picture")


def write_trial(writer: Writer, sweep: Sweep, parent: str, trial: Trial, values, *, name="") -> str:
    """One finished trial: its folder with cards, its run in MLflow with the same numbers."""
    handle, folder = writer.start(
        name or sweep.label(trial),
        folder=f"trial-{trial.digest}",
        params={"model.sharing": trial.config.model.sharing, "training.seed": trial.seed},
        tags=sweep.tags(trial) | {"recipe": "smoke"},
        parent=parent,
    )
    found = {
        suite: Outcome(
            suite=suite,
            rows=tuple(
                Row(card=card(suite, metric, value, num_samples=64))
                for (of, metric), value in values.items()
                if of == suite
            ),
        )
        for suite in ("generation", "reconstruction")
    }
    evaluate(folder, list(found.values()))
    metrics = logged(list(found.values())) | {"eval/latent/std": 0.6}
    if trial.point[0] == "":  # sweeps of older versions kept no cards
        cards = {
            f"eval/{o.suite}/{r.card.metric}": r.card.to_dict()
            for o in found.values()
            for r in o.rows
        }
        kept = Result(
            metrics=metrics, images=STEPS[-1], parameters=1, flops=1.0, checkpoint=CHECKPOINT,
            cards=cards,
        )  # fmt: skip
        folder.write_json(f"ablation/{trial.measurement}.json", asdict(kept))
    writer.results(handle, metrics, tags={"measured": f"{trial.digest} {CHECKPOINT}"})
    tracking.finish_run(handle, "FINISHED")
    return handle.run_id


def values_of(trial: Trial) -> dict[tuple[str, str], float]:
    """Like the paper's trends, with a spread over seeds."""
    noise = 0.013 * trial.seed
    separate = 0.21 if "separate" in trial.arm else 0.0
    good = {"1": 0.91, "14": 0.63, "0.0": 0.8, "0.7": 0.7}[trial.value]
    return {
        ("generation", "fd-pixels"): good + separate + noise,
        ("generation", "cs-digits-cnn"): 9.0 - good + noise,
        ("reconstruction", "rfd-pixels"): good / 3 + noise,
        ("reconstruction", "psnr"): 29.3 - good + noise,
    }


def start_sweep(writer: Writer, axis: str, values: tuple[str, ...]) -> tuple[Sweep, str]:
    options = SweepOptions(scale="smoke", seeds=2, values=values, storage=str(writer.storage))
    sweep = expand(find_axis(axis), replace(options, tracking=writer.config))
    handle, _ = writer.start(
        sweep.name,
        tags={"role": "sweep", "axis": axis, "scale": "smoke", "equal": "images"},
        config={"trials": {trial.digest: sweep.label(trial) for trial in sweep.trials}},
    )
    tracking.finish_run(handle, "FINISHED")
    return sweep, handle.run_id


def write_sweeps(writer: Writer, rich: Rich) -> None:
    sweep, parent = start_sweep(writer, "flow_ratio", ("1", "14"))
    trials = [t for t in sweep.trials if t.arm in ("shared", "separate")]
    for trial in trials:
        if sweep.label(trial) != rich.half_written:
            write_trial(writer, sweep, parent, trial, values_of(trial))
    cut = next(trial for trial in trials if sweep.label(trial) == rich.half_written)
    _, folder = writer.start(
        rich.half_written,
        folder=f"trial-{cut.digest}",
        tags=sweep.tags(cut) | {"recipe": "smoke"},
        parent=parent,
    )
    folder.write(f"ablation/{cut.digest}-{'0' * 12}.json", b'{"metrics": {"eval/gen')

    older = expand(sweep.axis, replace(sweep.options, epochs=9.0)).trials
    alien = next(t for t in older if (t.arm, t.value, t.seed) == ("shared", "14", 0))
    far_off = dict.fromkeys(values_of(alien), 1e6)
    write_trial(writer, sweep, parent, alien, far_off, name=rich.foreign)

    sweep, parent = start_sweep(writer, "noise", ("0.0", "0.7"))
    for trial in sweep.trials:
        write_trial(writer, sweep, parent, trial, values_of(trial))

    handle, _ = writer.start("sweep-colour", tags={"role": "sweep", "axis": "colour"})
    tracking.finish_run(handle, "FINISHED")


@pytest.fixture
def writer(tmp_path, monkeypatch) -> Writer:
    """A writer of an experiment of one's own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Writer(tmp_path)


@pytest.fixture(scope="session")
def rich(tmp_path_factory) -> Rich:
    storage = tmp_path_factory.mktemp("rich")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        writer = Writer(storage)
        found = Rich(storage=storage, uri="")
        write_training_runs(writer, found)
        write_broken_run(writer, found)
        write_sweeps(writer, found)
    return replace(found, uri=writer.uri)


@pytest.fixture(scope="session")
def collected(rich) -> Collected:
    return collect(rich.uri, EXPERIMENT, str(rich.storage))


@pytest.fixture(scope="session")
def seen(collected) -> View:
    return view(collected)


@pytest.fixture(scope="session")
def index(collected) -> dict[str, int]:
    """Place of a run by its name."""
    return {run.name: number for number, run in enumerate(collected.runs)}


@pytest.fixture(scope="session")
def report(rich, root) -> Path:
    """The page, as the command writes it."""
    out = rich.storage / "report.html"
    options = ReportOptions(experiment=EXPERIMENT, out=str(out), uri=rich.uri)
    lines = build(options, str(rich.storage), root / "dashboards")
    assert lines[-1].startswith(str(out))
    return out
