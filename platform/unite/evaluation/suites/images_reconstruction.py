"""Reconstruction of held-out images: rFID, PSNR, SSIM, LPIPS, L1 and a picture (METHOD 5; paper
Table 2). PSNR and L1 are of float images; `psnr_8bit` and `l1_8bit` are the released code's.

D(GE_tokenize(x)) against x, with tokenization noise addressed by row, as in the evaluation during
training. Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from unite.config.validate import LPIPS_SMALLEST_SIDE as SMALLEST_SIDE
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.chunks import Chunk
from unite.evaluation.dataset import MOST_IMAGES, Dataset, undecodable
from unite.evaluation.images.distances import (
    UINT8_RULE,
    count_features,
    extractor_fields,
    feature_totals,
    plan_of,
)
from unite.evaluation.images.features import metric_name
from unite.evaluation.images.guards import ImageGuard, bias_warning
from unite.evaluation.images.suite import FeatureSuite, extractors_of, images_of_run
from unite.evaluation.instruments import Instruments, Rows
from unite.evaluation.results import Outcome, Row
from unite.evaluation.suite import common_fields
from unite.evaluation.target import Target
from unite.lazy import torch
from unite.metrics.accumulator import Arrays, Totals
from unite.metrics.fidelity import FidelityPlan
from unite.paper import model_counterpart
from unite.sampling.grid import image_grid, png
from unite.storage import Store
from unite.training.vgg import require_perceptual
from unite.weights import MissingWeightsError

if TYPE_CHECKING:
    from torch import Tensor

    from unite.metrics.image_quality import Perceptual, ReconstructionTotals

SHOWN = 8
"""Number of first images in the picture, and of the worst."""


@dataclass(frozen=True, kw_only=True)
class Reconstruction(FeatureSuite):
    """The first N held-out images."""

    suite: ClassVar[str] = "reconstruction"

    data: Dataset
    seed: int = 0
    version: int = 2
    """Version of chunks' contents: those of 1 have no 8-bit sums and are not mixed with these."""
    lpips: bool = False
    """Measure LPIPS, which needs the VGG weights."""
    weights: str = field(default="", compare=False)
    """Folder or URI of pretrained weights, as RunConfig.weights."""
    why_no_lpips: str = field(default="", compare=False)

    @classmethod
    def of(cls, arguments: EvaluateArguments, target: Target) -> Self:
        """The suite of a request."""
        config = target.subject.config
        weights = arguments.weights or config.weights
        why_no_lpips = lpips_available(images_of_run(config).size, weights)
        return cls(
            total=min(arguments.num_images or MOST_IMAGES, target.held_out.num_rows),
            data=target.held_out,
            extractors=extractors_of(arguments, target),
            lpips=not why_no_lpips,
            why_no_lpips=why_no_lpips,
            weights=weights and Store.open(weights).uri,  # workers have another current folder
            seed=arguments.seed,
            **common_fields(arguments, target),
        )

    @property
    def notices(self) -> tuple[str, ...]:
        """Work that comes first, and LPIPS where it is missing."""
        lpips = () if self.lpips else (f"No LPIPS. {self.why_no_lpips}",)
        return (*super().notices, *lpips)

    @property
    def cost(self) -> float:
        """Passes per image: tokenizer and decoder, LPIPS on top."""
        return 4.0 if self.lpips else 2.0

    @property
    def plans(self) -> tuple[FidelityPlan, ...]:
        """Plans of counting for the extractors: both sides need moments alone."""
        return tuple(plan_of(source, self.total, moments_only=True) for source in self.sources)

    def totals(self, label: str, device: torch.device | str = "cpu") -> Totals:
        """Means, pictures of the first and the worst, and features of both sides."""
        from unite.metrics.image_quality import ReconstructionTotals

        return {
            "totals": ReconstructionTotals(worst=SHOWN),
            "album": _Album(),
            **feature_totals("real", self.plans, device),
            **feature_totals("fake", self.plans, device),
        }

    def count(self, totals: Any, instruments: Instruments, chunk: Chunk) -> None:
        """Reconstruct a chunk of rows."""
        from unite.metrics.image_quality import eight_bit_metrics, reconstruction_metrics

        guard, domain = ImageGuard(), self.domain(instruments)
        perceptual = self._perceptual(instruments)
        for rows in instruments.rows(self.data, self.subject.config.domain, chunk):
            indices_B = rows.rows_B.cpu().numpy()
            recon_BCHW = self._reconstruct(instruments, rows)
            guard.add(recon_BCHW, indices_B)
            images = {"real": domain.render(rows.sample), "fake": domain.render(recon_BCHW)}
            for side, pixels_BHWC in images.items():
                count_features(totals, side, self.sources, instruments, indices_B, pixels_BHWC)
            real_BCHW, fake_BCHW = (each.permute(0, 3, 1, 2) for each in images.values())
            values = reconstruction_metrics(recon_BCHW, rows.sample, perceptual=perceptual)
            values |= eight_bit_metrics(fake_BCHW, real_BCHW)
            totals["totals"].update(indices_B, values)
            totals["album"].update(indices_B, real_BCHW.cpu().numpy(), fake_BCHW.cpu().numpy())
            totals["album"].keep(_wanted(totals["totals"]))
        guard.check()

    def outcome(self, totals: Any) -> Outcome:
        """Means, distances and the picture."""
        num = totals["totals"].num
        remarks = () if self.lpips else (f"No LPIPS. {self.why_no_lpips}",)
        return Outcome(
            suite=self.suite,
            protocol=f"held-out images against D(GE(x)), {self.precision}",
            rows=(*self._distance_rows(totals, num), *self._mean_rows(totals["totals"])),
            remarks=(*remarks, *undecodable(self.data, self.total, num)),
            files={"reconstructions.png": png(totals["album"].picture(_wanted(totals["totals"])))},
        )

    def _reconstruct(self, instruments: Instruments, rows: Rows) -> Tensor:
        """Reconstructions (B, C, H, W), float."""
        from unite.sampling.passes import tokenize_rows

        model = self.model(instruments)
        with torch.inference_mode(), instruments.autocast(self.precision):
            z0_BKD = tokenize_rows(model, rows.sample, rows.rows_B, seed=self.seed)
            return model.decode(z0_BKD).float()

    def _perceptual(self, instruments: Instruments) -> Perceptual | None:
        if not self.lpips:
            return None
        from unite.training.losses import Perceptual

        return instruments.cached(
            "lpips", lambda: Perceptual(require_perceptual(self.weights)).to(instruments.device)
        )

    def _distance_rows(self, totals: Any, num: int) -> list[Row]:
        rows = []
        for number, source in enumerate(self.sources):
            real, fake = (totals[f"{side}/{number}/"] for side in ("real", "fake"))
            for side in (real, fake):
                side.check_complete(left_out=self.total - num)
            card = self.card(
                metric_name(source.id, "rfid"),
                real.result().distance(fake.result()),
                data=self.data.digest,
                seed=self.seed,
                **extractor_fields(source),
                reference_made=f"the same {num} images of the {self.data.split} split",
                reference_encoding=self.data.encoding,
                num_samples=num,
            )
            note = bias_warning(num, source.num_features) or ""
            model = self.subject.config
            paper = None if number else model_counterpart("rfid", suite=self.suite, config=model)
            rows.append(Row(card=card, paper=paper, note=note))
        return rows

    def _mean_rows(self, totals: ReconstructionTotals) -> list[Row]:
        from unite.metrics.image_quality import ssim_window

        window = ssim_window(self.images.size, self.images.size)
        eight_bit = {"image_range": "0..1, of 8 bits"}
        details = {
            "ssim": {"window": window},
            "lpips": {"network": "vgg", "range": "-1..1"},
            "psnr_8bit": eight_bit,
            "l1_8bit": eight_bit,
        }
        notes = {
            "psnr": "dB",
            "ssim": f"window {window} x {window}",
            "psnr_8bit": "dB, as the released code counts",
            "l1_8bit": "as the released code counts",
        }
        return [
            Row(
                card=self.card(
                    name,
                    value,
                    data=self.data.digest,
                    seed=self.seed,
                    num_samples=totals.num,
                    uint8_rule=UINT8_RULE if name.endswith("_8bit") else "",
                    details={"image_range": "0..1, float", **details.get(name, {})},
                ),
                note=notes.get(name, ""),
            )
            for name, value in totals.result().items()
        ]


