"""Named runs. A recipe is a function that returns a full RunConfig; flags override its fields.

Names are `<base>` or `<base>-<variant>`, for example `unite-b`, `unite-b-released`,
`digits-paper`. The variants hold what the sources disagree on (METHOD 3): `paper` the paper's text
and tables, `released` the authors' configuration file, `checkpoints` what the published checkpoints
were trained with. For the ImageNet recipes the plain name is the `checkpoints` variant; the laptop
recipes' plain name is the setting that trains at small scale (METHOD 8), which differs from all.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace

from unite.config import atoms
from unite.config.schema import (
    CheckpointConfig,
    ClusterConfig,
    DataConfig,
    DecoderConfig,
    EncoderConfig,
    EvaluationConfig,
    FlowConfig,
    ImagesConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    PerceptualConfig,
    RunConfig,
    SamplingConfig,
    TrainingConfig,
)
from unite.config.serialise import replace as replace_fields
from unite.config.variants import EXCEPTIONS, FULL_SCALE, LENGTH_FIELDS, VARIANTS

IMAGENET_TRAIN_IMAGES = 1_281_167
DIGITS_TRAIN, CIFAR10_TRAIN = 1_500, 50_000

# Generative Encoder sizes: (depth, width, heads). S is DiT-S, the rest METHOD 1 and Table 7.
ENCODER_SIZES = {
    "S": (12, 384, 6),
    "B": (12, 768, 12),
    "M": (12, 1024, 16),
    "L": (24, 1024, 16),
    "XL": (28, 1152, 16),
}
# Decoder sizes: (layers, width, heads, MLP width), METHOD 2.
DECODER_SIZES = {
    "S": (12, 384, 6, 1536),
    "B": (12, 768, 12, 3072),
    "L": (24, 1024, 16, 4096),
}


def encoder(size: str) -> EncoderConfig:
    """The Generative Encoder of size S, B, M, L or XL."""
    depth, width, heads = ENCODER_SIZES[size]
    return EncoderConfig(depth=depth, width=width, num_heads=heads)


def decoder(size: str) -> DecoderConfig:
    """The decoder of size S, B or L."""
    depth, width, heads, mlp = DECODER_SIZES[size]
    return DecoderConfig(depth=depth, width=width, num_heads=heads, mlp_width=mlp)


def imagenet(size: str) -> RunConfig:
    """UNITE on ImageNet 256 x 256 with the Base decoder (paper Tables 1, 7, 8)."""
    return RunConfig(
        model=ModelConfig(encoder=encoder(size), decoder=decoder("B")),
        training=TrainingConfig(gradient_checkpointing=True, compile=True),
        data=DataConfig(lanes=16),
        sampling=SamplingConfig(cfg_scale=2.0),
        checkpoint=CheckpointConfig(every_images=IMAGENET_TRAIN_IMAGES),
        # Without one an image takes seconds: that must be asked for, not happen.
        cluster=ClusterConfig(use_gpu=True),
        evaluation=EvaluationConfig(every_images=5 * IMAGENET_TRAIN_IMAGES, num_images=5_000),
    )


def digits() -> RunConfig:
    """scikit-learn's 8 x 8 digits on a laptop: the cured small-scale setting (METHOD 8)."""
    return RunConfig(
        domain=ImagesConfig(size=8, patch=2, channels=1, num_classes=10, flip=False),
        model=small_model(width=64, depth=3, heads=4, registers=16, latent=8, context=0),
        flow=FlowConfig(steps=4, reduction="mean", warmup_fraction=0.3),
        loss=LossConfig(reconstruction_weight=10.0, perceptual=PerceptualConfig(weight=0.0)),
        optim=OptimConfig(lr=4e-3, lr_batch_reference=0, warmup_epochs=1.0, ema_decay=0.99),
        training=TrainingConfig(
            epochs=26.0, batch_size=64, precision="float32", log_every_steps=20
        ),
        data=DataConfig(train="builtin:digits", lanes=2, shuffle_window=1024),
        checkpoint=CheckpointConfig(every_images=12_800),
        evaluation=EvaluationConfig(every_images=12_800, num_images=297, num_samples=100),
        # On two cores a second thread makes these small steps about 1.3 times as fast.
        cluster=ClusterConfig(threads_per_worker=2),
        sampling=SamplingConfig(solver="heun", num_steps=25, cfg_scale=1.5),
    )


