"""Reconstruction of held-out images: rFID, PSNR, SSIM, LPIPS, L1 and a picture (METHOD 5; paper
Table 2). PSNR and L1 are of float images; `psnr_8bit` and `l1_8bit` are the released code's.

D(GE_tokenize(x)) against x, with tokenization noise addressed by row, as in the evaluation during
training. Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from unite.evaluation.chunks import Arrays, Chunk
from unite.evaluation.dataset import Dataset, undecodable
from unite.evaluation.images.counting import UINT8_RULE, Counter, Totals, extractor_fields, plan_of
from unite.evaluation.images.extractors import metric_name
from unite.evaluation.images.guards import ImageGuard, bias_warning
from unite.evaluation.images.sources import ExtractorSource
from unite.evaluation.instruments import Instruments, Rows
from unite.evaluation.pictures import png
from unite.evaluation.results import Outcome, Row
from unite.evaluation.task import Suite
from unite.metrics.fidelity import FidelityPlan
from unite.metrics.image_quality import (
    Perceptual,
    ReconstructionTotals,
    eight_bit_metrics,
    reconstruction_metrics,
    ssim_window,
)
from unite.metrics.passes import tokenize_rows
from unite.paper import model_counterpart
from unite.sampling.grid import image_grid
from unite.training.losses import SMALLEST_SIDE, require_perceptual
from unite.training.losses import Perceptual as PerceptualNetwork
from unite.weights import MissingWeightsError

SHOWN = 8
"""Number of first images in the picture, and of the worst."""


@dataclass(frozen=True, kw_only=True)
class Reconstruction(Suite):
    """The first N held-out images."""

    suite: ClassVar[str] = "reconstruction"

    data: Dataset
    seed: int = 0
    version: int = 2
    """Version of chunks' contents: those of 1 have no 8-bit sums and are not mixed with these."""
    sources: tuple[ExtractorSource, ...]
    lpips: bool = False
    """Measure LPIPS, which needs the VGG weights."""
    weights: str = field(default="", compare=False)
    """Folder or URI of pretrained weights, as RunConfig.weights."""
    why_no_lpips: str = field(default="", compare=False)

    @property
    def cost(self) -> float:
        """Passes per image: tokenizer and decoder, LPIPS on top."""
        return 4.0 if self.lpips else 2.0

    @property
    def plans(self) -> tuple[FidelityPlan, ...]:
        """Plans of counting for the extractors: both sides need moments alone."""
        return tuple(plan_of(source, self.total, moments_only=True) for source in self.sources)

    def measure(self, instruments: Instruments, chunk: Chunk) -> Arrays:
        """Reconstruct a chunk of rows; keep sums, and pictures of the first and the worst."""
        real, fake = (Counter(self.sources, self.plans, instruments) for _ in range(2))
        totals, album, guard = ReconstructionTotals(worst=SHOWN), _Album(), ImageGuard()
        perceptual = self._perceptual(instruments)
        for rows in instruments.rows(self.data, self.subject.config.domain, chunk):
            indices_B = rows.rows_B.cpu().numpy()
            recon_BCHW, recon_pixels_BCHW = self._reconstruct(instruments, rows)
            guard.add(recon_BCHW, indices_B)
            real.update(indices_B, rows.pixels_BCHW)
            fake.update(indices_B, recon_pixels_BCHW)
            values = reconstruction_metrics(recon_BCHW, rows.sample, perceptual=perceptual)
            values |= eight_bit_metrics(recon_pixels_BCHW, rows.pixels_BCHW)
            totals.update(indices_B, values)
            album.add(indices_B, rows.pixels_BCHW.cpu().numpy(), recon_pixels_BCHW.cpu().numpy())
            album.keep(_wanted(totals))
        guard.check()
        counts = {"totals": np.array(json.dumps(totals.to_dict()))}
        return counts | album.to_arrays() | real.to_arrays("real") | fake.to_arrays("fake")

    def combine(self, chunks: Sequence[Arrays]) -> Outcome:
        """Means, distances and the picture."""
        totals, album = ReconstructionTotals(worst=SHOWN), _Album()
        features = Totals.zeros(("real", "fake"), self.plans)
        for chunk in chunks:
            features.add(chunk)
            totals.add(ReconstructionTotals.from_dict(json.loads(str(chunk["totals"]))))
            album.add(chunk["rows"], chunk["inputs"], chunk["outputs"])
        features.check_complete(left_out=self.total - totals.num)
        remarks = () if self.lpips else (f"No LPIPS. {self.why_no_lpips}",)
        return Outcome(
            suite=self.suite,
            protocol=f"held-out images against D(GE(x)), {self.precision}",
            rows=(*self._distance_rows(features, totals.num), *self._mean_rows(totals)),
            remarks=(*remarks, *undecodable(self.data, self.total, totals.num)),
            files={"reconstructions.png": png(album.picture(_wanted(totals)))},
        )

    def _reconstruct(self, instruments: Instruments, rows: Rows) -> tuple[Tensor, Tensor]:
        """Float (B, C, H, W) in [0, 1], and the uint8 picture of it."""
        model = self.model(instruments)
        with torch.inference_mode(), instruments.autocast(self.precision):
            z0_BKD = tokenize_rows(model, rows.sample, rows.rows_B, seed=self.seed)
            recon_BCHW = model.decode(z0_BKD).float()
        return recon_BCHW, self.domain(instruments).render(recon_BCHW).permute(0, 3, 1, 2)

    def _perceptual(self, instruments: Instruments) -> Perceptual | None:
        if not self.lpips:
            return None
        return instruments.cached(
            "lpips",
            lambda: PerceptualNetwork(require_perceptual(self.weights)).to(instruments.device),
        )

    def _distance_rows(self, features: Totals, num: int) -> list[Row]:
        rows = []
        for number, source in enumerate(self.sources):
            real, fake = (features.statistics[side, number] for side in ("real", "fake"))
            card = self.card(
                metric_name(source.id, "rfid"),
                real.gaussian().distance(fake.gaussian()),
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
        domain = self.subject.config.domain
        window = ssim_window(domain.size, domain.size)
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
            for name, value in totals.means().items()
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

    def add(self, rows_B: np.ndarray, inputs_BCHW: np.ndarray, outputs_BCHW: np.ndarray) -> None:
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

    def picture(self, rows: Sequence[int]) -> np.ndarray:
        """Inputs above reconstructions: the first images, then the worst (H, W, C)."""
        found = [self.pairs[row] for row in rows if row in self.pairs]
        images_BCHW = np.stack([pair[0] for pair in found] + [pair[1] for pair in found])
        return image_grid(images_BCHW.transpose(0, 2, 3, 1), columns=len(found))


def _wanted(totals: ReconstructionTotals) -> list[int]:
    """Rows of the picture: the first ones, then the worst that are not among them."""
    first = list(range(SHOWN))
    return first + [row for _, row in totals.worst_cases if row >= SHOWN]
