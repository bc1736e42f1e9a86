"""The decoder's fine-tuning step: python benchmarks/gan_step.py [--help]

Headline: images/s of the fine-tuning step over those of the joint step at F = 3, beside the ratio
that counted FLOPs let expect (about 3/4: the discriminator sees three batches); and the time of
the combined-gradient weight over that of VQGAN's form, at most 1.25. Noise of the machine cannot
move them much: all arms run in one process on the same batches in alternating blocks, the median
of the per-block ratios counts, and on a CPU the process' own time.

Arms, of one model and batch:
  joint     the joint step of METHOD 3 at F = 3, its gradients alone
  combined  both players of METHOD 6: reconstruction and adversarial gradients summed apart, then
            combined by the weight of the global batch
  vqgan     the same, but two gradients of the last layer give the weight, and one backward pass
            takes their weighted sum: right for one worker and one micro-batch alone
  control   the fine-tuning step without an adversary

  OMP_NUM_THREADS=1 python benchmarks/gan_step.py                          digits, CPU
  python benchmarks/gan_step.py --recipe unite-b --device cuda --batch 128 peak memory, hours
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import torch
import tyro

from unite.config.finetune import FinetuneRunConfig, as_trained, finetune_recipe
from unite.config.recipes import recipe
from unite.config.serialise import replace
from unite.domains import build_domain
from unite.flow.random import Purpose
from unite.models.unite import UNITE
from unite.training.adversarial import AdversarialObjective
from unite.training.adversarial_loss import adversarial_weight, generator_loss
from unite.training.flops import training_flops
from unite.training.objective import MicroBatch
from unite.training.schedule import Plan
from unite.training.step import Address, TrainingStep

EPOCHS, IMAGENET = 16, 1_281_167
JOINT = {"flow.steps": 3, "flow.chunk": 0, "loss.perceptual.weight": 0.0}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the benchmark."""

    recipe: str = "digits"
    """Recipe of the parent."""
    device: str = "cpu"
    """cpu or cuda."""
    batch: int = 64
    """Images per step."""
    blocks: int = 7
    """Blocks of each arm."""
    steps: int = 4
    """Steps per block."""


def main(options: Options) -> None:
    """Measure all arms and print the table."""
    arms = build(options)
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for step in arms.values():
        step()
    for block in range(options.blocks):
        for name in sorted(arms, reverse=block % 2 == 1):
            seconds[name].append(timed(arms[name], options))
    print("| arm | ms per step | images/s | time over the control's |\n| --- | --- | --- | --- |")
    for name, values in seconds.items():
        middle = statistics.median(values)
        over = ratio(seconds, name, "control")
        print(f"| {name} | {1e3 * middle:.1f} | {options.batch / middle:.0f} | {over:.2f} |")
    print(
        f"\nfine-tuning, images/s over joint: {ratio(seconds, 'joint', 'combined'):.2f}\n"
        f"combined weight, time over VQGAN's: {ratio(seconds, 'combined', 'vqgan'):.2f} (goal 1.25)"
    )
    counted = flops(options)
    words = ", ".join(f"{name} {value / 1e6:.1f}" for name, value in counted.items())
    print(
        f"MFLOP per image, counted: {words}; images/s over joint that equal FLOP/s would give: "
        f"{counted['joint'] / counted['combined']:.2f}"
    )
    if options.device == "cuda":
        rate = options.batch / statistics.median(seconds["combined"])
        print(
            f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB; {EPOCHS} epochs of "
            f"ImageNet: {EPOCHS * IMAGENET / rate / 3600:.1f} h"
        )


def flops(options: Options) -> dict[str, float]:
    """FLOPs per image of the arms, LPIPS left out as in their steps."""
    base = base_config(options)
    return {
        "joint": training_flops(replace(recipe(options.recipe), JOINT)).model,
        "combined": training_flops(base).model,
        "control": training_flops(replace(base, {"adversarial.weight": 0.0})).model,
    }


def base_config(options: Options) -> FinetuneRunConfig:
    """The fine-tuning that is measured."""
    changes = {
        "finetune.batch_size": options.batch,
        "adversarial.adversarial_start": 0.0,
        "loss.perceptual.weight": 0.0,
        "training.compile": False,
    }
    return replace(finetune_recipe("small", recipe(options.recipe)), changes)


