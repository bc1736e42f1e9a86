"""Our samplers against a plain one: python benchmarks/sampling.py [--run RUN] [--help]

Headline: images/s of our 50-step Heun, guided, in the precision of --precision, and its ratio to
the plain arm in the same precision. The arms do nearly the same mathematics (the rows that the
network evaluates per sample, an exact count, stand beside the ratio), so at equal precision little
is left to gain; the plain arm in float32 says what precision brings, and "error" what it costs.
Noise of the machine cannot move the ratios much: all arms run in one process on the same model,
noise and batches in alternating rounds, and the median of the per-round ratios counts.

Arms:
  plain          as a straightforward implementation does it: torchdiffeq's dopri5 with one step
                 size for the whole batch, on 50 shifted output times; conditional and unconditional
                 rows in one batch of twice the size where guidance acts, and nowhere else
  plain float32  the same in float32, where --precision is another
  heun           ours, 50 fixed steps; the unconditional pass only where guidance acts
  dopri5         ours, step sizes per sample, the unconditional pass only where guidance acts
All with atol 1e-6, rtol 1e-3. "Error" is the root mean square distance, in units of the pixel
range, of the first batch's images to those of the same flow at rtol 1e-6 in float32. With the data
of --run at hand, FD-pixels to its training images, and its difference to the plain arm's, says
whether speed was bought with quality.

  python benchmarks/sampling.py                             # a random model of the digits' size
  python benchmarks/sampling.py --run latest --num 1000 --cfg-scales 1 1.5
  python benchmarks/sampling.py --run latest --device cuda --precision bfloat16
"""

from __future__ import annotations

import math
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import torch
from torch import Tensor

from unite.checkpoints.load import load
from unite.config.recipes import recipe
from unite.config.schema import RunConfig, SamplingConfig
from unite.data.loader import sequential_batches
from unite.data.shards import ShardSet
from unite.domains import build_domain
from unite.domains.columns import IMAGES
from unite.metrics.frechet import Gaussian
from unite.metrics.moments import Moments
from unite.models.unite import UNITE
from unite.runs import data_uri, default_storage, read_run_config, resolve_run
from unite.sampling.generator import draw
from unite.sampling.seeds import sample_noise, sample_seeds

OUTPUT_TIMES = 50
REFERENCE_IMAGES = 2000
EXACT = SamplingConfig(solver="dopri5", atol=1e-9, rtol=1e-6)
ARMS = ("plain", "plain float32", "heun", "dopri5")
H200_GOAL = 35.0
"""Guided images/s of UNITE-B by Heun-50 on an H200."""

Images = Tensor
"""uint8 (B, H, W, C)."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the benchmark."""

    run: str = ""
    """Model: what `jobs/generate.py --run` takes; empty = a random one of the digits' size."""
    storage: str = ""
    """Folder or s3:// URI of the runs; empty = UNITE_STORAGE, else ./runs."""
    num: int = 128
    """Samples per round and arm."""
    batch: int = 64
    """Samples drawn at once."""
    cfg_scales: tuple[float, ...] = (1.0, 2.0)
    """Guidance scales, one group of rows each; 1 = none, which is the headline's."""
    cfg_interval: tuple[float, float] = (0.1, 1.0)
    """Guidance interval of every arm."""
    rounds: int = 3
    """Measurements of each arm."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the network; bfloat16 = autocast."""
    device: str = "cpu"
    """cpu or cuda."""
    out: str = ""
    """Folder for a dated report; empty = print only."""


@dataclass
class Arm:
    """Measurements of one arm at one guidance scale."""

    seconds: list[float] = field(default_factory=list)
    rows_per_sample: float = 0.0
    error: float = math.nan
    frechet: float = math.nan


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Model, labels, noise and options that all arms share."""

    model: UNITE
    labels: Tensor
    noise: Tensor
    options: Options
    reference: Gaussian | None

    def batches(self) -> list[tuple[Tensor, Tensor]]:
        size = self.options.batch
        return list(zip(self.labels.split(size), self.noise.split(size), strict=True))

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that differ."""
        same = self.options.precision == "float32"
        return tuple(arm for arm in ARMS if not (same and arm == "plain float32"))

    def sampler(self, arm: str, scale: float) -> Callable[[Tensor, Tensor], tuple[Images, int]]:
        config = SamplingConfig(cfg_scale=scale, cfg_interval=self.options.cfg_interval)
        is_plain = arm.startswith("plain")
        draw_batch = plain if is_plain else ours
        config = config if is_plain else replace(config, solver=arm)
        low = self.options.precision == "bfloat16" and arm != "plain float32"

        def run(labels: Tensor, noise: Tensor) -> tuple[Images, int]:
            with torch.autocast(noise.device.type, dtype=torch.bfloat16, enabled=low):
                return draw_batch(self.model, labels, noise, config)

        return run


