"""Recipes of molecules and crystals (METHOD 7; paper Tables 3 and 5).

The paper states data, size, latent width, optimiser, rate, batch and epochs. The rest is a choice,
with its reason in `config/decisions.py`.
"""

from __future__ import annotations

from dataclasses import replace

from unite.config.domains import AtomsConfig, CrystalsConfig, JointConfig, MoleculesConfig
from unite.config.schema import (
    CheckpointConfig,
    ClusterConfig,
    DataConfig,
    DecoderConfig,
    EncoderConfig,
    EvaluationConfig,
    FlowConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    PerceptualConfig,
    RunConfig,
    SamplingConfig,
    TrainingConfig,
)

QM9_TRAIN, MP20_TRAIN = 100_000, 27_136
"""Samples of the training splits."""
TINY_MP20_TRAIN, PEROV_TRAIN = 8_255, 3_787
"""Samples that the small recipes of crystals were made for: parts of the training splits."""
JOINT_TRAIN, TINY_JOINT_TRAIN = QM9_TRAIN + MP20_TRAIN, QM9_TRAIN + TINY_MP20_TRAIN
"""Samples of both kinds."""
TINY_WARMUP_STEPS, TINY_BATCH = 50, 64
LATENT = 16
"""Latent channels of each atom: the 16 dimensions of the paper."""
TINY_FRAC_WEIGHT = 100.0
"""Weight of fractional coordinates in a small model: at ADiT's 10 an error of 0.02 cells costs
0.004 beside a flow loss of 0.5."""
PAIR_BIAS = 4.0
"""Initial bias between an atom and its register."""


def qm9() -> RunConfig:
    """UNITE-S on QM9 (paper Table 3): 8,000 epochs of 100,000 molecules, 1.56 million steps."""
    steps_per_epoch = QM9_TRAIN / 512
    return _paper(
        MoleculesConfig(),
        DataConfig(train="builtin:qm9", lanes=8),
        epochs=8_000.0,
        steps_per_epoch=steps_per_epoch,
        train=QM9_TRAIN,
    )


def mp20() -> RunConfig:
    """UNITE-S on MP20 (paper Table 5): 10,000 epochs of 27,136 crystals, 530,000 steps."""
    return _paper(
        CrystalsConfig(frac_code="circle"),
        DataConfig(lanes=4),
        epochs=10_000.0,
        steps_per_epoch=MP20_TRAIN / 512,
        train=MP20_TRAIN,
    )


def qm9_tiny() -> RunConfig:
    """QM9 on two CPU cores in 20 minutes: a narrow model that sees 120,000 molecules."""
    data = DataConfig(train="builtin:qm9", lanes=2)
    config = _tiny(MoleculesConfig(), data, epochs=1.2, train=QM9_TRAIN)
    # About 50 steps of a part of 30,000 molecules, which takes 4 epochs, and 150 of the whole.
    return replace(config, optim=replace(config.optim, warmup_epochs=0.1))


def mp20_tiny() -> RunConfig:
    """MP20 on two CPU cores: a narrow model and a part of the training set."""
    return _tiny_crystals(CrystalsConfig(), epochs=12.0, train=TINY_MP20_TRAIN)


def perov_tiny() -> RunConfig:
    """Perov-5 on two CPU cores: cubic cells of five atoms, the fastest test of crystals."""
    domain = CrystalsConfig(max_atoms=5, mean_atoms=5.0)
    config = _tiny_crystals(domain, epochs=16.0, train=PEROV_TRAIN)
    # Cells of one size leave nothing to trim: one group costs the least.
    return replace(config, training=replace(config.training, accumulation=1))


def qm9_mp20() -> RunConfig:
    """UNITE-S on QM9 and MP20 together, which the paper trains apart: as long as `qm9`."""
    config = _paper(
        JointConfig(crystals=CrystalsConfig(frac_code="circle")),
        DataConfig(lanes=8),
        epochs=8_000.0,
        steps_per_epoch=JOINT_TRAIN / 512,
        train=JOINT_TRAIN,
    )
    return _conditional(config)


def qm9_mp20_tiny() -> RunConfig:
    """Both on two CPU cores: the widths of `qm9-tiny`, the weights of `mp20-tiny`."""
    crystals = CrystalsConfig(frac_code="circle", rotate=False, position_weight=TINY_FRAC_WEIGHT)
    return _conditional(
        _tiny(
            JointConfig(crystals=crystals), DataConfig(lanes=2), epochs=1.2, train=TINY_JOINT_TRAIN
        )
    )