def ratio(seconds: dict[str, list[float]], above: str, below: str) -> float:
    """Median over blocks of one arm's time over another's."""
    return statistics.median(a / b for a, b in zip(seconds[above], seconds[below], strict=True))


def timed(step: Callable[[], None], options: Options) -> float:
    """Seconds per step of a block; on a CPU those of this process, whatever else runs there."""
    clock = time.perf_counter if options.device == "cuda" else time.process_time
    started = clock()
    for _ in range(options.steps):
        step()
    if options.device == "cuda":
        torch.cuda.synchronize()
    return (clock() - started) / options.steps


def build(options: Options) -> dict[str, Callable[[], None]]:
    """Name -> one step of an arm."""
    base = base_config(options)
    part = micro_batch(base, options)
    combined, vqgan = stage(base, options), stage(base, options)
    control = stage(replace(base, {"adversarial.weight": 0.0}), options)
    joint = joint_step(base, part, options)
    return {
        "joint": joint,
        "combined": lambda: both_players(combined, part),
        "vqgan": lambda: vqgan_players(vqgan, part),
        "control": lambda: decoder_turn(control, part),
    }


def micro_batch(config: FinetuneRunConfig, options: Options) -> MicroBatch:
    """Random images."""
    domain = config.domain
    shape = (options.batch, domain.channels, domain.size, domain.size)
    sample = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(options.device)
    rows_B = torch.arange(options.batch, device=options.device)
    address = Address(seed=0, epochs_B=torch.zeros_like(rows_B), rows_B=rows_B)
    return MicroBatch(sample, torch.zeros_like(rows_B), address)


def stage(config: FinetuneRunConfig, options: Options) -> AdversarialObjective:
    """Players on a fresh model."""
    torch.manual_seed(0)
    model = UNITE(config.model, build_domain(config.domain), config.flow).to(options.device)
    trained = as_trained(config)
    assert isinstance(trained, FinetuneRunConfig)
    return AdversarialObjective(model, trained, None, Plan.of(config, 50_000))


def joint_step(config: FinetuneRunConfig, part: MicroBatch, options: Options) -> Callable[[], None]:
    """Gradients of the joint step at F = 3."""
    model = UNITE(config.model, build_domain(config.domain), config.flow).to(options.device)
    changes = {**JOINT, "training.precision": config.finetune.precision}
    step = TrainingStep(model, replace(config, changes), None)

    def run() -> None:
        model.zero_grad(set_to_none=True)
        step.backward(*part, flow_weight=1.0)

    return run


def decoder_turn(made: AdversarialObjective, part: MicroBatch) -> None:
    """The decoder's gradients, combined."""
    made.decoder.zero_grad()
    made.decoder.backward(part, 0, 1.0)
    made.decoder.combine()


def both_players(made: AdversarialObjective, part: MicroBatch) -> None:
    """Gradients of both players."""
    decoder_turn(made, part)
    discriminator_turn(made, part)


def discriminator_turn(made: AdversarialObjective, part: MicroBatch) -> None:
    """The discriminator's gradients."""
    assert made.adversary is not None
    made.adversary.zero_grad()
    made.adversary.backward(part, 0, 1.0)


def vqgan_players(made: AdversarialObjective, part: MicroBatch) -> None:
    """Both players, the decoder's weight from two gradients of its last layer."""
    decoder, domain, config = made.decoder, made.model.domain, made.config
    assert decoder.judge is not None
    decoder.zero_grad()
    sample = domain.augment(part.sample, part.address.keys(Purpose.FLIP))
    decoder.latents.append(made.noised_latent(sample, part.address))
    image = made.model.decode(decoder.latents[-1])
    terms = domain.reconstruction_terms(image, sample, config.loss, None)
    reconstruction = domain.reconstruction_loss(terms, config.loss)
    (verdicts,) = made.verdicts(decoder.judge, part.address, image)
    fooled = generator_loss(verdicts, config.adversarial.loss)
    last = decoder.parameters[decoder.last_layer]
    gradients = [
        torch.autograd.grad(term, last, retain_graph=True)[0] for term in (reconstruction, fooled)
    ]
    weight = adversarial_weight(*gradients, config.adversarial)
    total = reconstruction + weight * fooled
    total.backward(inputs=list(decoder.parameters))
    discriminator_turn(made, part)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
