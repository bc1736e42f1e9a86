"""Metrics of images: fidelity of samples (paper Table 1) and reconstruction (Table 2)."""

from __future__ import annotations

from functools import partial

from unite.metrics.specs.spec import Spec

generation = partial(Spec, family="generation", domains=("images",))
reconstruction = partial(Spec, family="reconstruction", domains=("images",))

# fmt: off
ROWS = (
    # First, because a phone shows one column: every evaluation has it, FID few.
    reconstruction(key="psnr", name="PSNR", unit="dB", better="higher", column="runs", judges=2,
                   logged=True, meaning="peak signal-to-noise ratio to the input, per image"),
    generation(key="fid", name="FID", elsewhere="FD", paper="gFID", better="lower", column="runs",
               judges=1, meaning="Frechet distance between features of samples and of real images"),
    generation(key="is", name="IS", elsewhere="CS", paper="IS", better="higher", column="runs",
               meaning="exp of the mutual information of sample and predicted class"),
    generation(key="kid", name="KID", elsewhere="KD", better="lower",
               meaning="squared maximum mean discrepancy of features, polynomial kernel"),
    generation(key="precision", better="higher",
               meaning="share of samples inside the manifold of real images"),
    generation(key="recall", better="higher",
               meaning="share of real images inside the manifold of samples"),
    generation(key="density", better="higher",
               meaning="mean number of real neighbourhoods that hold a sample, over k"),
    generation(key="coverage", better="higher",
               meaning="share of real images whose neighbourhood holds a sample"),
    reconstruction(key="rfid", name="rFID", elsewhere="rFD", paper="rFID", better="lower",
                   column="runs", judges=1,
                   meaning="Frechet distance between features of reconstructions and their inputs"),
    reconstruction(key="ssim", name="SSIM", better="higher",
                   meaning="structural similarity to the input, 1 = equal"),
    reconstruction(key="lpips", name="LPIPS", better="lower",
                   meaning="perceptual distance to the input in VGG's features"),
    reconstruction(key="l1", better="lower", logged=True,
                   meaning="mean absolute error to the input, images in [0, 1]"),
    reconstruction(key="psnr_8bit", unit="dB", better="higher", column="tables",
                   meaning="PSNR of pictures in 8 bits, as the released code counts it"),
    reconstruction(key="l1_8bit", better="lower",
                   meaning="mean absolute error of pictures in 8 bits, over 255"),
)
# fmt: on
