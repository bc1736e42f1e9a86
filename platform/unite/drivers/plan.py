"""Plan that a training run prints before it starts, and further checks of its dry run.

The plan itself costs seconds at most. The dry run adds what takes longer: a row of every shard is
decoded, a step is traced for its memory, steps are timed when no earlier run tells how long it
takes, and a cluster that RAY_ADDRESS names is joined to see what it has.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from unite import terminal
from unite.ablation.cost import measure_rate, run_cost
from unite.cluster.connect import CapacityError, is_private
from unite.cluster.resources import reachable_nodes, train_workers
from unite.config.finetune import FinetuneRunConfig, as_trained
from unite.config.schema import RunConfig
from unite.config.validate import warnings_of
from unite.config.workers import most_workers
from unite.data.classes import count_classes
from unite.data.overlap import shared_files
from unite.data.probe import probe_shards
from unite.data.shards import ShardSet
from unite.domains import build_domain
from unite.training.finished import aligned
from unite.training.fit import Card, choose, fits
from unite.training.flops import training_flops
from unite.training.loop import Plan
from unite.training.memory import WorkerMemory, gpu_memory, machine_memory, worker_memory
from unite.training.runs import Run
from unite.training.setup import open_split
from unite.training.timings import expect_training
from unite.words import GIB, count

DRIVER_BYTES = 2 * GIB
"""Bytes of the driver, Ray and MLflow beside the workers of one machine."""


def print_plan(run: Run) -> None:
    """Print run folder, data, length, parameters, FLOPs, expected time, and warnings."""
    config = run.config
    shards, held_out = open_split(config, "train"), open_split(config, "eval")
    plan, noun = Plan.of(config, shards.num_rows), build_domain(config.domain).noun
    left = _images_left(run, plan)
    expected = expect_training(config, left) if left else None
    rows = {
        "run": f"{run.folder} ({_start(run, plan, noun)})",
        "recipe": config.recipe,
        "data": f"{count(shards.num_rows, noun)} in {shards.uri} (digest {shards.digest[:12]})",
        "held out": f"{count(held_out.num_rows, noun)} in {held_out.uri}"
        + (", which are trained on" if shared_files(shards, held_out) else ""),
        "length": f"{count(plan.total_images, noun)}, "
        f"{count(plan.total_images // plan.batch_size, 'step')} of {plan.batch_size}",
        **_cost_rows(config, plan, noun),
    }
    if cut := describe_cut(config):
        rows["step"] = cut
    if expected is not None:
        rows["time"] = str(expected)
    if notes := dict.fromkeys((*shards.notes, *held_out.notes)):
        rows["names"] = "; ".join(notes)
    _print(rows)
    for warning in _warnings(config, shards, plan):
        _print({"warning": warning})


def dry_run(run: Run) -> None:
    """Do and print the checks that only a start would do otherwise; ValueError or CapacityError."""
    config = run.config
    for row in (*_data_rows(config), *_memory_rows(config), *_time_rows(run)):
        _print(dict([row]))
    _print({"workers": _workers(config)})
    print("nothing was started; the same command without --dry-run trains")


def _start(run: Run, plan: Plan, noun: str) -> str:
    place = run.resume_from
    if place is None:
        return "starts afresh"
    if not _images_left(run, plan):
        return (
            "finished, nothing is left to train: add --resume never for a new run, or train longer "
            "with --training.epochs and --allow-changes"
        )
    return f"continues after {count(int(place.name), noun)}"


def _images_left(run: Run, plan: Plan) -> int:
    seen = int(run.resume_from.name) if run.resume_from else 0
    return max(plan.total_images - seen, 0)


def _cost_rows(config: RunConfig, plan: Plan, noun: str) -> dict[str, str]:
    flops, cost = training_flops(config), run_cost(config)
    whose = "in the model" if isinstance(config, FinetuneRunConfig) else "trained"
    steps = "" if isinstance(config, FinetuneRunConfig) else f" (F = {config.flow.steps})"
    return {
        "parameters": f"{cost.parameters:,} {whose}; checkpoints take up to "
        f"{cost.storage_bytes / 1e9:.3g} GB",
        "compute": f"{flops.total / 1e9:.4g} GFLOP per {noun}, "
        f"{flops.total * plan.total_images:.3g} FLOP in all{steps}",
    }


def describe_cut(config: RunConfig) -> str:
    """Choice of `training.fit` for this machine's GPU, in words; empty where nothing is chosen.

    ValueError when its memory is too small. On a cluster that is joined others train.
    """
    if not config.cluster.use_gpu or not fits(config):
        return ""
    if not _trains_here():
        return "each worker cuts it to fit its GPU (training.fit = auto)"
    card = Card.of(torch.device("cuda", 0))
    return choose(config, card).describe(card)


def _as_cut(config: RunConfig) -> RunConfig:
    """The config with the cut that this machine's GPU gets."""
    if not config.cluster.use_gpu or not _trains_here():
        return config
    return choose(config, Card.of(torch.device("cuda", 0))).config


