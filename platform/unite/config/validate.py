"""Checks of a whole config before Ray or an accelerator is touched.

Every message names the field, its value and what to do. All problems are reported at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from unite.config.names import check_name
from unite.config.schema import (
    ClusterConfig,
    DecoderConfig,
    EncoderConfig,
    FlowConfig,
    ImagesConfig,
    RunConfig,
    SamplingConfig,
    Solver,
)
from unite.config.serialise import flatten
from unite.config.workers import bounds, sizes

INITIAL_WEIGHTS_KEPT = 0.01
"""Share of the initial weights in the average at the end, above which a warning is due."""
LPIPS_SMALLEST_SIDE = 16
"""Pixels of the smallest image that LPIPS can halve four times."""
SEEDS = (-(2**63), 2**64 - 1)
"""Smallest and largest seed that torch takes."""
POSITIVE = (
    "model.num_registers",
    "model.latent_dim",
    "model.encoder.depth",
    "model.encoder.width",
    "model.encoder.num_heads",
    "model.encoder.mlp_ratio",
    "model.decoder.depth",
    "model.decoder.width",
    "model.decoder.num_heads",
    "model.decoder.mlp_width",
    "model.decoder.stem_width",
    "flow.steps",
    "flow.t_std",
    "flow.t_clamp",
    "optim.lr",
    "optim.eps",
    "optim.muon_eps",
    "training.epochs",
    "training.batch_size",
    "training.accumulation",
    "training.log_every_steps",
    "data.lanes",
    "data.shuffle_window",
    "checkpoint.every_images",
    "checkpoint.keep_last",
    "checkpoint.max_failed_saves",
    "evaluation.every_images",
    "evaluation.num_images",
    "evaluation.num_samples",
)
NOT_NEGATIVE = (
    "domain.num_classes",
    "flow.chunk",
    "flow.weight",
    "flow.shift",
    "model.encoder.in_context_tokens",
    "model.encoder.in_context_start",
    "reconstruction_noise.sigma",
    "loss.reconstruction_weight",
    "loss.perceptual.weight",
    "optim.lr_batch_reference",
    "optim.lr_min",
    "optim.warmup_epochs",
    "optim.weight_decay",
    "optim.grad_clip",
    "training.collapse_std",
    "training.micro_batch",
    "data.decode_threads",
    "checkpoint.every_minutes",
    "checkpoint.keep_best",
    "checkpoint.patience_s",
    "cluster.cpus_per_worker",
    "cluster.device_tflops",
    "cluster.max_failures",
    "cluster.threads_per_worker",
    "cluster.wait_s",
)
FRACTIONS = (
    "model.encoder.tokenize_t_max",
    "flow.warmup_fraction",
    "flow.class_dropout",
    "reconstruction_noise.probability",
    "optim.muon_momentum",
    "optim.ema_decay",
    "data.max_bad_fraction",
)


def validate(config: RunConfig) -> RunConfig:
    """The config itself when it is sound; ValueError lists every problem otherwise."""
    problems = [
        *_names(config),
        *_ranges(config),
        *_shapes(config),
        *_training(config),
        *sampling_problems(config.sampling, "sampling."),
    ]
    if problems:
        raise ValueError("the configuration cannot run:\n" + "\n".join(f"  {p}" for p in problems))
    return config


def _names(config: RunConfig) -> Iterator[str]:
    try:
        check_name(config.name or "unnamed", "name")
    except ValueError as error:
        yield str(error)


def warnings_of(config: RunConfig, *, num_steps: int) -> list[str]:
    """Warnings of settings that run but are hardly meant, for `num_steps` optimiser steps."""
    found = []
    if config.model.latent_dim == 2:
        found.append(
            "model.latent_dim = 2: the final LayerNorm makes (a, -a) of two channels, |a| near 1, "
            "so a register holds little more than a bit; use 3 or more (32 as in the paper)"
        )
    kept = config.optim.ema_decay**num_steps
    if kept > INITIAL_WEIGHTS_KEPT:
        found.append(
            f"at the end the averaged weights still hold {kept:.0%} of the random initial ones, "
            f"and evaluation uses the averages: lower optim.ema_decay = {config.optim.ema_decay} "
            "or train longer"
        )
    return found


def number_problems(
    values: Mapping[str, Any], *, positive: Iterable[str], not_negative: Iterable[str]
) -> Iterator[str]:
    """Numbers of a flat config that are not finite, above 0 or at least 0, as they should be."""
    for name, value in values.items():
        parts = value if isinstance(value, tuple) else (value,)
        if not all(math.isfinite(part) for part in parts if isinstance(part, float)):
            yield f"{name} = {value} must be finite"
    for name in positive:
        if not values[name] > 0:
            yield f"{name} = {values[name]} must be above 0"
    for name in not_negative:
        if name in values and not values[name] >= 0:
            yield f"{name} = {values[name]} must not be negative"


def _ranges(config: RunConfig) -> Iterator[str]:
    values = flatten(config)
    yield from number_problems(values, positive=POSITIVE, not_negative=NOT_NEGATIVE)
    for name in FRACTIONS:
        if not 0 <= values[name] <= 1:
            yield f"{name} = {values[name]} must lie in 0..1"
    least, most = SEEDS
    if not least <= config.training.seed <= most:
        yield f"training.seed = {config.training.seed} must lie in {least}..{most}"


def _shapes(config: RunConfig) -> Iterator[str]:
    # Only what needs no domain: any other domain's own `validate` checks the model that is built.
    if isinstance(config.domain, ImagesConfig):
        yield from _images(config.domain, config.model.num_registers)
        yield from _perceptual(config.domain, config.loss.perceptual.weight)
    if config.model.latent_dim == 1:
        yield (
            "model.latent_dim = 1: the final LayerNorm makes a constant of one channel, so the "
            "latent could hold nothing; use 3 or more (32 as in the paper)"
        )
    yield from _encoder(config.model.encoder)
    yield from _heads("model.decoder", config.model.decoder)


def _images(domain: ImagesConfig, num_registers: int) -> Iterator[str]:
    if domain.channels not in (1, 3):
        yield f"domain.channels = {domain.channels} must be 1 (grey) or 3 (RGB)"
    if domain.num_classes == 0:
        yield "domain.num_classes = 0 must be above 0: images have classes (1 = all are alike)"
    sides = {"domain.size": domain.size, "domain.patch": domain.patch}
    if min(sides.values()) <= 0:
        yield from (f"{name} = {side} must be above 0" for name, side in sides.items() if side <= 0)
        return
    if domain.size % domain.patch:
        below = domain.size // domain.patch * domain.patch
        above = below + domain.patch
        yield (
            f"domain.size = {domain.size} is not divisible by domain.patch = {domain.patch}; "
            + (f"the nearest sizes are {below} and {above}" if below else f"{above} is, for one")
        )
        return
    patches = (domain.size // domain.patch) ** 2
    if num_registers != patches:
        yield (
            f"model.num_registers = {num_registers} but the decoder draws one patch from each "
            f"register: set it to (domain.size / domain.patch)^2 = {patches}"
        )


def _perceptual(domain: ImagesConfig, weight: float) -> Iterator[str]:
    if weight > 0 and 0 < domain.size < LPIPS_SMALLEST_SIDE:
        yield (
            f"loss.perceptual.weight = {weight} asks for LPIPS, which halves images four times and "
            f"needs {LPIPS_SMALLEST_SIDE} pixels, but domain.size = {domain.size}: set "
            "loss.perceptual.weight to 0 or raise domain.size"
        )


def _encoder(encoder: EncoderConfig) -> Iterator[str]:
    yield from _heads("model.encoder", encoder)
    if encoder.num_heads > 0 and (encoder.width // max(encoder.num_heads, 1)) % 2:
        yield (
            f"model.encoder.width / num_heads = {encoder.width // encoder.num_heads} must be even "
            "for rotary pairs; change model.encoder.num_heads"
        )
    if 0 < encoder.mlp_ratio * encoder.width < 2:
        yield (
            f"model.encoder.mlp_ratio = {encoder.mlp_ratio} leaves no hidden width at "
            f"model.encoder.width = {encoder.width}; raise it (4 as in the paper)"
        )
    if encoder.in_context_tokens and encoder.in_context_start >= encoder.depth:
        yield (
            f"model.encoder.in_context_start = {encoder.in_context_start} is past the last of "
            f"{encoder.depth} blocks, so in_context_tokens = {encoder.in_context_tokens} has no "
            "effect; lower it or set in_context_tokens to 0"
        )


def _heads(where: str, part: EncoderConfig | DecoderConfig) -> Iterator[str]:
    if part.num_heads > 0 and part.width % part.num_heads:
        yield f"{where}.num_heads = {part.num_heads} must divide {where}.width = {part.width}"


def _training(config: RunConfig) -> Iterator[str]:
    yield from _flow(config.flow)
    training = config.training
    if min(training.batch_size, training.accumulation) > 0:
        yield from worker_problems(
            config.cluster, training.batch_size, training.accumulation, "training"
        )
    noise = config.reconstruction_noise
    if noise.form == "interpolated" and noise.sigma > 1:
        yield (
            f"reconstruction_noise.sigma = {noise.sigma} is a lowest t in 0..1 for the "
            "interpolated form; did you mean reconstruction_noise.form additive?"
        )
    if not all(0 <= beta < 1 for beta in config.optim.betas):
        yield f"optim.betas = {config.optim.betas} must lie in 0..1, below 1"
    begin, end = config.optim.plateau_epochs
    if config.optim.schedule == "plateau" and not config.optim.warmup_epochs <= begin < end:
        yield (
            f"optim.plateau_epochs = {begin} {end} must be increasing and not before "
            f"optim.warmup_epochs = {config.optim.warmup_epochs}"
        )


def worker_problems(
    cluster: ClusterConfig, batch_size: int, accumulation: int, where: str
) -> Iterator[str]:
    """Problems of the numbers of workers with the batch and accumulation of the group `where`."""
    workers = cluster.num_workers
    if isinstance(workers, int) and workers < 1:
        yield f"cluster.num_workers = {workers} must be above 0"
        return
    try:
        fewest, most = bounds(cluster)
    except ValueError as error:
        yield str(error)
        return
    if fewest == most:
        if batch_size % (most * accumulation):
            yield (
                f"{where}.batch_size = {batch_size} must be divisible by cluster.num_workers x "
                f"{where}.accumulation = {workers} x {accumulation}"
            )
    elif not sizes(cluster, batch_size):
        yield (
            f"cluster.num_workers = {workers}: no number in this range divides {where}.batch_size "
            f"= {batch_size}; widen it"
        )


def _flow(flow: FlowConfig) -> Iterator[str]:
    if flow.chunk > 0 and flow.steps % flow.chunk:
        yield f"flow.chunk = {flow.chunk} must divide flow.steps = {flow.steps} (or be 0)"
    if flow.t_clamp > 1:
        yield f"flow.t_clamp = {flow.t_clamp} bounds 1 - t and must not exceed 1"


def sampling_problems(sampling: SamplingConfig, prefix: str = "") -> Iterator[str]:
    """Problems of sampling settings, one message each; `prefix` comes before each field."""
    low, high = sampling.cfg_interval
    if not 0 <= low < high <= 1:
        yield f"{prefix}cfg_interval = {low} {high} must satisfy 0 <= low < high <= 1"
    if not 1 <= sampling.cfg_scale < math.inf:
        yield f"{prefix}cfg_scale = {sampling.cfg_scale} must be at least 1 (1 = none) and finite"
    if sampling.solver not in get_args(Solver):
        solvers = ", ".join(get_args(Solver))
        yield f"{prefix}solver = {sampling.solver} is unknown: use one of {solvers}"
    for name in ("num_steps", "atol", "rtol"):
        if not 0 < getattr(sampling, name) < math.inf:
            yield f"{prefix}{name} = {getattr(sampling, name)} must be above 0 and finite"