def _conditional(config: RunConfig) -> RunConfig:
    """The kind is dropped from 10% of the samples, and guided to when sampling."""
    return replace(
        config,
        flow=replace(config.flow, class_dropout=0.1),
        sampling=replace(config.sampling, cfg_scale=2.0),
    )


def _paper(
    domain: AtomsConfig | JointConfig,
    data: DataConfig,
    *,
    epochs: float,
    steps_per_epoch: float,
    train: int,
) -> RunConfig:
    """UNITE-S: encoder and decoder of 12 blocks of width 384, one register for each atom."""
    warmup_steps = 1_000
    return RunConfig(
        domain=domain,
        data=data,
        model=ModelConfig(
            num_registers=domain.max_atoms,
            latent_dim=LATENT,
            encoder=_encoder(depth=12, width=384, heads=6),
            decoder=DecoderConfig(depth=12, width=384, num_heads=6, mlp_width=1536, stem_width=384),
        ),
        flow=replace(_flow(steps=4), warmup_fraction=2 * warmup_steps / (epochs * steps_per_epoch)),
        loss=LossConfig(perceptual=PerceptualConfig(weight=0.0)),
        optim=OptimConfig(
            lr=1e-4,
            lr_batch_reference=0,
            lr_min=1e-4,
            warmup_epochs=warmup_steps / steps_per_epoch,
            muon=False,
            ema_decay=0.9999,
        ),
        training=TrainingConfig(epochs=epochs, batch_size=512, accumulation=4, compile=True),
        checkpoint=CheckpointConfig(every_images=50 * train),
        evaluation=EvaluationConfig(every_images=50 * train, num_images=1_024, num_samples=64),
        sampling=SamplingConfig(solver="heun", num_steps=50),
        cluster=ClusterConfig(use_gpu=True),
    )


def _tiny(
    domain: AtomsConfig | JointConfig, data: DataConfig, *, epochs: float, train: int
) -> RunConfig:
    """A model of a million parameters; weights of the two losses as METHOD 8 cures them."""
    steps = epochs * train / TINY_BATCH
    return RunConfig(
        domain=domain,
        data=data,
        model=ModelConfig(
            num_registers=domain.max_atoms,
            latent_dim=LATENT,
            encoder=_encoder(depth=4, width=96, heads=4),
            decoder=DecoderConfig(depth=3, width=96, num_heads=4, mlp_width=384, stem_width=96),
        ),
        flow=replace(_flow(steps=2), warmup_fraction=300 / steps),
        loss=LossConfig(perceptual=PerceptualConfig(weight=0.0)),
        optim=OptimConfig(
            lr=2e-3,
            lr_batch_reference=0,
            warmup_epochs=TINY_WARMUP_STEPS * TINY_BATCH / train,
            muon=False,
            ema_decay=0.995,
        ),
        training=TrainingConfig(
            epochs=epochs,
            batch_size=TINY_BATCH,
            accumulation=4,
            precision="float32",
            log_every_steps=50,
        ),
        checkpoint=CheckpointConfig(every_images=12_800),
        evaluation=EvaluationConfig(every_images=12_800, num_images=512, num_samples=64),
        sampling=SamplingConfig(solver="heun", num_steps=25),
        cluster=ClusterConfig(threads_per_worker=2),
    )


def _tiny_crystals(domain: CrystalsConfig, *, epochs: float, train: int) -> RunConfig:
    """Cells in their standard orientation, hidden matrices by Muon (METHOD 7 has the measurements).

    What is decoded, fractional coordinates and the cell, no rotation changes: turned positions
    are a disturbance that a short run spends its steps on.
    """
    domain = replace(domain, frac_code="circle", rotate=False, position_weight=TINY_FRAC_WEIGHT)
    config = _tiny(domain, DataConfig(lanes=2), epochs=epochs, train=train)
    return replace(config, optim=replace(config.optim, muon=True))


def _encoder(*, depth: int, width: int, heads: int) -> EncoderConfig:
    """No class tokens and no rotary positions: pair bias and the index table route instead."""
    return EncoderConfig(
        depth=depth,
        width=width,
        num_heads=heads,
        rotary=False,
        in_context_tokens=0,
        in_context_start=0,
        pair_bias=PAIR_BIAS,
    )


def _flow(*, steps: int) -> FlowConfig:
    """A mean over noisings, no shift (the latent is small), and no class to drop."""
    return FlowConfig(steps=steps, reduction="mean", shift=0.0, class_dropout=0.0)