def digits_blurred() -> RunConfig:
    """Digits through a latent of 16 numbers: a decoder that blurs, to be fine-tuned (METHOD 6)."""
    base = digits()
    return replace(
        base,
        domain=replace(base.domain, patch=4),
        model=small_model(width=64, depth=3, heads=4, registers=4, latent=4, context=0),
        training=replace(base.training, epochs=18.0),
        cluster=ClusterConfig(threads_per_worker=1),
    )


def cifar10() -> RunConfig:
    """CIFAR-10 at 32 x 32, without LPIPS, in float32 on any device."""
    return replace(
        digits(),
        cluster=ClusterConfig(),
        domain=ImagesConfig(size=32, patch=4, channels=3, num_classes=10),
        model=small_model(width=192, depth=6, heads=6, registers=64, latent=16, context=8),
        training=TrainingConfig(epochs=100.0, batch_size=128, precision="float32"),
        data=DataConfig(lanes=4),
        optim=OptimConfig(lr=1e-3, lr_batch_reference=0, warmup_epochs=1.0, ema_decay=0.9978),
        checkpoint=CheckpointConfig(every_images=50_000),
        evaluation=EvaluationConfig(every_images=50_000, num_images=1_000, num_samples=100),
    )


def cifar10_gpu() -> RunConfig:
    """CIFAR-10 at what suits a GPU: launches bound a small model's step, so a batch is large.

    Four times the batch goes with twice the learning rate: the rule of the square root, for
    optimisers that normalise their updates.
    """
    base = cifar10()
    size = 4 * base.training.batch_size
    return replace(
        base,
        training=replace(base.training, precision="bfloat16", compile=True, batch_size=size),
        optim=replace(base.optim, lr=2 * base.optim.lr),
        cluster=ClusterConfig(use_gpu=True),
    )


def cifar10_small() -> RunConfig:
    """CIFAR-10 within an hour on one CPU core: large patches, few registers, a narrow model."""
    base = cifar10()
    return replace(
        base,
        domain=replace(base.domain, patch=8),
        model=small_model(width=128, depth=4, heads=4, registers=16, latent=48, context=8),
        training=replace(base.training, epochs=6.0, batch_size=64),
        checkpoint=CheckpointConfig(every_images=12_800),
        evaluation=replace(base.evaluation, every_images=25_600),
        sampling=replace(base.sampling, cfg_scale=2.0),
        cluster=ClusterConfig(threads_per_worker=1),
    )


def smoke() -> RunConfig:
    """The digits run cut to seconds, for tests: it learns nothing worth looking at."""
    base = digits()
    return replace(
        base,
        model=small_model(width=32, depth=2, heads=2, registers=16, latent=4, context=2),
        training=replace(base.training, epochs=0.5, batch_size=32, log_every_steps=2),
        checkpoint=CheckpointConfig(every_images=256),
        evaluation=EvaluationConfig(every_images=512, num_images=32, num_samples=10),
        sampling=SamplingConfig(solver="euler", num_steps=4, cfg_scale=1.5),
        cluster=ClusterConfig(threads_per_worker=1),
    )


def small_model(
    *, width: int, depth: int, heads: int, registers: int, latent: int, context: int
) -> ModelConfig:
    """A model for small images: encoder and decoder of one width and depth."""
    return ModelConfig(
        num_registers=registers,
        latent_dim=latent,
        encoder=EncoderConfig(
            depth=depth,
            width=width,
            num_heads=heads,
            in_context_tokens=context,
            in_context_start=depth // 3,
        ),
        decoder=DecoderConfig(
            depth=depth, width=width, num_heads=heads, mlp_width=4 * width, stem_width=width
        ),
    )


@dataclass(frozen=True)
class Base:
    """A recipe by itself, of which variants are made."""

    build: Callable[[], RunConfig]
    text: str
    """The result that it reproduces."""
    plain: str | None = None
    """The variant that the plain name means; None = the small-scale setting."""
    variants: tuple[str, ...] = tuple(VARIANTS)
    """The variants that its sources have: a paper alone, for one, leaves no released settings."""
    train: int = 0
    """Size of the training set that it was made for, in samples; 0 = unknown."""


def _of_atoms(build: Callable[[], RunConfig], text: str, train: int) -> Base:
    """A recipe without variants: the authors released no code for molecules and crystals."""
    return Base(build, text, variants=(), train=train)


