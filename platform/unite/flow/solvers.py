"""Solvers of dz/dt = velocity(z, t) from noise (t = 0) to data (t = 1), each sample for itself.

The fixed-step rules and dopri5 follow torchdiffeq's conventions, so results agree with it; the
difference is that dopri5 here controls the step of every sample separately. A sample's result then
depends neither on its batch mates nor on their number, and samples that have arrived cost nothing.
Times and step sizes live on the CPU in float64: the device is asked once per dopri5 step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from unite.config.schema import Solver
from unite.flow.path import per_sample, per_sample_mean
from unite.flow.timesteps import time_grid

Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(z, t_B, rows_B) -> dz/dt of the samples rows_B; t_B and rows_B are CPU tensors."""


class IntegrationError(RuntimeError):
    """The state became non-finite, or dopri5's step too small; names the time and the sample."""


@dataclass(frozen=True, kw_only=True)
class Solution:
    """End states of an integration, and the number of evaluations that they took."""

    z: Tensor
    """The state at t = 1, (B, ...)."""
    nfe_B: Tensor
    """Velocity evaluations of each sample (int64, CPU); guidance may double a network's rows."""


def solve(
    velocity: Velocity,
    z0: Tensor,
    *,
    solver: Solver = "dopri5",
    num_steps: int = 50,
    alpha: float = 0.0,
    atol: float = 1e-6,
    rtol: float = 1e-3,
    mask_BK: Tensor | None = None,
) -> Solution:
    """Integrate z0 (B, ...) from t = 0 to 1.

    heun, midpoint (two evaluations per step) and euler (one) take the `num_steps` intervals of
    `time_grid(num_steps, alpha)`. dopri5 uses the tolerances instead; a mask keeps the padding of
    samples with fewer registers out of its error norm. Raises IntegrationError.
    """
    if solver == "dopri5":
        return _solve_dopri5(velocity, z0, _ErrorNorm(atol, rtol, mask_BK))
    fixed_evaluations(solver, num_steps)  # refuses an unknown one
    return _solve_fixed(velocity, z0, solver, time_grid(num_steps, alpha).tolist())


# Fixed steps: the increment of z over [t0, t1], given f(z, t).

Field = Callable[[Tensor, float], Tensor]


def _euler(f: Field, z: Tensor, t0: float, t1: float) -> Tensor:
    return (t1 - t0) * f(z, t0)


def _midpoint(f: Field, z: Tensor, t0: float, t1: float) -> Tensor:
    half = 0.5 * (t1 - t0)
    return (t1 - t0) * f(z + half * f(z, t0), t0 + half)


def _heun(f: Field, z: Tensor, t0: float, t1: float) -> Tensor:
    slope = f(z, t0)
    return 0.5 * (t1 - t0) * (slope + f(z + (t1 - t0) * slope, t1))


FIXED_STEPS = {"heun": (_heun, 2), "midpoint": (_midpoint, 2), "euler": (_euler, 1)}
"""Name -> (increment, evaluations per step)."""


def fixed_evaluations(solver: Solver, num_steps: int) -> int | None:
    """Velocity evaluations of a sample; None for dopri5, whose number follows from the model.

    ValueError for an unknown solver.
    """
    if solver == "dopri5":
        return None
    if solver not in FIXED_STEPS:
        raise ValueError(f"solver must be one of {['dopri5', *FIXED_STEPS]}, not {solver!r}")
    return FIXED_STEPS[solver][1] * num_steps


def _solve_fixed(velocity: Velocity, z: Tensor, solver: str, grid: Sequence[float]) -> Solution:
    increment, evaluations = FIXED_STEPS[solver]
    num_samples, num_steps = len(z), len(grid) - 1
    rows_B = torch.arange(num_samples)

    def f(z: Tensor, t: float) -> Tensor:
        return velocity(z, torch.full((num_samples,), t, dtype=z.dtype), rows_B)

    finite_steps_B = torch.zeros(num_samples, dtype=torch.int64, device=z.device)
    for t0, t1 in pairwise(grid):
        z = z + increment(f, z, t0, t1)
        # Non-finite values stay so: the sum is the index of the first bad step. No host sync.
        finite_steps_B += z.flatten(1).isfinite().all(dim=1)
    finite_steps_B = finite_steps_B.cpu()
    reached_B = torch.tensor(grid)[finite_steps_B]
    _require(finite_steps_B == num_steps, reached_B, rows_B, f"{solver}: non-finite values")
    return Solution(z=z, nfe_B=torch.full((num_samples,), num_steps * evaluations))


