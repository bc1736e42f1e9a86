"""`unite plan`: costs of a recipe or a sweep before it is started."""

from __future__ import annotations

from dataclasses import fields

from unite.ablation.cost import measure_rate, run_cost
from unite.ablation.options import SweepOptions, check
from unite.ablation.trials import expand
from unite.config.axes import AXES, find_axis
from unite.config.recipes import recipe
from unite.config.schema import RunConfig
from unite.config.serialise import replace
from unite.tables import print_table
from unite.words import count, duration


def plan(name: str, options: SweepOptions, *, rate: float, measure: bool, gpus: int) -> None:
    """Print images, FLOPs, storage, device hours and wall time.

    `options` are of a sweep; of a recipe only `epochs` counts, and others are refused. ValueError
    for an unknown name, and when --measure cannot be done here.
    """
    if gpus < 1 or rate < 0:
        raise ValueError(
            f"--gpus {gpus} and --rate {rate:g}: give at least 1, and no negative rate"
        )
    if rate and measure:
        raise ValueError("--rate and --measure exclude each other: choose one")
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
    rows = [
        ("training images", f"{sum(cost.images for cost in costs):,}"),
        ("optimiser steps", f"{sum(cost.steps for cost in costs):,}"),
        ("trained parameters", _range([cost.parameters for cost in costs])),
        ("training", f"{training:.4g} FLOP"),
        ("measured samples", f"{sampling:.3g} FLOP"),
        ("checkpoints kept", f"{sum(cost.storage_bytes for cost in costs) / 1e9:.3g} GB"),
    ]
    print_table(("what", "how much"), rows)
    _print_time(training + sampling, works[-1][0], rate, measure, gpus)


def _is_sweep(name: str) -> bool:
    return name in AXES or "sweep_" in name


def _longer(config: RunConfig, options: SweepOptions) -> RunConfig:
    """A recipe with --epochs; ValueError for flags that only sweeps have."""
    check(options)
    usual = SweepOptions(epochs=options.epochs)
    for name in (item.name for item in fields(options)):
        if (value := getattr(options, name)) != getattr(usual, name):
            raise ValueError(
                f"--{name} {value} is about ablations, and {config.recipe} is a recipe: drop it, "
                f"or name one of {', '.join(AXES)}"
            )
    return replace(config, {"training.epochs": options.epochs or config.training.epochs})


def _range(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _print_time(flops: float, config: RunConfig, rate: float, measure: bool, gpus: int) -> None:
    if not rate and not measure:
        print(
            "\nTime: add --measure to time a few steps here, or --rate, the FLOP/s of one device "
            "(an A100 at 40% of its bfloat16 peak: 1.2e14)"
        )
        return
    source = "measured here" if measure else "given"
    rate = rate or measure_rate(config)
    hours = flops / rate / 3600
    print(
        f"\n{hours:,.3g} GPU-hours (device-hours) at {rate:.3g} FLOP/s, {source}: "
        f"{duration(flops / rate / gpus)} on {count(gpus, 'device')}, if they scale perfectly"
    )
