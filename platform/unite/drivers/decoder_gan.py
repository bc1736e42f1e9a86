"""The driver of the ablation of the decoder's fine-tuning: parents, arms, files.

Work is leased to a pool of Ray actors, or done here with `--num-workers 0`. Every piece keeps its
result, so the same command goes on from what is finished.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from unite.ablation.decoder_gan_options import GAN_SCALES, GanSweepOptions
from unite.checkpoints.load import load
from unite.cluster.pool import Pool
from unite.config.schema import RunConfig
from unite.data.loader import sequential_batches
from unite.drivers.decoder_gan_piece import (
    Piece,
    compute,
    parent_config,
    read_measured,
    run_folder,
    train_parent,
)
from unite.drivers.progress import POLL_SECONDS, progress_line
from unite.drivers.signals import stop_on_signals
from unite.evaluation.arguments import WorkerArguments
from unite.figures.sheet import picture
from unite.runs import read_run_config, resolve_run
from unite.sampling.grid import save_png
from unite.storage import Store
from unite.training.evaluation import reconstruct
from unite.training.progress import REMOTE_SECONDS, describe_progress, read_progress
from unite.training.runs import open_run
from unite.training.setup import open_split
from unite.words import count

PICTURED = 200
"""Number of held-out images of which those that changed most are shown."""


def main(options: GanSweepOptions) -> int:
    """Run a settled sweep: parents, then every arm and seed, then its files; 0 when done."""
    if options.dry_run:
        return _show(options)
    with stop_on_signals():
        parents = _parents(options)
        pieces = pieces_of(options, parents)
        # One at first, here: it fits the extractor and makes the reference for all the others.
        compute(pieces[0])
        _run([piece for piece in pieces[1:] if read_measured(piece) is None], options)
    measured = [found for piece in pieces if (found := read_measured(piece))]
    lines = write_files(options, measured)
    print("\n".join(lines))
    return 0


def _show(options: GanSweepOptions) -> int:
    """Print what would be trained."""
    places = options.run or [f"seed {seed}" for seed in range(options.parents)]
    tunings = len(places) * len(options.arms) * options.seeds
    print(
        f"{count(len(places), 'parent')} ({', '.join(places)}), {count(tunings, 'fine-tuning')}: "
        f"{', '.join(options.arms)}, each with {count(options.seeds, 'seed')}"
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
            folder=_folder(options).uri,
        )
        for arm, seed in arms
        for parent in parents
    ]


def write_files(options: GanSweepOptions, measured: Sequence[Measured]) -> list[str]:
    """Write table, figure, pictures and verdict; returns the lines of table and verdict."""
    out = Store.open(options.out) if options.out else _folder(options)
    distance, samples = (
        next(name for name in measured[0].metrics if name.startswith(start))
        for start in ("reconstruction/rf", "generation/f")
    )
    metrics = [distance, "reconstruction/psnr", "reconstruction/ssim", samples]
    metrics += [name for name in ("reconstruction/lpips",) if name in measured[0].metrics]
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
    if grid := _pictures(measured):
        save_png(out, "decoder_gan_images.png", before_and_after(grid))
    return [*lines, "", f"{out}/decoder_gan.md, .png, .svg and decoder_gan_images.png"]


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
    config = open_run_config(run)
    shards = open_split(config, "eval")
    batch = next(sequential_batches(shards, model.domain, batch_size=PICTURED))
    fields = {name: torch.from_numpy(value) for name, value in batch.fields.items()}
    sample, _ = model.domain.to_sample(fields)
    made = reconstruct(model, sample, torch.as_tensor(batch.rows_B), 0)
    return model.domain.render(sample).numpy(), model.domain.render(made).numpy()


def open_run_config(run: str) -> RunConfig:
    """The config of a run; ValueError for what holds none."""
    config = read_run_config(run)
    if config is None:
        raise ValueError(f"{run} holds no config of a run")
    return config


def _folder(options: GanSweepOptions) -> Store:
    """Folder of the sweep's results."""
    return Store.open(options.storage) / "sweeps" / f"decoder-gan-{options.scale}"


def _parents(options: GanSweepOptions) -> list[str]:
    """Places of the parents; those of the scale are trained unless they are there."""
    if options.run:
        return [resolve_run(name, options.storage) for name in options.run]
    scale = GAN_SCALES[options.scale]
    fields = {"storage": options.storage, "data.train": options.data, **scale.parent_fields}
    configs = [parent_config(scale.parent, seed, fields) for seed in range(options.parents)]
    folders = [open_run(config).folder for config in configs]
    _leased(configs, folders, train_parent, options.num_workers, "parent")
    return [folder.uri for folder in folders]


def _run(pieces: Sequence[Piece], options: GanSweepOptions) -> None:
    folders = [run_folder(piece) for piece in pieces]
    _leased(pieces, folders, compute, options.num_workers, "fine-tuning")


def _leased(
    items: Sequence[Any],
    folders: Sequence[Store],
    work: Callable[[Any], Any],
    num_workers: int | None,
    noun: str,
) -> None:
    """Do all items, on Ray actors or here, and show how far each run is by its folder."""
    done: list[str] = []
    place = dict(zip(map(id, items), folders, strict=True))

    def tell(item: Any) -> None:
        done.append(place[id(item)].uri)
        terminal.tell(f"{len(done)} of {count(len(items), noun)} done: {place[id(item)].name}")

    with _shown(folders, done, noun):
        if num_workers == 0:
            for item in items:
                work(item)
                tell(item)
            return
        pool: Pool[Any] = Pool(
            functools.partial(_worker, work), WorkerArguments(num_workers=num_workers)
        )
        try:
            pool.run(items, tell)
        finally:
            pool.close()


@contextmanager
def _shown(folders: Sequence[Store], done: Sequence[str], noun: str) -> Iterator[None]:
    """Context in which a line tells the state of all runs; `done` has the places of ended ones."""
    ended, since = threading.Event(), time.time()
    whole = count(len(folders), noun)
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


def _worker(work: Callable[[Any], Any]) -> Callable[[Any], None]:
    """A worker of the pool."""
    return lambda item: work(item)