def lpips_available(size: int, weights: str) -> str:
    """Reason why LPIPS cannot be measured on images of this size; empty when it can."""
    if size < SMALLEST_SIDE:
        return f"It is not defined for images under {SMALLEST_SIDE} pixels, these have {size}."
    try:
        require_perceptual(weights)
    except MissingWeightsError as error:
        return str(error)
    return ""


class _Album:
    """Inputs and reconstructions of a few images, uint8 (C, H, W), by row."""

    def __init__(self) -> None:
        self.pairs: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def update(self, rows_B: np.ndarray, inputs_BCHW: np.ndarray, outputs_BCHW: np.ndarray) -> None:
        """Remember images by row."""
        for row, before, after in zip(rows_B.tolist(), inputs_BCHW, outputs_BCHW, strict=True):
            self.pairs[row] = (before, after)

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all others."""
        self.pairs = {row: pair for row, pair in self.pairs.items() if row in rows}

    def to_arrays(self) -> dict[str, np.ndarray]:
        rows = sorted(self.pairs)
        inputs, outputs = zip(*(self.pairs[row] for row in rows), strict=True)
        return {"rows": np.array(rows), "inputs": np.stack(inputs), "outputs": np.stack(outputs)}

    def merge(self, arrays: Arrays) -> None:
        """Remember another album's images as well."""
        self.update(arrays["rows"], arrays["inputs"], arrays["outputs"])

    def picture(self, rows: Sequence[int]) -> np.ndarray:
        """Inputs above reconstructions: the first images, then the worst (H, W, C)."""
        found = [self.pairs[row] for row in rows if row in self.pairs]
        images_BCHW = np.stack([pair[0] for pair in found] + [pair[1] for pair in found])
        return image_grid(images_BCHW.transpose(0, 2, 3, 1), columns=len(found))


def _wanted(totals: ReconstructionTotals) -> list[int]:
    """Rows of the picture: the first ones, then the worst that are not among them."""
    first = list(range(SHOWN))
    return first + [row for _, row in totals.worst_cases if row >= SHOWN]