# dopri5: Dormand and Prince 1980, with the dense output of Shampine 1986.

NODES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
FOURTH_ORDER = (1951 / 21600, 0.0, 22642 / 50085, 451 / 720, -12231 / 42400, 649 / 6300, 1 / 60)
ERROR = tuple(
    fifth - fourth for fifth, fourth in zip((*STAGES[-1], 0.0), FOURTH_ORDER, strict=True)
)
MIDPOINT = (
    6025192743 / 30085553152 / 2,
    0.0,
    51252292925 / 65400821598 / 2,
    -2691868925 / 45128329728 / 2,
    187940372067 / 1594534317056 / 2,
    -1776094331 / 19743644256 / 2,
    11237099 / 235043384 / 2,
)
ORDER = 5
SAFETY = 0.9
LARGEST_FACTOR = 10.0
SMALLEST_FACTOR = 0.2


@dataclass(frozen=True)
class _ErrorNorm:
    """Root mean square, per sample, of a change against the tolerated one."""

    atol: float
    rtol: float
    mask_BK: Tensor | None

    def __call__(self, change: Tensor, size: Tensor, rows_B: Tensor) -> Tensor:
        mask_BK = None if self.mask_BK is None else self.mask_BK[rows_B.to(self.mask_BK.device)]
        scaled = change / (self.atol + self.rtol * size.abs())
        return per_sample_mean(scaled.square(), mask_BK).sqrt()


@dataclass(frozen=True, kw_only=True)
class _Travellers:
    """The samples on their way: state, slope there, time, proposed step, place in the batch."""

    z: Tensor
    slope: Tensor
    t: Tensor
    dt: Tensor
    rows: Tensor

    def select(self, where: Tensor) -> _Travellers:
        """The samples at the given positions."""
        near, far = where, where.to(self.z.device)
        z, slope = self.z[far], self.slope[far]
        return _Travellers(z=z, slope=slope, t=self.t[near], dt=self.dt[near], rows=self.rows[near])


def _solve_dopri5(velocity: Velocity, z0: Tensor, norm: _ErrorNorm) -> Solution:
    """Step everyone who is on the way, each by their own step, until all are past t = 1."""
    arrived = torch.empty_like(z0)
    going = _depart(velocity, z0, norm)
    nfe_B = torch.full((len(z0),), 2)
    while len(going.rows):
        fine = (going.t + going.dt > going.t) & going.dt.isfinite()
        _require(fine, going.t, going.rows, "dopri5: step underflow or non-finite values")
        slopes = _slopes(velocity, going)
        nfe_B[going.rows] += len(STAGES)
        z_next = going.z + _combine(STAGES[-1], slopes, going.dt)
        error = _combine(ERROR, slopes, going.dt)
        largest = torch.maximum(going.z.abs(), z_next.abs())
        ratio = norm(error, largest, going.rows).cpu().double()
        arrives = (ratio <= 1.0) & (going.t + going.dt >= 1.0)
        if arrives.any():
            here = arrives.nonzero().flatten()
            arrived[going.rows[here].to(z0.device)] = _dense_output(going, slopes, z_next, here)
        going = _advance(going, z_next, slopes[-1], ratio).select((~arrives).nonzero().flatten())
    return Solution(z=arrived, nfe_B=nfe_B)