def ours(
    model: UNITE, labels_B: Tensor, noise_BKD: Tensor, config: SamplingConfig
) -> tuple[Images, int]:
    """The platform's sampler: images, and network rows of the whole batch."""
    samples = draw(model, labels_B, config, noise_BKD=noise_BKD)
    return model.domain.render(samples.reconstruction), int(samples.network_rows_B.sum())


@torch.inference_mode()
def plain(
    model: UNITE, labels_B: Tensor, noise_BKD: Tensor, config: SamplingConfig
) -> tuple[Images, int]:
    """The reference arm: a straightforward implementation (METHOD 4)."""
    from torchdiffeq import odeint

    labels_B = labels_B.to(noise_BKD.device)
    both = torch.cat([labels_B, torch.full_like(labels_B, model.null_label)])
    low, high = config.cfg_interval
    rows = 0

    def derivative(t: Tensor, z_BKD: Tensor) -> Tensor:
        nonlocal rows
        guided = config.cfg_scale > 1 and low < t < high
        z_in, labels = (torch.cat([z_BKD, z_BKD]), both) if guided else (z_BKD, labels_B)
        rows += len(labels)
        z_hat_BKD = model.denoise(z_in, t.expand(len(labels)), labels)
        if guided:
            conditional, unconditional = z_hat_BKD.chunk(2)
            z_hat_BKD = unconditional + config.cfg_scale * (conditional - unconditional)
        return (z_hat_BKD - z_BKD) / (1 - t).clamp_min(model.flow.t_clamp)

    times = torch.linspace(0, 1, OUTPUT_TIMES, device=noise_BKD.device)
    alpha = model.flow.shift or 1.0
    times = alpha * times / (1 + (alpha - 1) * times)
    z_BKD = odeint(
        derivative, noise_BKD, times, method="dopri5", atol=config.atol, rtol=config.rtol
    )[-1]
    return model.domain.render(model.decode(z_BKD)), rows


