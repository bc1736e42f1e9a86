"""Alignment of the tokenization and the generation pathway (paper Fig. 6; METHOD 5).

For every block and noise level t, on the register activations x of the tokenization pass and y of
the generation pass (`passes.py`) of the same images:
- linear CKA (Kornblith et al. 2019) from streamed float64 sums of x, y, x x', y y' and x y': it
  needs neither all activations in memory nor one worker, because partial sums add up;
- CKNNA (Huh et al. 2024) on a bounded subsample of rows, since it needs neighbours;
- cosine similarity of x and y per register, averaged over registers and images;
and, over t, the cosine similarity of the final latents z0 and z_hat(z_t).

A row of CKA and CKNNA is one register of one image (`rows="register"`, the default: the pathways
are compared token by token), or one image's mean over its registers (`rows="image"`). Padded
registers are left out. CKA is biased upwards unless there are many more rows than H.
Memory: 8 (1 + 2 T) L H^2 bytes of sums for L blocks and T levels (0.6 GB for Base at T = 5), and
4 (1 + T) L H bytes for each row of the subsample.
Shapes: B images, K registers, H width, L blocks, T levels, N rows of a batch, M rows kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from unite.lazy import torch
from unite.metrics.accumulator import Arrays
from unite.metrics.similarity import cka_from_sums, cknna
from unite.sampling.protocol import Condition, check_levels

if TYPE_CHECKING:
    from torch import Tensor

Pass: TypeAlias = "tuple[Tensor, Sequence[Tensor]]"
"""A pass of the Generative Encoder: its latents (B, K, D), and each block's registers (B, K, H)."""


@dataclass(frozen=True, kw_only=True)
class AlignmentConfig:
    """Settings of the comparison; all of them belong beside the figure."""

    levels: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    """Noise levels t of the generation pass (1 = clean data). The paper does not give its own."""
    rows: Literal["register", "image"] = "register"
    """Meaning of a row of CKA and CKNNA: one register, or one image's mean over registers."""
    condition: Condition = "label"
    """Class of the generation pass."""
    neighbors: int = 10
    """Number k of nearest neighbours in CKNNA."""
    neighbor_rows: int = 1024
    """Rows of the CKNNA subsample: those whose address hashes lowest, whatever the workers."""
    seed: int = 0
    """Address of the noise and of the subsample."""

    def __post_init__(self) -> None:
        check_levels(self.levels)
        if self.neighbors < 2 or self.neighbor_rows < self.neighbors + 2:
            raise ValueError(
                f"neighbors, neighbor_rows: {self.neighbors}, {self.neighbor_rows}; CKNNA needs "
                "k of at least 2 and at least k + 2 rows"
            )


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """The curves of Fig. 6. Arrays are (T, L), in the order of `config.levels` and the blocks."""

    config: AlignmentConfig
    num_images: int
    num_rows: int
    """Number of rows behind CKA."""
    num_neighbor_rows: int
    """Number of rows behind CKNNA."""
    cka: np.ndarray
    cknna: np.ndarray
    cosine: np.ndarray
    latent_cosine: np.ndarray
    """Cosine similarity of the final latents z0 and z_hat(z_t), (T,)."""

    @classmethod
    def of_levels(cls, parts: Sequence[Alignment]) -> Alignment:
        """Parts that measured one noise level each, of the same images, as one."""
        first = parts[0]
        levels = tuple(level for part in parts for level in part.config.levels)
        curves = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("cka", "cknna", "cosine", "latent_cosine")
        }
        return replace(first, config=replace(first.config, levels=levels), **curves)

    def summary(self) -> dict[str, float]:
        """Means over the levels: of all blocks, and of the last block."""
        curves = {"cka": self.cka, "cknna": self.cknna, "cosine": self.cosine}
        means = {f"{name}_mean": float(curve.mean()) for name, curve in curves.items()}
        lasts = {f"{name}_last_block": float(curve[:, -1].mean()) for name, curve in curves.items()}
        return {**means, **lasts, "latent_cosine_mean": float(self.latent_cosine.mean())}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; arrays as nested lists."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}
        return {**values, "config": asdict(self.config)}


