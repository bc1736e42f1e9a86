"""The driver of the ablation of the decoder's fine-tuning: parents, arms, files.

Work is leased to a pool of Ray actors, or done here with `--num-workers 0`. Every piece keeps its
result, so the same command goes on from what is finished.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from unite import terminal
from unite.ablation.decoder_gan import (
    CONTROL,
    GE,
    PARENT,
    SETS,
    Measured,
    claims,
    cost_lines,
    table,
)
from unite.ablation.decoder_gan_figure import before_and_after, gan_figure
from unite.ablation.decoder_gan_options import GAN_SCALES, GanSweepOptions, gan_folder
from unite.ablation.results import is_trained
from unite.checkpoints.layout import latest
from unite.checkpoints.lease import hold
from unite.checkpoints.load import load
from unite.cluster.pool import Pool
from unite.data.loader import sequential_batches
from unite.domains import build_domain
from unite.drivers.decoder_gan_piece import (
    Piece,
    compute,
    parent_config,
    read_measured,
    run_folder,
    train_parent,
)
from unite.drivers.progress import POLL_SECONDS, progress_line
from unite.drivers.session import InProcess
from unite.drivers.signals import stop_on_signals
from unite.drivers.train import prepare
from unite.evaluation.arguments import WorkerArguments
from unite.figures.sheet import picture
from unite.runs import read_run_config, resolve_run
from unite.sampling.grid import save_png
from unite.storage import Store
from unite.training.adversarial import require_adversarial
from unite.training.evaluation import reconstruct
from unite.training.finetune import find_parent
from unite.training.progress import REMOTE_SECONDS, describe_progress, read_progress
from unite.training.runs import Run, open_run
from unite.training.setup import open_split
from unite.words import count

PICTURED = 200
"""Number of held-out images of which those that changed most are shown."""


@dataclass(frozen=True)
class Work:
    """Work on a run, whose folder tells how far it is."""

    folder: Store
    do: Callable[[], None]

    def __str__(self) -> str:
        return self.folder.name


def main(options: GanSweepOptions) -> int:
    """Run a settled sweep: parents, then every arm and seed, then its files; 0 when done.

    BusyError when another command runs it.
    """
    own = _own_parents(options)
    parents = [run.folder for run in own] or _given_parents(options)
    if options.dry_run:
        return _show(options, parents)
    alone = hold(_kept(options), "sweep", patience_s=0.0)
    with alone, stop_on_signals(), _workers(options) as pool:
        left = [run.config for run in own if not is_trained(run)]
        begun = [prepare(config, resume="auto", allow_changes=False) for config in left]
        _do(pool, "parent", [Work(run.folder, partial(train_parent, run)) for run in begun])
        pieces = pieces_of(options, [folder.uri for folder in parents])
        works = [(piece, Work(run_folder(piece), partial(compute, piece))) for piece in pieces]
        # The first one alone: it fits the extractor and makes the reference for all the others.
        for noun, part in {"measurement": works[:1], "fine-tuning": works[1:]}.items():
            _do(pool, noun, [work for piece, work in part if read_measured(piece) is None])
    measured = [found for piece in pieces if (found := read_measured(piece))]
    print("\n".join(write_files(options, measured)))
    return 0


def _show(options: GanSweepOptions, parents: Sequence[Store]) -> int:
    """Print what would be trained, and what is finished."""
    tunings = len(parents) * len(options.arms) * options.seeds
    begun = [folder.uri for folder in parents if latest(folder)]
    finished = sum(read_measured(piece) is not None for piece in pieces_of(options, begun))
    print(
        f"{count(len(parents), 'parent')} ({', '.join(folder.name for folder in parents)}), "
        f"{count(tunings, 'fine-tuning')}: {'; '.join(options.arms)}; each with "
        f"{count(options.seeds, 'seed')}; {finished} of {len(parents) + tunings} are finished"
    )
    print("nothing was started; the same command without --dry-run trains")
    return 0


def pieces_of(options: GanSweepOptions, parents: Sequence[str]) -> list[Piece]:
    """Everything that is measured: each parent, then its arms, seed by seed."""
    scale = GAN_SCALES[options.scale]
    arms = [(PARENT, 0), *((arm, seed) for seed in range(options.seeds) for arm in options.arms)]
    return [
        Piece(
            parent=parent,
            arm=arm,
            seed=seed,
            recipe=scale.recipe,
            fields=scale.fields,
            epochs=options.epochs,
            samples=options.samples,
            extractors=options.extractor,
            folder=_kept(options).uri,
            use_gpu=scale.use_gpu,
        )
        for arm, seed in arms
        for parent in parents
    ]


def write_files(options: GanSweepOptions, measured: Sequence[Measured]) -> list[str]:
    """Write table, figure, pictures and verdict; returns the lines of table and verdict."""
    out = Store.open(options.out) if options.out else gan_folder(options)
    distance, samples = (
        next(name for name in measured[0].metrics if name.startswith(start))
        for start in ("reconstruction/rf", "generation/f")
    )
    metrics = [distance, "reconstruction/psnr", "reconstruction/ssim", samples]
    metrics += [n for n in ("reconstruction/lpips",) if any(n in m.metrics for m in measured)]
    lines = [*table(measured, metrics), *claims(measured, distance, samples)]
    lines += cost_lines(measured)
    out.write("decoder_gan.md", ("\n".join(lines) + "\n").encode())
    caption = (
        f"{count(options.samples, 'sample')} in each of {SETS} sets; dots are fine-tunings, bars "
        "one standard error"
    )
    drawn = picture(gan_figure(measured, [distance, "reconstruction/psnr", samples], caption))
    out.write("decoder_gan.png", drawn.png)
    out.write("decoder_gan.svg", drawn.svg)
    names = [f"decoder_gan{ending}" for ending in (".md", ".png", ".svg")]
    if grid := _pictures(measured):
        names.append("decoder_gan_images.png")
        save_png(out, names[-1], before_and_after(grid))
    return [*lines, "", f"{out}: {', '.join(names)}"]


def _pictures(measured: Sequence[Measured]) -> dict[str, np.ndarray]:
    """Held-out images, and their reconstructions before, by the control and after, of one pair."""
    parent = measured[0].parent
    places = {m.arm: m.run for m in measured if m.parent == parent and m.seed == 0}
    wanted = [arm for arm in (PARENT, CONTROL, GE) if arm in places]
    if len(wanted) < 3:
        return {}
    rows: dict[str, np.ndarray] = {}
    for arm in wanted:
        real, made = _reconstructions(places[arm])
        rows = rows or {"held out": real}
        rows[arm] = made
    return rows


@torch.inference_mode()
def _reconstructions(run: str) -> tuple[np.ndarray, np.ndarray]:
    """Held-out images and their reconstructions, uint8 (N, H, W, C)."""
    model = load(run)
    config = read_run_config(run)
    assert config is not None  # it was trained here
    shards = open_split(config, "eval")
    batch = next(sequential_batches(shards, model.domain, batch_size=PICTURED))
    fields = {name: torch.from_numpy(value) for name, value in batch.fields.items()}
    sample, _ = model.domain.to_sample(fields)
    made = reconstruct(model, sample, torch.as_tensor(batch.rows_B), 0)
    return model.domain.render(sample).numpy(), model.domain.render(made).numpy()


def _kept(options: GanSweepOptions) -> Store:
    """Folder of measured pieces, which all sweeps of a scale have in common."""
    return Store.open(options.storage) / "sweeps" / f"decoder-gan-{options.scale}"


def _own_parents(options: GanSweepOptions) -> list[Run]:
    """Runs that the sweep trains; ValueError where others have their names."""
    scale = GAN_SCALES[options.scale]
    fields = {
        "storage": options.storage,
        "data.train": options.data,
        "cluster.use_gpu": scale.use_gpu,
        **scale.parent_fields,
    }
    seeds = () if options.run else range(options.parents)
    try:
        return [open_run(parent_config(scale.parent, seed, fields)) for seed in seeds]
    except ValueError as error:
        raise ValueError(f"{error} A sweep has neither flag: name another --storage") from error


def _given_parents(options: GanSweepOptions) -> list[Store]:
    """Folders of the parents that are named; ValueError for what no sweep can begin with."""
    places = [Store.open(resolve_run(name, options.storage)) for name in options.run]
    for place in places:
        if place.is_file() or not place.exists("checkpoints"):
            raise ValueError(
                f"--run {place} is no folder of a run: a sweep continues the newest checkpoint of "
                "each of its parents"
            )
        require_adversarial(build_domain(find_parent(place.uri, storage="").config.domain))
    names = [place.name for place in places]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(
            f"--run names two parents {twice[0]}, and results are kept by that name: copy one of "
            "them to a folder of another name"
        )
    return places


@contextmanager
def _workers(options: GanSweepOptions) -> Iterator[Pool[Work] | InProcess[Work]]:
    """Context with a pool of Ray actors, or with this process in its place."""
    asked = WorkerArguments(
        num_workers=options.num_workers, use_gpu=GAN_SCALES[options.scale].use_gpu
    )
    pool = InProcess(_worker) if options.num_workers == 0 else Pool(_worker, asked)
    try:
        yield pool
    finally:
        pool.close()


def _worker() -> Callable[[Work], None]:
    """A worker of the pool."""
    return lambda work: work.do()


def _do(pool: Pool[Work] | InProcess[Work], noun: str, works: Sequence[Work]) -> None:
    """Do all work, and show how far each run is by its folder."""
    if not works:
        return
    done: list[str] = []
    whole = count(len(works), noun)

    def tell(work: Work) -> None:
        done.append(work.folder.uri)
        terminal.tell(f"{len(done)} of {whole} done: {work}")

    with _shown([work.folder for work in works], done, whole):
        pool.run(works, tell)


@contextmanager
def _shown(folders: Sequence[Store], done: Sequence[str], whole: str) -> Iterator[None]:
    """Context in which a line tells the state of all runs; `done` has the places of ended ones."""
    ended, since = threading.Event(), time.time()
    period = POLL_SECONDS if all(folder.is_local for folder in folders) else REMOTE_SECONDS

    def look() -> None:
        """Renew the line until the work ends."""
        while not ended.wait(period):
            states = {
                folder.name: state
                for folder in folders
                if folder.uri not in done and (state := read_progress(folder))
            }
            text, part = describe_runs(states, since)
            show(f"{len(done)} of {whole} done{text}", len(done) + part)

    with progress_line(f"0 of {whole} done", len(folders)) as show:
        thread = threading.Thread(target=look, name="shown", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def describe_runs(states: Mapping[str, Mapping[str, Any]], since: float) -> tuple[str, float]:
    """Text of the runs at work, by their last states, and their fractions done, added up.

    States from before `since` are an earlier start's.
    """
    text, part = "", 0.0
    for name, state in states.items():
        if state["time"] < since:
            continue
        fraction = state.get("images", 0) / max(state.get("total_images", 0), 1)
        is_trained = state["state"] == "done"
        part += 1.0 if is_trained else fraction
        text += f" | {name}: {'measuring' if is_trained else describe_progress(dict(state))}"
    return text, part