def main(options: Options) -> None:
    """Measure every scale and print, and write, the table."""
    setting = build_setting(options)
    name = options.run or "a random model of the digits' size"
    lines = [
        f"# Sampling, {name} on {describe(setting.noise.device)}",
        f"{datetime.now(UTC):%Y-%m-%d}, torch {torch.__version__}; {options.rounds} rounds of "
        f"{options.num} samples in batches of {options.batch}, {options.precision}",
        "",
        "| guidance | arm | images/s | ratio to plain | rows per sample | error | FD-pixels "
        "| FD - plain's |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    heads = []
    for scale in options.cfg_scales:
        arms = measure(setting, scale)
        for arm in arms:
            lines.append(row(scale, arm, arms, options.num))
            print(lines[-1], flush=True)
        rate = options.num / statistics.median(arms["heun"].seconds)
        heads.append(
            f"Headline, Heun at guidance {scale:g}: {rate:.1f} images/s, "
            f"{ratio_to_plain(arms, 'heun'):.2f} of the plain arm's."
        )
    goal = f"Goal: {H200_GOAL:g} images/s of UNITE-B at guidance 2 on an H200."
    report = "\n".join([*lines, "", *heads, goal])
    print("\n" + report)
    if options.out:
        file = f"{datetime.now(UTC):%Y-%m-%d}_sampling_{setting.noise.device.type}.md"
        path = Path(options.out) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(report + "\n")


def measure(setting: Setting, scale: float) -> dict[str, Arm]:
    """Alternating rounds of all arms on the same noise."""
    arms = {arm: Arm() for arm in setting.arms}
    exact = exact_images(setting, scale)
    for round_ in range(setting.options.rounds):
        # Who goes first alternates, so that no arm always finds warm caches.
        for name in sorted(arms, reverse=round_ % 2 == 1):
            _round(setting, scale, name, arms[name], exact)
    return arms


def _round(setting: Setting, scale: float, name: str, arm: Arm, exact: Images) -> None:
    sampler = setting.sampler(name, scale)
    pictures, rows = [], 0
    synchronize(setting.noise.device)
    start = time.perf_counter()
    for labels_B, noise_BKD in setting.batches():
        images, batch_rows = sampler(labels_B, noise_BKD)
        pictures.append(images)
        rows += batch_rows
    synchronize(setting.noise.device)
    arm.seconds.append(time.perf_counter() - start)
    images = torch.cat(pictures)
    arm.rows_per_sample = rows / len(images)
    difference = (images[: len(exact)].float() - exact.float()) / 255
    arm.error = difference.square().mean().sqrt().item()
    if setting.reference is not None:
        arm.frechet = setting.reference.distance(gaussian(images))


def exact_images(setting: Setting, scale: float) -> Images:
    """The first batch at a tolerance that leaves no visible error."""
    labels_B, noise_BKD = setting.batches()[0]
    config = replace(EXACT, cfg_scale=scale, cfg_interval=setting.options.cfg_interval)
    return ours(setting.model, labels_B, noise_BKD, config)[0]


def ratio_to_plain(arms: dict[str, Arm], name: str) -> float:
    """Median over the rounds of the plain arm's time / this arm's time."""
    pairs = zip(arms["plain"].seconds, arms[name].seconds, strict=True)
    return statistics.median(slow / fast for slow, fast in pairs)


def row(scale: float, name: str, arms: dict[str, Arm], num: int) -> str:
    """One line of the table."""
    arm, known = arms[name], not math.isnan(arms[name].frechet)
    rate = num / statistics.median(arm.seconds)
    distance = f"{arm.frechet:.3f}" if known else "-"
    difference = f"{arm.frechet - arms['plain'].frechet:+.3f}" if known else "-"
    return (
        f"| {scale:g} | {name} | {rate:.1f} | **{ratio_to_plain(arms, name):.2f}** | "
        f"{arm.rows_per_sample:.1f} | {arm.error:.1e} | {distance} | {difference} |"
    )


def build_setting(options: Options) -> Setting:
    """The model, the samples' labels and noise, and the training images' statistics."""
    device = torch.device(options.device)
    path = resolve_run(options.run, options.storage or default_storage()) if options.run else ""
    model = load(path, map_location=device) if path else random_model(recipe("digits")).to(device)
    num_classes = model.domain.num_classes
    seeds = sample_seeds(0, torch.arange(options.num))
    return Setting(
        model=model.eval(),
        labels=torch.arange(options.num) % num_classes,
        noise=sample_noise(seeds.to(device), model.noise_shape),
        options=options,
        reference=training_statistics(path) if path else None,
    )


def random_model(config: RunConfig) -> UNITE:
    """A recipe's model with every weight moved: a fresh one predicts a constant."""
    torch.manual_seed(0)
    model = UNITE(config.model, build_domain(config.domain), config.flow)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def training_statistics(path: str) -> Gaussian | None:
    """Pixel statistics of a run's training images; None where the run names no data."""
    config = read_run_config(path)
    if config is None or not config.data.train:
        return None
    shards = ShardSet.open(data_uri(config, "train"), "train", IMAGES)
    domain = build_domain(config.domain)
    batches = sequential_batches(shards, domain, batch_size=256, limit=REFERENCE_IMAGES)
    return gaussian(torch.cat([torch.from_numpy(batch.fields["image"]) for batch in batches]))


def gaussian(images: Images) -> Gaussian:
    """Mean and covariance of the pixels in [0, 1]."""
    from unite.evaluation.images.extractors import Pixels

    images_BCHW = images.cpu().permute(0, 3, 1, 2)
    extractor = Pixels(tuple(images_BCHW.shape[1:]))
    moments = Moments.of(extractor.features(images_BCHW)["features"])
    return Gaussian(moments.mean(), moments.covariance())


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options, description=__doc__))