def _trains_here() -> bool:
    """True if this machine's GPU is one that trains."""
    return is_private() and torch.cuda.is_available()


def _warnings(config: RunConfig, shards: ShardSet, plan: Plan) -> Iterator[str]:
    classes = count_classes(shards, config.domain.num_classes)
    if classes is not None and (remark := classes.warning()):
        yield remark
    if not isinstance(config, FinetuneRunConfig):
        yield from warnings_of(config, num_steps=plan.total_images // plan.batch_size)


def _data_rows(config: RunConfig) -> Iterator[tuple[str, str]]:
    domain = build_domain(config.domain)
    for shards in (open_split(config, "train"), open_split(config, "eval")):
        yield "shards", f"{shards.split}: {probe_shards(shards, domain, terminal.tell)}"


def _memory_rows(config: RunConfig) -> Iterator[tuple[str, str]]:
    needed = worker_memory(_as_cut(config))
    yield "memory", describe_memory(config, needed)
    if is_private():
        for remark in memory_warnings(config, needed, machine_memory(), gpu_memory()):
            yield "warning", remark


def describe_memory(config: RunConfig, needed: WorkerMemory) -> str:
    """Memory that each worker needs, in words."""
    parts = f"{needed.state / GIB:.2g} GiB state, {needed.step / GIB:.2g} GiB step"
    if config.cluster.use_gpu:
        host = f"and {needed.host / GIB:.2g} GiB of main memory"
        return f"about {needed.device / GIB:.2g} GiB of each GPU ({parts}) {host} per worker"
    return f"about {(needed.device + needed.host) / GIB:.2g} GiB per worker ({parts})"


def memory_warnings(
    config: RunConfig, needed: WorkerMemory, machine: int, gpu: int
) -> Iterator[str]:
    """Remarks when the workers do not fit into this machine; sizes in bytes, `gpu` 0 = unknown."""
    cure = (
        "lower training.batch_size, raise training.accumulation, set flow.chunk or "
        "training.gradient_checkpointing"
    )
    use_gpu, workers = config.cluster.use_gpu, most_workers(config.cluster)
    if use_gpu and 0 < gpu < needed.device:
        yield (
            f"a worker needs about {needed.device / GIB:.3g} GiB of its GPU, which has "
            f"{gpu / GIB:.3g}: {cure}"
        )
    each = needed.host + (0 if use_gpu else needed.device)
    if workers * each + DRIVER_BYTES > machine:
        yield (
            f"{count(workers, 'worker')} and the driver need about "
            f"{(workers * each + DRIVER_BYTES) / GIB:.3g} GiB of main memory, and this machine has "
            f"{machine / GIB:.3g}: {cure}"
        )


def _time_rows(run: Run) -> Iterator[tuple[str, str]]:
    """The expected time, from timed steps, when no earlier run tells it."""
    config = run.config
    left = _images_left(run, Plan.of(config, open_split(config, "train").num_rows))
    if not left or expect_training(config, left) is not None:
        return
    if not config.cluster.use_gpu or torch.cuda.is_available():
        terminal.tell("no earlier run tells how long it takes: timing a few steps")
    try:
        rate = measure_rate(config, threads=config.cluster.threads_per_worker)
    except ValueError as error:
        yield "time", f"unknown before the first run here ({error})"
        return
    devices = most_workers(config.cluster) if config.cluster.use_gpu else 1
    yield "time", str(expect_training(config, left, rate=rate * devices))


def _workers(config: RunConfig) -> str:
    """Resources of each worker; CapacityError when they do not fit, unless more nodes may come."""
    cluster, have = config.cluster, reachable_nodes()
    where = "this machine" if is_private() else count(len(have), "node")
    kinds = ", ".join(count(round(sum(n[k] for n in have)), k) for k in ("CPU", "GPU"))
    try:
        given = train_workers(cluster, have, batch_size=as_trained(config).training.batch_size)
    except CapacityError as error:
        if not cluster.wait_s:
            raise
        return f"it would wait up to {cluster.wait_s:g} s for a larger cluster: {error}"
    each = f"CPUs per worker: {given.cpus_per_worker:g}{', and a GPU' if given.use_gpu else ''}"
    return f"{count(given.num_workers, 'worker')} on {where} ({kinds}); {each}"


def _print(rows: dict[str, str]) -> None:
    print("\n".join(aligned(rows)))