def _depart(velocity: Velocity, z: Tensor, norm: _ErrorNorm) -> _Travellers:
    """The first step of Hairer, Norsett and Wanner (Solving ODEs I, II.4), per sample."""
    rows = torch.arange(len(z))
    t = torch.zeros(len(z), dtype=torch.float64)
    slope = velocity(z, t.to(z.dtype), rows)
    size, speed = norm(z, z, rows), norm(slope, z, rows)
    trial = torch.where((size < 1e-5) | (speed < 1e-5), 1e-6, 0.01 * size / speed)
    slope_ahead = velocity(z + per_sample(trial, z) * slope, trial.cpu(), rows)
    bend = norm(slope_ahead - slope, z, rows) / trial
    largest = torch.maximum(speed, bend)
    by_bend = torch.where(
        largest <= 1e-15, (trial * 1e-3).clamp_min(1e-6), (0.01 / largest) ** (1 / ORDER)
    )
    dt = torch.minimum(100 * trial, by_bend).cpu().double()
    return _Travellers(z=z, slope=slope, t=t, dt=dt, rows=rows)


def _slopes(velocity: Velocity, going: _Travellers) -> list[Tensor]:
    """The seven slopes of a step; the first is known, the last is that of the step's end."""
    dtype = going.z.dtype
    t, dt, end = (x.to(dtype) for x in (going.t, going.dt, going.t + going.dt))
    slopes = [going.slope]
    for node, weights in zip(NODES, STAGES, strict=True):
        # As torchdiffeq: stages at the step's end are evaluated one unit in the last place before.
        at = torch.nextafter(end, end - 1.0) if node == 1.0 else t + node * dt
        slopes.append(velocity(going.z + _combine(weights, slopes, going.dt), at, going.rows))
    return slopes


def _advance(going: _Travellers, z_next: Tensor, slope_next: Tensor, ratio: Tensor) -> _Travellers:
    """Accept the steps whose error ratio is at most 1, and adapt every step size."""
    accepted = ratio <= 1.0
    lowest = torch.where(ratio < 1.0, 1.0, SMALLEST_FACTOR)
    factor = torch.maximum(SAFETY / ratio ** (1 / ORDER), lowest).clamp_max(LARGEST_FACTOR)
    moved = per_sample(accepted, going.z).bool()
    return replace(
        going,
        z=torch.where(moved, z_next, going.z),
        slope=torch.where(moved, slope_next, going.slope),
        t=torch.where(accepted, going.t + going.dt, going.t),
        dt=going.dt * factor,
    )


def _dense_output(
    going: _Travellers, slopes: Sequence[Tensor], z_next: Tensor, here: Tensor
) -> Tensor:
    """The state at t = 1 of the samples at `here`, whose step has reached or overshot it.

    The quartic through both ends of the step and its middle, with the slopes of the ends.
    """
    start = going.select(here)
    there = here.to(z_next.device)
    z1, slopes = z_next[there], [slope[there] for slope in slopes]
    z0, middle = start.z, start.z + _combine(MIDPOINT, slopes, start.dt)
    dt = per_sample(start.dt, z0)
    rise0, rise1 = dt * slopes[0], dt * slopes[-1]
    cubic = 5 * rise0 - 3 * rise1 + 18 * z0 + 14 * z1 - 32 * middle
    square = rise1 - 4 * rise0 - 11 * z0 - 5 * z1 + 16 * middle
    quartic = 2 * (rise1 - rise0) - 8 * (z1 + z0) + 16 * middle
    x = per_sample((1.0 - start.t) / start.dt, z0)
    return z0 + x * (rise0 + x * (square + x * (cubic + x * quartic)))


def _combine(weights: Sequence[float], slopes: Sequence[Tensor], dt_B: Tensor) -> Tensor:
    """dt times the weighted sum of slopes; elementwise, so independent of the batch."""
    total = torch.zeros_like(slopes[0])
    for weight, slope in zip(weights, slopes, strict=False):
        if weight:
            total.add_(slope, alpha=weight)
    return total * per_sample(dt_B, total)


def _require(fine_B: Tensor, t_B: Tensor, rows_B: Tensor, what: str) -> None:
    if fine_B.all():
        return
    first = int((~fine_B).nonzero()[0])
    raise IntegrationError(
        f"{what} at t = {t_B[first].item():.6g} in sample {rows_B[first].item()} of the batch "
        f"({int((~fine_B).sum())} of {len(fine_B)} samples). Look for NaN in the checkpoint's "
        "weights, or try a lower guidance scale or another solver."
    )
