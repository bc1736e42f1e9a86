"""`unite plan`: costs of a recipe or a sweep before it is started."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from unite.ablation.cost import Cost, kept_checkpoints, measure_rate, run_cost
from unite.ablation.options import SweepOptions, check
from unite.ablation.trials import expand
from unite.config.axes import AXES, find_axis
from unite.config.effects import refuse_changed
from unite.config.recipes import recipe
from unite.config.schema import RunConfig
from unite.config.serialise import replace
from unite.domains import build_domain
from unite.tables import print_table
from unite.training.bottleneck import Machines, stages
from unite.words import count, duration


def plan(
    name: str,
    options: SweepOptions,
    *,
    rate: float,
    measure: bool,
    gpus: int,
    around: Mapping[str, float] | None = None,
) -> None:
    """Print images, FLOPs, storage, device hours, wall time, and a recipe's bottleneck.

    `around` are fields of `Machines`: what stands around the GPUs, where it is not the usual.
    `options` are of a sweep; of a recipe only `epochs` counts, and others are refused. ValueError
    for an unknown name, and when --measure cannot be done here.
    """
    if gpus < 1 or rate < 0:
        raise ValueError(
            f"--gpus {gpus} and --rate {rate:g}: give at least 1, and no negative rate"
        )
    if rate and measure:
        raise ValueError("--rate and --measure exclude each other: choose one")
    has_bottleneck = gpus > 1 and bool(rate or measure) and not _is_sweep(name)
    given = _around(around or {}, has_bottleneck)
    if _is_sweep(name):
        sweep = expand(find_axis(name), options)
        works = [(work.config, work.trials) for work in sweep.works]
        print(
            f"{sweep.name}: {count(len(works), 'training run')}, "
            f"{count(len(sweep.trials), 'point')} with seeds"
        )
    else:
        works = [(_longer(recipe(name), options), ())]
    costs = [run_cost(config, trials) for config, trials in works]
    training, sampling = sum(c.training_flops for c in costs), sum(c.sampling_flops for c in costs)
    noun = build_domain(works[0][0].domain).noun
    rows = [
        (f"training {noun}s", f"{sum(cost.images for cost in costs):,}"),
        ("optimiser steps", f"{sum(cost.steps for cost in costs):,}"),
        ("trained parameters", _range([cost.parameters for cost in costs])),
        ("training", f"{training:.4g} FLOP"),
        ("measured samples", f"{sampling:.3g} FLOP"),
        ("checkpoints kept", f"{sum(cost.storage_bytes for cost in costs) / 1e9:.3g} GB"),
    ]
    print_table(("what", "how much"), rows)
    config, flops = works[-1][0], training + sampling
    rate = _print_time(flops, config, rate, measure, gpus)
    if has_bottleneck:
        _print_bottleneck(config, costs[0], Machines(gpus=gpus, rate=rate, **given))


def _around(around: Mapping[str, float], has_bottleneck: bool) -> dict[str, Any]:
    """Fields of `Machines` that are not the usual; ValueError where they are none or do nothing."""
    usual = {item.name: item.default for item in fields(Machines)}
    given = {name: value for name, value in around.items() if value not in (0, usual[name])}
    for name, value in given.items():
        flag = f"--{name.replace('_', '-')} {value:g}"
        if value < 0:
            raise ValueError(f"{flag} must not be negative")
        if not has_bottleneck:
            raise ValueError(
                f"{flag} has no effect: it is about the bottleneck of a recipe on --gpus above 1 "
                "with --rate or --measure. Leave it out, or give those too"
            )
    return given


def _is_sweep(name: str) -> bool:
    return name in AXES or "sweep_" in name


def _longer(config: RunConfig, options: SweepOptions) -> RunConfig:
    """A recipe with --epochs; ValueError for flags that only sweeps have."""
    check(options)
    why = f"on the recipe {config.recipe}, but on ablations ({', '.join(AXES)})"
    refuse_changed(options, ("scale", "seeds", "equal", "values", "samples"), why)
    return replace(config, {"training.epochs": options.epochs or config.training.epochs})


def _range(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _print_bottleneck(config: RunConfig, cost: Cost, machines: Machines) -> None:
    """Print what each stage could do alone, and the time at the slowest one's pace."""
    kept = cost.storage_bytes // kept_checkpoints(config)
    found = stages(config, machines, parameters=cost.parameters, state=kept)
    rows = [(each.name, _pace(each.images_per_s), each.why) for each in found]
    print()
    print_table(("stage", "images/s", "what it rests on"), rows)
    slowest = found[0]
    seconds = cost.images / slowest.images_per_s
    print(
        f"\nbottleneck: {slowest.name}, {duration(seconds)} in all on "
        f"{count(machines.gpus, 'GPU')} in {count(machines.nodes, 'node')}"
    )


def _pace(images_per_s: float) -> str:
    return "no limit" if math.isinf(images_per_s) else f"{images_per_s:,.0f}"


def _print_time(flops: float, config: RunConfig, rate: float, measure: bool, gpus: int) -> float:
    """Print device hours and wall time; returns the FLOP/s they rest on, 0 for none."""
    if not rate and not measure:
        print(
            "\nTime: add --measure to time a few steps here, or --rate, the FLOP/s of one device "
            "(an A100 at 40% of its bfloat16 peak: 1.2e14)"
        )
        return 0.0
    source = "measured here" if measure else "given"
    rate = rate or _measured(config)
    hours = flops / rate / 3600
    print(
        f"\n{hours:,.3g} GPU-hours (device-hours) at {rate:.3g} FLOP/s, {source}: "
        f"{duration(flops / rate / gpus)} on {count(gpus, 'device')}, if they scale perfectly"
    )
    return rate


def _measured(config: RunConfig) -> float:
    """The rate of this machine; ValueError, with the way out, where it cannot be measured."""
    try:
        return measure_rate(config)
    except ValueError as error:
        raise ValueError(f"{error}: give --rate instead of --measure") from error
