"""Reconstruction against input, per image: PSNR, SSIM, L1, LPIPS; sums, and the worst images.

Images are (B, C, H, W): uint8, or float in [0, 1]; all figures are for a range of 1 and computed in
float64. PSNR is cut off at 100 dB, where training's evaluation cuts it too. The released code
counts PSNR and L1 on 8-bit pictures instead: `eight_bit_metrics`. Shapes: B images, C channels,
H height, W width.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unite.domains.image_error import SMALLEST_ERROR, l1, psnr, unit_pair
from unite.metrics.accumulator import Arrays
from unite.metrics.errors import MetricError
from unite.metrics.specs import higher_is_better

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03
"""Constants of Wang et al. 2004."""

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""(reconstructions, inputs), float32 (B, C, H, W) in [0, 1] -> distances (B,)."""


def ssim_window(height: int, width: int) -> int:
    """Side of the SSIM window: 11, or the largest odd number of pixels that an image holds."""
    side = min(SSIM_WINDOW, height, width)
    return side if side % 2 else side - 1


def ssim(reconstruction_BCHW: Tensor, image_BCHW: Tensor) -> Tensor:
    """Structural similarity (B,), float64 (Wang et al. 2004).

    Gaussian window of standard deviation 1.5 and 11 pixels (`ssim_window` where images are
    smaller, which the metric card must then say), population moments, places where the window
    fits, mean over places and channels.
    """
    a_BCHW, b_BCHW = unit_pair(reconstruction_BCHW, image_BCHW)
    side = ssim_window(*a_BCHW.shape[2:])
    offsets = torch.arange(side, dtype=torch.float64, device=a_BCHW.device) - side // 2
    line = torch.exp(-0.5 * (offsets / SSIM_SIGMA) ** 2)
    line = line / line.sum()

    def blur(x_BCHW: Tensor) -> Tensor:
        """Weighted mean under the window at every place; the window is separable."""
        channels = x_BCHW.shape[1]
        kernel = line.expand(channels, 1, -1)
        down = functional.conv2d(x_BCHW, kernel[..., None], groups=channels)
        return functional.conv2d(down, kernel[:, :, None], groups=channels)

    mean_a, mean_b = blur(a_BCHW), blur(b_BCHW)
    var_a, var_b = blur(a_BCHW**2) - mean_a**2, blur(b_BCHW**2) - mean_b**2
    covariance = blur(a_BCHW * b_BCHW) - mean_a * mean_b
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (var_a + var_b + c2)
    return (luminance * structure).flatten(1).mean(dim=1)


def reconstruction_metrics(
    reconstruction_BCHW: Tensor, image_BCHW: Tensor, *, perceptual: Perceptual | None = None
) -> dict[str, Tensor]:
    """`psnr`, `ssim`, `l1`, and `lpips` when its network is given; each (B,) float64."""
    values = {
        "psnr": psnr(reconstruction_BCHW, image_BCHW),
        "ssim": ssim(reconstruction_BCHW, image_BCHW),
        "l1": l1(reconstruction_BCHW, image_BCHW),
    }
    if perceptual is not None:
        a_BCHW, b_BCHW = unit_pair(reconstruction_BCHW, image_BCHW)
        values["lpips"] = perceptual(a_BCHW.float(), b_BCHW.float()).double().flatten()
    return values


def eight_bit_metrics(recon_pixels_BCHW: Tensor, pixels_BCHW: Tensor) -> dict[str, Tensor]:
    """`psnr_8bit` in dB and `l1_8bit` in [0, 1], as the released code counts them (METHOD 5).

    Of uint8 pictures (B, C, H, W), so that rounding to 8 bits is part of the error; each (B,)
    float64. PSNR is cut off where the squared error of values to 255 is 1e-10 (148.1 dB).
    MetricError for other types.
    """
    for images_BCHW in (recon_pixels_BCHW, pixels_BCHW):
        if images_BCHW.dtype != torch.uint8:
            raise MetricError(f"8-bit metrics are of uint8 pictures, not of {images_BCHW.dtype}")
    a_BCHW, b_BCHW = unit_pair(recon_pixels_BCHW, pixels_BCHW)
    squared_B = (255 * (a_BCHW - b_BCHW)).square().flatten(1).mean(dim=1)
    return {
        "psnr_8bit": -10 * (squared_B.clamp_min(SMALLEST_ERROR) / 255**2).log10(),
        "l1_8bit": (a_BCHW - b_BCHW).abs().flatten(1).mean(dim=1),
    }


@dataclass
class ReconstructionTotals:
    """Sums over images, and the `worst` lowest by `worst_by`. `update` and `merge` change it.

    Which images are worst does not depend on the order of chunks; sums do not either when the
    driver adds chunks in the order of their index.
    """

    worst: int = 8
    """Images remembered as the worst."""
    worst_by: str = "psnr"
    num: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    worst_cases: list[tuple[float, int]] = field(default_factory=list)
    """(value, index of the image), worst first."""

    def update(self, indices_B: np.ndarray, values: Mapping[str, Tensor]) -> None:
        """Count images in; MetricError for values that are not finite or metrics that change."""
        indices = np.asarray(indices_B, np.int64)
        arrays = {name: value.double().cpu().numpy() for name, value in values.items()}
        self._check(indices, arrays)
        sums = {name: float(array.sum()) for name, array in arrays.items()}
        cases = zip(arrays[self.worst_by].tolist(), indices.tolist(), strict=True)
        self._count(len(indices), sums, cases)

    def merge(self, arrays: Arrays) -> None:
        """Add what `to_arrays` gave of others."""
        other = json.loads(str(arrays["totals"]))
        if other["num"]:
            cases = [(float(value), int(index)) for value, index in other["worst_cases"]]
            self._count(other["num"], other["sums"], cases)

    def result(self) -> dict[str, float]:
        """Mean of each metric; MetricError without images."""
        if not self.num:
            raise MetricError("no image was reconstructed")
        return {name: total / self.num for name, total in self.sums.items()}

    def to_arrays(self) -> dict[str, np.ndarray]:
        """One array that holds the fields as JSON."""
        return {"totals": np.array(json.dumps(asdict(self)))}

    def _count(
        self, num: int, sums: Mapping[str, float], cases: Iterable[tuple[float, int]]
    ) -> None:
        if self.num and set(sums) != set(self.sums):
            raise MetricError(
                f"chunks measured different metrics: {sorted(self.sums)} and {sorted(sums)}"
            )
        self.num += num
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        sign = 1 if higher_is_better(self.worst_by) else -1
        ranked = sorted([*self.worst_cases, *cases], key=lambda case: (sign * case[0], case[1]))
        self.worst_cases = ranked[: self.worst]

    def _check(self, indices: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
        if self.worst_by not in arrays:
            raise MetricError(f"worst_by: {self.worst_by!r} is not measured; {sorted(arrays)} are")
        for name, array in arrays.items():
            if array.shape != indices.shape:
                raise MetricError(f"{len(indices)} indices for {name} of shape {array.shape}")
            if not np.isfinite(array).all():
                first = indices[~np.isfinite(array)][0]
                raise MetricError(f"{name} of image {first} is not finite: look at that image")
