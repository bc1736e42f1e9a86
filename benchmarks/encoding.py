"""Distance of stored crops from lossless ones: python benchmarks/encoding.py DIR [--help]

Headline: the Frechet distance between the crops that prepared shards hold as JPEG of quality 95 and
the same crops without loss. Nothing is timed but the encoder, so noise of the machine cannot move
it. It is a lower bound of what a reference is off by: both sides are the same photos.

Arms: every way of `prepare_data.py --encoding` that encodes, and JPEG 75 to show the scale. The
distance between two halves of the photos, without loss, stands below: what other photos change.

Features are the pixels of 8 x 8 patches, and with --extractor those of a small one that was fitted
on 32 x 32 images (`evaluate.py fit-extractor`), on 32 x 32 patches. They are not Inception's: a
distance here is no FID.

  python benchmarks/encoding.py IMAGENET/train
  python benchmarks/encoding.py IMAGENET/train --extractor runs/extractors/cifar10-cnn
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import numpy as np
import torch
import tyro

from unite.data.ingest.images import Encoding, Format
from unite.domains.transforms import decode_image
from unite.evaluation.images.extractors import Pixels
from unite.evaluation.images.features import FeatureExtractor, metric_name
from unite.evaluation.images.small import SmallExtractor
from unite.evaluation.report import shown_name
from unite.metrics.frechet import Gaussian
from unite.metrics.moments import Moments

SIZE = 256
PATCH = 8
FORMATS: Mapping[str, tuple[Format, int]] = {
    "webp lossless": ("webp", 0),
    "jpeg 95": ("jpeg", 95),
    "jpeg 75": ("jpeg", 75),
}
BATCH = 4096
ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the benchmark."""

    data: Annotated[str, tyro.conf.Positional]
    """Folder with photos, at any depth."""
    extractor: str = ""
    """Folder of a fitted small extractor for 32 x 32 images; empty = pixels alone."""
    num: int = 1000
    """Largest number of photos, evenly spaced in the order of their paths."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Photos in one format."""

    pixels_BHWC: np.ndarray
    bytes: int
    """Mean size of an image in bytes."""
    seconds: float
    """Median time to encode an image."""


def crops(options: Options) -> np.ndarray:
    """uint8 (B, H, W, C), cropped as for training."""
    files = sorted(
        f for f in Path(options.data).rglob("*") if f.suffix.lower() in (".jpg", ".jpeg")
    )
    chosen = files[:: max(1, len(files) // options.num)][: options.num]
    if len(chosen) < 2:
        raise ValueError(f"{options.data} holds {len(chosen)} JPEG files: name a folder of photos")
    return np.stack([decode_image(file.read_bytes(), SIZE, 3) for file in chosen])


def store(pixels_BHWC: np.ndarray, name: str) -> Stored:
    """Encode and decode every crop."""
    kind, quality = FORMATS[name]
    encoding = Encoding(size=SIZE, format=kind, quality=quality)
    seconds, data = [], []
    for pixels_HWC in pixels_BHWC:
        started = time.perf_counter()
        data.append(encoding.store(pixels_HWC))
        seconds.append(time.perf_counter() - started)
    return Stored(
        pixels_BHWC=np.stack([decode_image(each, SIZE, 3) for each in data]),
        bytes=round(statistics.fmean(map(len, data))),
        seconds=statistics.median(seconds),
    )


def patches(pixels_BHWC: np.ndarray, side: int) -> torch.Tensor:
    """(B', C, side, side): every image cut into squares."""
    images_BCHW = torch.from_numpy(pixels_BHWC).permute(0, 3, 1, 2)
    rows = images_BCHW.unfold(2, side, side).unfold(3, side, side)
    return rows.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, side, side).contiguous()


@torch.inference_mode()
def gaussian(extractor: FeatureExtractor, images_BCHW: torch.Tensor) -> Gaussian:
    """Mean and covariance of the features, float64."""
    moments = Moments.zeros(extractor.num_features)
    for batch_BCHW in images_BCHW.split(BATCH):
        moments.update(extractor.features(batch_BCHW)["features"])
    return Gaussian(moments.mean(), moments.covariance())


def decibels(stored: Stored, pixels_BHWC: np.ndarray) -> float:
    """PSNR in dB, mean over images; infinite without loss."""
    errors = stored.pixels_BHWC.astype(float) - pixels_BHWC
    mse_B = (errors**2).mean((1, 2, 3))
    return float("inf") if not mse_B.any() else float(np.mean(20 * np.log10(255 / np.sqrt(mse_B))))


def measures(options: Options) -> dict[str, Callable[[np.ndarray, np.ndarray], float]]:
    """Name of a distance -> the distance between two sets of crops."""
    extractors: Sequence[FeatureExtractor] = [Pixels((3, PATCH, PATCH))]
    sides = [PATCH]
    if options.extractor:
        extractors = [*extractors, SmallExtractor.load(options.extractor)]
        sides = [*sides, 32]

    def between(extractor: FeatureExtractor, side: int) -> Callable[..., float]:
        def distance(a_BHWC: np.ndarray, b_BHWC: np.ndarray) -> float:
            a, b = (gaussian(extractor, patches(images, side)) for images in (a_BHWC, b_BHWC))
            return a.distance(b)

        return distance

    return {
        f"{shown_name(metric_name(extractor))}, {side} px patches": between(extractor, side)
        for extractor, side in zip(extractors, sides, strict=True)
    }


def shown(distance: float) -> str:
    """Three digits; rounding alone is 0."""
    return "0" if abs(distance) < ROUNDING else f"{distance:.3g}"


def main(options: Options) -> None:
    """Measure every format and print a table."""
    pixels_BHWC = crops(options)
    distances = measures(options)
    half = len(pixels_BHWC) // 2
    print(f"{len(pixels_BHWC)} photos, crops of {SIZE} px, against the crops without loss")
    print(f"| stored as | KiB | ms | PSNR, dB | {' | '.join(distances)} |")
    print("| --- " * (4 + len(distances)) + "|")
    for name in FORMATS:
        found = store(pixels_BHWC, name)
        values = [shown(d(pixels_BHWC, found.pixels_BHWC)) for d in distances.values()]
        cost = f"{found.bytes / 1024:.1f} | {1e3 * found.seconds:.1f}"
        print(f"| {name} | {cost} | {decibels(found, pixels_BHWC):.1f} | {' | '.join(values)} |")
    halves = [shown(d(pixels_BHWC[:half], pixels_BHWC[half:])) for d in distances.values()]
    print(f"| two halves of the photos | | | | {' | '.join(halves)} |")


if __name__ == "__main__":
    main(tyro.cli(Options))
