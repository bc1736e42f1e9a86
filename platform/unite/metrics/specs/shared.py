"""Metrics that any domain has: sampling costs, alignment, trajectory, entropy, probe, compute."""

from __future__ import annotations

from functools import partial

from unite.metrics.specs.spec import Spec

generation = partial(Spec, family="generation")
sweep = partial(Spec, family="cfg_sweep")
alignment = partial(Spec, family="alignment")
trajectory = partial(Spec, family="trajectory")
entropy = partial(Spec, family="entropy", unit="MB")
probe = partial(Spec, family="probe", unit="%")
compute = partial(Spec, family="compute")

# fmt: off
ROWS = (
    generation(key="nfe", paper="NFE",
               meaning="evaluations of the velocity per sample, guidance not counted"),
    generation(key="passes", meaning="passes through the network per sample, guidance counted"),
    generation(key="images_per_s", unit="1/s", meaning="samples drawn per second by one worker"),
    sweep(key="best_cfg_scale", meaning="guidance scale with the lowest distance"),
    sweep(key="samples_drawn", meaning="samples that the search for it has drawn"),
    alignment(key="cka_mean",
              meaning="linear CKA of the registers in both pathways, mean of blocks and levels"),
    alignment(key="cknna_mean",
              meaning="CKNNA of the registers in both pathways, mean of blocks and levels"),
    alignment(key="cosine_mean",
              meaning="cosine of the registers in both pathways, mean of blocks and levels"),
    alignment(key="cka_last_block", meaning="linear CKA after the last block, mean of levels"),
    alignment(key="cknna_last_block", meaning="CKNNA after the last block, mean of levels"),
    alignment(key="cosine_last_block", meaning="cosine after the last block, mean of levels"),
    alignment(key="latent_cosine_mean",
              meaning="cosine of the latents of both pathways, mean of levels"),
    trajectory(key="*_[tz][0-9]*",
               meaning="a reconstruction metric of D(z_hat(z_t)) at noise level t, or of D(z0)"),
    entropy(key="*norm_mb", meaning="weight entropy of norms and adaLN (random_: untrained model)"),
    entropy(key="*functional_mb", meaning="weight entropy of attention and MLP"),
    entropy(key="*other_mb", meaning="weight entropy of embeddings and heads"),
    entropy(key="*total_mb", meaning="weight entropy of all weights of the encoder"),
    probe(key="top1_pct", paper="linear probe", better="higher",
          meaning="accuracy of a linear classifier on the mean of the latent's registers"),
    probe(key="top5_pct", better="higher", meaning="the same, the class among the first five"),
    probe(key="flat_top1_pct", better="higher",
          meaning="accuracy of a linear classifier on all registers side by side"),
    probe(key="flat_top5_pct", better="higher", meaning="the same, the class among the first five"),
    probe(key="majority_pct", meaning="accuracy of always guessing the commonest class"),
    compute(key="params_m", unit="10^6, trained", heading="parameters", column="runs",
            paper="parameters", meaning="trained parameters of the whole model"),
    compute(key="tflop_per_sample", unit="per image, training", heading="TFLOP", column="runs",
            paper="TFLOP", meaning="10^12 operations per training sample, recompute counted"),
    compute(key="params_*_m", unit="10^6, trained", meaning="trained parameters of one part"),
    compute(key="tflop_*", unit="per image, training",
            meaning="10^12 operations of one pass per training sample"),
    compute(key="epochs", paper="epochs", meaning="passes over the training set"),
    compute(key="total_flop", paper="total FLOP", meaning="operations of the whole training"),
    compute(key="images_per_s", unit="1/s", meaning="training samples per second, all workers"),
    compute(key="device_hours", unit="h", meaning="device hours of training, at the median rate"),
    compute(key="mfu", meaning="share of the device's matmul rate in training, 0..1"),
)
# fmt: on