BASES: dict[str, Base] = {
    "digits": Base(
        digits, "8x8 digits on a laptop (METHOD 8, small-scale setting)", train=DIGITS_TRAIN
    ),
    "digits-blurred": Base(
        digits_blurred,
        "digits through 16 numbers, to fine-tune (METHOD 6)",
        variants=(),
        train=DIGITS_TRAIN,
    ),
    "cifar10": Base(
        cifar10, "CIFAR-10 32x32 (small-scale setting), float32 on any device", train=CIFAR10_TRAIN
    ),
    "cifar10-gpu": Base(
        cifar10_gpu,
        "CIFAR-10 32x32 on one GPU, bfloat16, batch 512",
        variants=(),
        train=CIFAR10_TRAIN,
    ),
    "cifar10-small": Base(
        cifar10_small, "CIFAR-10 32x32 in an hour on one CPU core (METHOD 8)", train=CIFAR10_TRAIN
    ),
    "unite-b": Base(
        lambda: imagenet("B"),
        "ImageNet-256, UNITE-B (Table 1: FID 2.12)",
        "checkpoints",
        train=IMAGENET_TRAIN_IMAGES,
    ),
    "unite-l": Base(
        lambda: imagenet("L"),
        "ImageNet-256, UNITE-L (Table 1: FID 1.73)",
        "checkpoints",
        train=IMAGENET_TRAIN_IMAGES,
    ),
    "unite-xl": Base(
        lambda: imagenet("XL"),
        "ImageNet-256, UNITE-XL (Table 1: FID 1.75)",
        "checkpoints",
        train=IMAGENET_TRAIN_IMAGES,
    ),
    "smoke": Base(
        smoke, "nothing: seconds of training, for tests", variants=(), train=DIGITS_TRAIN
    ),
    "qm9": _of_atoms(atoms.qm9, "QM9, UNITE-S (Table 3)", atoms.QM9_TRAIN),
    "mp20": _of_atoms(atoms.mp20, "MP20, UNITE-S (Table 5)", atoms.MP20_TRAIN),
    "qm9-tiny": _of_atoms(atoms.qm9_tiny, "QM9 in 20 minutes on two CPU cores", atoms.QM9_TRAIN),
    "mp20-tiny": _of_atoms(atoms.mp20_tiny, "MP20 on two CPU cores", atoms.TINY_MP20_TRAIN),
    "perov-tiny": _of_atoms(
        atoms.perov_tiny, "Perov-5 in minutes on two CPU cores", atoms.PEROV_TRAIN
    ),
    "qm9-mp20": _of_atoms(atoms.qm9_mp20, "QM9 and MP20 in one model", atoms.JOINT_TRAIN),
    "qm9-mp20-tiny": _of_atoms(
        atoms.qm9_mp20_tiny, "QM9 and MP20 in one model, two CPU cores", atoms.TINY_JOINT_TRAIN
    ),
}


def names() -> list[str]:
    """Names of all recipes: bases, then each base in each of its variants."""
    return [*BASES, *(f"{name}-{each}" for name, base in BASES.items() for each in base.variants)]


def describe(name: str) -> str:
    """Line of text that says what the recipe reproduces."""
    text, chosen = BASES[_split(name)[0]].text, variant_of(name)
    return text if chosen is None else f"{text}, settings of the {chosen} variant"


def variant_of(name: str) -> str | None:
    """The variant that a recipe's name means; None for the small-scale setting."""
    base, variant = _split(name)
    return variant or BASES[base].plain


def is_laptop(name: str) -> bool:
    """True if the recipe's own length and learning rate hold in every variant."""
    return BASES[_split(name)[0]].plain is None


def training_size(name: str) -> int:
    """Samples of the training set that a recipe was made for; ValueError where none is known."""
    size = BASES[_split(name)[0]].train
    if not size:
        raise ValueError(f"recipe {name} names no size of its training set: give --data.train")
    return size


def recipe(name: str) -> RunConfig:
    """The full config of a named recipe; ValueError suggests the nearest names."""
    base, variant = _split(name)[0], variant_of(name)
    config = replace_fields(BASES[base].build(), {"recipe": name})
    if variant is None:
        return config
    changes = VARIANTS[variant] | EXCEPTIONS.get(f"{base}-{variant}", {})
    if is_laptop(name):  # it shows what the variant does at its own length
        changes = {k: v for k, v in changes.items() if k not in LENGTH_FIELDS} | FULL_SCALE
    return replace_fields(config, changes)


def _split(name: str) -> tuple[str, str | None]:
    if name in BASES:
        return name, None
    base, _, variant = name.rpartition("-")
    if name not in names():
        close = difflib.get_close_matches(name, names(), n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else "."
        raise ValueError(f"unknown recipe {name!r}{hint} Recipes: {', '.join(names())}")
    return base, variant