class AlignmentSums:
    """Running float64 sums, and the rows kept for CKNNA."""

    def __init__(self, config: AlignmentConfig) -> None:
        self.config = config
        self._sums: dict[str, Tensor] = {}
        self._kept: dict[str, Tensor] = {}

    def update(
        self,
        rows_B: Tensor,
        tokenization: Pass,
        generation: Iterable[Pass],
        mask_BK: Tensor | None = None,
    ) -> None:
        """Count a batch in: its tokenization pass, and its generation pass at every level.

        `rows_B`: int64 row numbers in the data set. `generation` is read level by level, so that
        one level's activations are in memory at a time. `mask_BK` is True at registers that are
        no padding; None = all.
        """
        z0_BKD, x_blocks = tokenization
        real_BK = torch.ones_like(z0_BKD[..., 0], dtype=torch.bool) if mask_BK is None else mask_BK
        x_rows = [self._rows(x, real_BK) for x in x_blocks]
        self._start(len(x_rows), x_rows[0].shape[-1], z0_BKD.device)
        self._add_tokenization(x_rows, real_BK)
        keys_N = self._row_keys(rows_B, real_BK)
        old, new = self._lowest(keys_N)
        y_new = []
        for level, (z_hat_BKD, y_blocks) in enumerate(generation):
            self._sums["latent_cosine"][level] += _cosine(z0_BKD, z_hat_BKD, real_BK)
            for block, (x, y) in enumerate(zip(x_blocks, y_blocks, strict=True)):
                self._sums["cosine"][level, block] += _cosine(x, y, real_BK)
            y_rows = [self._rows(y, real_BK) for y in y_blocks]
            self._add_generation(level, x_rows, y_rows)
            y_new.append(_gather(y_rows, new))
        found = {"keys": keys_N[new], "x": _gather(x_rows, new), "y": torch.stack(y_new, dim=1)}
        self._kept = {name: torch.cat([v[old], found[name]]) for name, v in self._kept.items()}

    def merge(self, arrays: Arrays) -> None:
        """Add what `to_arrays` gave of another worker's sums."""
        if not arrays:
            return
        other = {name: torch.from_numpy(value) for name, value in arrays.items()}
        self._start(*other["x_sum"].shape, device="cpu")
        old, new = self._lowest(other["keys"])
        self._sums = {name: value + other[name] for name, value in self._sums.items()}
        self._kept = {
            name: torch.cat([value[old], other[name][new]]) for name, value in self._kept.items()
        }

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Everything but the config, as arrays; empty before the first batch."""
        return {k: v.cpu().numpy() for k, v in {**self._sums, **self._kept}.items()}

    def result(self) -> Alignment:
        """The curves. ValueError without enough rows; a warning where a curve says little."""
        if not self._sums:
            raise ValueError("alignment: no images were added; give at least one batch")
        s = self._sums
        rows, registers = float(s["rows"]), float(s["registers"])
        if rows < 2 * s["x_sum"].shape[-1]:
            warnings.warn(
                f"alignment: {rows:.0f} rows for activations of width {s['x_sum'].shape[-1]}: CKA "
                "is biased towards 1; measure more images",
                stacklevel=2,
            )
        cka = cka_from_sums(rows, s["x_sum"], s["y_sum"], s["xx"], s["yy"], s["xy"])
        curves = {"cka": cka.cpu().numpy(), "cknna": self._cknna()}
        for name, curve in curves.items():
            if np.isnan(curve).any():
                warnings.warn(
                    f"alignment: {name} is not defined where activations do not vary (nan); is the "
                    "model untrained or collapsed?",
                    stacklevel=2,
                )
        return Alignment(
            config=self.config,
            num_images=int(s["images"]),
            num_rows=int(rows),
            num_neighbor_rows=self._kept["keys"].shape[0],
            cosine=(s["cosine"] / registers).cpu().numpy(),
            latent_cosine=(s["latent_cosine"] / registers).cpu().numpy(),
            **curves,
        )

    def _start(self, num_blocks: int, width: int, device: torch.device | str) -> None:
        """Allocate zeros of the right shapes, unless sums exist already."""
        if self._sums:
            return
        levels = len(self.config.levels)
        shapes: dict[str, tuple[int, ...]] = {
            "images": (), "rows": (), "registers": (), "latent_cosine": (levels,),
            "cosine": (levels, num_blocks), "x_sum": (num_blocks, width),
            "xx": (num_blocks, width, width), "y_sum": (levels, num_blocks, width),
            "yy": (levels, num_blocks, width, width), "xy": (levels, num_blocks, width, width),
        }  # fmt: skip
        self._sums = {
            name: torch.zeros(shape, dtype=torch.float64, device=device)
            for name, shape in shapes.items()
        }
        self._kept = {
            "keys": torch.zeros(0, dtype=torch.int64, device=device),
            "x": torch.zeros(0, num_blocks, width, device=device),
            "y": torch.zeros(0, levels, num_blocks, width, device=device),
        }

    def _rows(self, activations_BKH: Tensor, real_BK: Tensor) -> Tensor:
        """Rows (N, H) of a block: registers, or means over each image's registers."""
        if self.config.rows == "register":
            return activations_BKH[real_BK]
        weights_BK1 = (real_BK / real_BK.sum(dim=1, keepdim=True)).double().unsqueeze(-1)
        return (activations_BKH * weights_BK1).sum(dim=1)

    def _row_keys(self, rows_B: Tensor, real_BK: Tensor) -> Tensor:
        """A hash of each row's address (N,): a row's chance to be kept for CKNNA."""
        from unite.flow.random import Purpose, stream_keys

        registers = real_BK.shape[1] if self.config.rows == "register" else 1
        image = rows_B.repeat_interleave(registers)
        register = torch.arange(registers, device=rows_B.device).repeat(rows_B.shape[0])
        keys = stream_keys(self.config.seed, image, register, Purpose.EVALUATION)
        return keys[real_BK.flatten()] if self.config.rows == "register" else keys

    def _lowest(self, keys_N: Tensor) -> tuple[Tensor, Tensor]:
        """Positions of the kept rows and of the new rows that have the lowest hashes."""
        num_old = self._kept["keys"].shape[0]
        order = torch.cat([self._kept["keys"], keys_N]).argsort()[: self.config.neighbor_rows]
        return order[order < num_old], order[order >= num_old] - num_old

    def _add_tokenization(self, x_rows: list[Tensor], real_BK: Tensor) -> None:
        self._sums["images"] += real_BK.shape[0]
        self._sums["registers"] += real_BK.sum()
        self._sums["rows"] += x_rows[0].shape[0]
        for block, x in enumerate(x_rows):
            x_NH = x.double()
            self._sums["x_sum"][block] += x_NH.sum(dim=0)
            self._sums["xx"][block].addmm_(x_NH.T, x_NH)

    def _add_generation(self, level: int, x_rows: list[Tensor], y_rows: list[Tensor]) -> None:
        for block, (x, y) in enumerate(zip(x_rows, y_rows, strict=True)):
            x_NH, y_NH = x.double(), y.double()
            self._sums["y_sum"][level, block] += y_NH.sum(dim=0)
            self._sums["yy"][level, block].addmm_(y_NH.T, y_NH)
            self._sums["xy"][level, block].addmm_(x_NH.T, y_NH)

    def _cknna(self) -> np.ndarray:
        order = self._kept["keys"].argsort()
        x_LMH, y_TLMH = self._kept["x"][order].movedim(0, 1), self._kept["y"][order].movedim(0, 2)
        return np.array(
            [[cknna(x, y, self.config.neighbors) for x, y in zip(x_LMH, y_LMH, strict=True)]
             for y_LMH in y_TLMH]
        )  # fmt: skip


def _cosine(a_BKH: Tensor, b_BKH: Tensor, real_BK: Tensor) -> Tensor:
    """Sum of the cosine similarities of real registers (float64)."""
    cosine_BK = torch.nn.functional.cosine_similarity(a_BKH.double(), b_BKH.double(), dim=-1)
    return cosine_BK[real_BK].sum()


def _gather(rows: list[Tensor], chosen: Tensor) -> Tensor:
    """The chosen rows of every block: float32 (M, L, H)."""
    return torch.stack([row_NH[chosen] for row_NH in rows], dim=1).float()
