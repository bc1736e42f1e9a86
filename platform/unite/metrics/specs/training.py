"""Metrics that are logged over training. MLflow's step is the number of images seen.

Hyper-parameters never enter a name; what varies is the run's parameters.
"""

from __future__ import annotations

from functools import partial

from unite.metrics.specs.spec import TRAINING, Spec

logged = partial(Spec, family=TRAINING)

# fmt: off
ROWS = (
    logged(key="loss/total", meaning="what is minimised"),
    logged(key="loss/reconstruction", meaning="weighted sum of the reconstruction's terms"),
    logged(key="loss/l1", meaning="mean absolute error, images in [0, 1]"),
    logged(key="loss/lpips", meaning="LPIPS (VGG) distance"),
    logged(key="loss/types", unit="nat", meaning="cross entropy of element types"),
    logged(key="loss/positions", meaning="position term of the reconstruction loss"),
    logged(key="loss/lattice", meaning="lattice term of the reconstruction loss"),
    logged(key="loss/frac",
           meaning="term of fractional coordinates, where positions are another (joint training)"),
    logged(key="loss/part", unit="nat",
           meaning="cross entropy of the kind, molecule or crystal (joint training)"),
    logged(key="loss/flow", meaning="flow loss per noising, before weight and warm-up"),
    logged(key="loss/flow_weight", meaning="weight of the flow term after warm-up"),
    logged(key="loss/adversarial",
           meaning="adversarial term of the decoder, before its weight (fine-tuning)"),
    logged(key="loss/discriminator", meaning="loss of the discriminator (fine-tuning)"),
    logged(key="disc/real", meaning="mean verdict on real samples; above 0 looks real"),
    logged(key="disc/fake", meaning="mean verdict on reconstructions; below 0 looks made"),
    logged(key="disc/accuracy",
           meaning="share of right verdicts, 0..1; 0.5 = the discriminator sees no difference"),
    logged(key="disc/weight", meaning="factor of the adversarial gradient"),
    logged(key="grad/norm", meaning="global gradient norm before clipping"),
    logged(key="grad/disc_norm", meaning="gradient norm of the discriminator"),
    logged(key="grad/skipped",
           meaning="steps so far that changed nothing because a number was not finite"),
    logged(key="lr", meaning="learning rate"),
    logged(key="epoch", meaning="passes over the training set"),
    logged(key="throughput/images_per_s", unit="1/s",
           meaning="training samples per second, all workers"),
    logged(key="throughput/mfu", meaning="share of the device's matmul rate, 0..1"),
    logged(key="data/wait_fraction", meaning="share of the time spent waiting for data, 0..1"),
    logged(key="data/bad_fraction", meaning="share of unreadable rows so far, 0..1"),
    logged(key="latent/std", heading="latent std", unit="0 = collapsed", column="runs",
           meaning="std of the latent over the batch, mean over channels"),
    logged(key="latent/effective_rank",
           meaning="exp of the entropy of the latent covariance spectrum"),
    logged(key="checkpoint/lag_s", unit="s", meaning="time from a snapshot to its commit"),
    logged(key="checkpoint/lag_images",
           meaning="training samples since the last committed checkpoint"),
    logged(key="interruptions/count", meaning="losses and changes of the group of workers so far"),
    logged(key="interruptions/wasted_images", heading="computed again", column="runs",
           meaning="training samples that were computed again after interruptions, so far"),
    logged(key="interruptions/seconds", unit="s",
           meaning="time between a step and the next group's first, over all interruptions"),
    logged(key="memory/device_peak_gib", unit="GiB", meaning="peak device memory"),
)
# fmt: on
