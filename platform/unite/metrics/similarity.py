"""Similarity of two representations of the same rows: linear CKA and CKNNA.

Shapes: N rows, H width. Leading dimensions of the CKA sums (blocks, levels) broadcast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unite.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

ALIKE = 1e-6
"""Distance of rows of unit length from their mean that rounding to float32 explains."""


def cka_from_sums(
    rows: float, x_H: Tensor, y_H: Tensor, xx_HH: Tensor, yy_HH: Tensor, xy_HH: Tensor
) -> Tensor:
    """Linear CKA (Kornblith et al. 2019, eq. 4) from sums over rows, centred here at the end.

    `x_H` = sum x, `xx_HH` = sum x x', `xy_HH` = sum x y' (float64, any leading dimensions). NaN
    where one side is constant over the rows: CKA is not defined there.
    """

    def centred(product_HH: Tensor, left_H: Tensor, right_H: Tensor) -> Tensor:
        return product_HH - left_H.unsqueeze(-1) * right_H.unsqueeze(-2) / rows

    def norm(product_HH: Tensor) -> Tensor:
        return torch.linalg.matrix_norm(product_HH)

    shared = norm(centred(xy_HH, x_H, y_H)) ** 2
    own = norm(centred(xx_HH, x_H, x_H)) * norm(centred(yy_HH, y_H, y_H))
    # Centring leaves a rounding error of this size where a side is constant.
    floor = 1e-12 * norm(xx_HH) * norm(yy_HH)
    return torch.where(own > floor, shared / own, torch.nan)


def cknna(x_NH: Tensor, y_NH: Tensor, neighbors: int) -> float:
    """Centred kernel nearest-neighbour alignment (Huh et al. 2024, appendix A), about 0 to 1.

    As their published numbers are made: rows scaled to unit length, linear kernels K and L, the k
    nearest neighbours of each row by inner product (itself left out), both kernels masked to the
    pairs that are neighbours on both sides, and the unbiased HSIC (Song et al. 2012, eq. 5) of the
    masked kernels, divided by the root of the same quantity of each side with itself. ValueError
    with fewer than k + 2 rows. NaN where a side's rows all point in one direction.
    """
    num_rows = x_NH.shape[0]
    if not 2 <= neighbors <= num_rows - 2:
        raise ValueError(
            f"CKNNA with k = {neighbors} neighbours needs k of at least 2 and k + 2 rows, the "
            f"registers of all samples, and there are {num_rows}: measure more samples"
        )
    units = [torch.nn.functional.normalize(each.double(), dim=-1) for each in (x_NH, y_NH)]
    if any(float((unit - unit.mean(dim=0)).norm(dim=-1).max()) <= ALIKE for unit in units):
        return float("nan")
    (x_kernel, x_near), (y_kernel, y_near) = (_neighborhood(unit, neighbors) for unit in units)
    mutual = x_near & y_near
    shared = _unbiased_hsic(x_kernel * mutual, y_kernel * mutual)
    x_own = _unbiased_hsic(x_kernel * x_near, x_kernel * x_near)
    y_own = _unbiased_hsic(y_kernel * y_near, y_kernel * y_near)
    own = x_own * y_own
    return float(shared / own.sqrt()) if x_own > 0 and y_own > 0 else float("nan")


def _neighborhood(unit_NH: Tensor, neighbors: int) -> tuple[Tensor, Tensor]:
    """Kernel (N, N) with an empty diagonal, and the mask of each row's nearest neighbours."""
    kernel_NN = unit_NH @ unit_NH.T
    nearest = kernel_NN.fill_diagonal_(-torch.inf).topk(neighbors, dim=-1).indices
    mask_NN = torch.zeros_like(kernel_NN, dtype=torch.bool).scatter_(1, nearest, True)
    return kernel_NN.fill_diagonal_(0.0), mask_NN


def _unbiased_hsic(x_NN: Tensor, y_NN: Tensor) -> Tensor:
    """Unbiased HSIC of kernels with an empty diagonal; masked kernels need not be symmetric."""
    n = x_NN.shape[0]
    trace = (x_NN * y_NN.T).sum()
    means = x_NN.sum() * y_NN.sum() / ((n - 1) * (n - 2))
    cross = 2.0 * (x_NN.sum(dim=0) @ y_NN.sum(dim=1)) / (n - 2)
    return (trace + means - cross) / (n * (n - 3))
