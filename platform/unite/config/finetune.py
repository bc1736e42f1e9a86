"""Settings of the adversarial fine-tuning of a decoder (METHOD 6; paper Appendix A).

A fine-tuned run is a run of its own: its config is the whole config of the run that it continues,
its parent, and the four groups below. `as_trained` is that config with the length and optimiser of
the fine-tuning in the places where the training loop looks for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from dataclasses import replace as replace_dataclass
from typing import Literal

from unite.config.schema import RunConfig
from unite.config.serialise import replace

SECTIONS = ("parent", "finetune", "adversarial", "discriminator")
"""Groups that a fine-tuned run has beside those of its parent."""


@dataclass(frozen=True, kw_only=True)
class ParentConfig:
    """The checkpoint that a fine-tuning continues; the job fills it in."""

    run: str = ""
    """Name of the run, or of the export's folder, that the decoder comes from."""
    digest: str = ""
    """Digest of that checkpoint by its content (16 hex digits)."""
    images: int = 0
    """Images that it was trained on."""


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Length and optimiser of the decoder's fine-tuning; the discriminator has the same."""

    epochs: float = 16.0
    """Passes over the training set, 16 as in Appendix A; may be fractional."""
    lr: float = 2e-4
    """Learning rate of AdamW after warm-up, of decoder and discriminator."""
    lr_min: float = 2e-5
    """Learning rate at the end of the cosine."""
    warmup_epochs: float = 1.0
    """Length of the linear warm-up, in epochs."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW betas."""
    ema_decay: float = 0.9978
    """Decay of the weight average of the decoder, per optimiser step."""
    batch_size: int = 512
    """Images per optimiser step, over all workers."""
    accumulation: int = 1
    """Micro-batches per optimiser step and worker."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """float32 is recommended; bfloat16 = autocast, as in joint training."""
    start_from: Literal["ema", "raw"] = "ema"
    """Weights of the parent that are taken, for encoder and decoder: averaged or raw ones."""
    seed: int = 0
    """Address of the fine-tuning's randomness: order, noise, augmentation, initial heads."""
    log_every_steps: int = 50
    """Optimiser steps between log points."""


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """The adversarial term of the decoder's loss."""

    weight: float = 0.75
    """Weight of the adversarial term; 0 = none and no discriminator (the control)."""
    mode: Literal["adaptive", "fixed"] = "adaptive"
    """adaptive: times the ratio of the gradients' norms at the decoder's last layer (VQGAN)."""
    max_weight: float = 1e4
    """Largest ratio of the adaptive weight."""
    loss: Literal["hinge", "vanilla"] = "hinge"
    """hinge: relu(1 - real) + relu(1 + fake), generator -fake. vanilla: softplus of both."""
    discriminator_start: float = 0.0
    """Epochs before the discriminator is trained."""
    adversarial_start: float = 1.0
    """Epochs before the adversarial term has weight; not before `discriminator_start`."""
    lecam: float = 0.0
    """Weight of the LeCAM regulariser of the discriminator; 0 = none."""


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """The discriminator: a trunk with the Generative Encoder's architecture, and small heads."""

    init: Literal["generative_encoder", "random"] = "generative_encoder"
    """Initial weights of the trunk: the Generative Encoder's (paper), or fresh ones."""
    trunk: Literal["trained", "frozen"] = "trained"
    """frozen: the heads alone are trained."""
    trunk_lr_scale: float = 1.0
    """Learning rate of the trunk, relative to that of the heads."""
    taps: tuple[int, ...] = ()
    """Indices of the blocks with a head; empty = the last block of each third."""
    features: Literal["registers", "tokens", "both"] = "registers"
    """Positions that give a verdict: registers, or the sample's own tokens, or both."""
    augment_probability: float = 1.0
    """Share of images that are augmented (DiffAug) before the discriminator, real and fake."""
    augment_shift: float = 0.125
    """Largest shift of an augmented image, as a share of its side; zeros come in."""
    augment_colour: bool = True
    """Change brightness, saturation and contrast of augmented images."""


@dataclass(frozen=True, kw_only=True)
class FinetuneRunConfig(RunConfig):
    """The config of a fine-tuned run: its parent's, and how its decoder was trained on."""

    parent: ParentConfig = field(default_factory=ParentConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)


FINETUNE_RECIPES: dict[str, dict[str, object]] = {
    "gan": {},
    # RAE's decoder stage: the adversary waits for a decoder that is trained from scratch.
    "rae": {"adversarial.discriminator_start": 6.0, "adversarial.adversarial_start": 8.0},
    # For parents of laptop size, whose epochs are a few dozen steps.
    "small": {
        "finetune.epochs": 19.0,
        "finetune.lr": 5e-4,
        "finetune.lr_min": 5e-5,
        "finetune.ema_decay": 0.99,
        "finetune.batch_size": 64,
        "finetune.log_every_steps": 20,
        "adversarial.adversarial_start": 2.0,
    },
}
"""Name -> changes of the defaults above."""


def finetune_recipe(name: str, base: RunConfig) -> FinetuneRunConfig:
    """The settings of a named fine-tuning of the run `base`; ValueError for an unknown name."""
    if name not in FINETUNE_RECIPES:
        raise ValueError(
            f"unknown fine-tuning recipe {name!r}; recipes: {', '.join(FINETUNE_RECIPES)}"
        )
    return replace(extended(base), FINETUNE_RECIPES[name])


def extended(base: RunConfig) -> FinetuneRunConfig:
    """A run's config with default settings of a fine-tuning beside it."""
    return FinetuneRunConfig(**{item.name: getattr(base, item.name) for item in fields(RunConfig)})


def as_trained(config: RunConfig) -> RunConfig:
    """The config by which the loop trains: a fine-tuned run's own length and optimiser.

    Any other config is returned as it is.
    """
    if not isinstance(config, FinetuneRunConfig):
        return config
    tune = config.finetune
    optim = replace_dataclass(
        config.optim,
        lr=tune.lr,
        lr_min=tune.lr_min,
        lr_batch_reference=0,
        schedule="cosine",
        warmup_epochs=tune.warmup_epochs,
        muon=False,
        betas=tune.betas,
        weight_decay=0.0,
        grad_clip=0.0,
        ema_decay=tune.ema_decay,
    )
    training = replace_dataclass(
        config.training,
        epochs=tune.epochs,
        batch_size=tune.batch_size,
        accumulation=tune.accumulation,
        micro_batch=0,
        precision=tune.precision,
        seed=tune.seed,
        log_every_steps=tune.log_every_steps,
    )
    return replace_dataclass(config, optim=optim, training=training)


def trunk_taps(config: DiscriminatorConfig, depth: int) -> tuple[int, ...]:
    """Indices of the blocks that have a head, ascending."""
    thirds = (max(depth * part // 3 - 1, 0) for part in (1, 2, 3))
    return tuple(sorted(set(config.taps or thirds)))
