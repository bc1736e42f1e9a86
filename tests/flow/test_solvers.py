"""Every solver against torchdiffeq on the same problem, sample by sample."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torchdiffeq import odeint

from unite.flow.path import per_sample, velocity
from unite.flow.solvers import IntegrationError, _advance, _Travellers, fixed_evaluations, solve
from unite.flow.timesteps import time_grid

THEIRS = {"heun": "heun2", "midpoint": "midpoint", "euler": "euler"}


class Linear:
    """Each sample decays at its own rate: easy and hard ones in one batch."""

    rates_B = torch.tensor([0.1, 1.0, 5.0, 40.0])

    def __call__(self, z, t_B, rows_B):
        return -per_sample(self.rates_B[rows_B], z) * (z - per_sample(t_B, z).cos())


class VanDerPol:
    stiffness_B = torch.tensor([0.5, 2.0, 8.0, 1.0])

    def __call__(self, z, t_B, rows_B):
        x, y = z.unbind(-1)
        scale = per_sample(self.stiffness_B[rows_B], x) * 4
        return torch.stack([4 * y, scale * (1 - x * x) * y - 4 * x], dim=-1)


class Network:
    """A random predictor in the sampler's velocity, clamp and overshoot past t = 1 included."""

    def __init__(self):
        torch.manual_seed(3)
        net = nn.Sequential(nn.Linear(9, 32), nn.SiLU(), nn.Linear(32, 8), nn.LayerNorm(8))
        self.nets = {torch.float32: net, torch.float64: deepcopy(net).double()}

    @torch.no_grad()
    def __call__(self, z, t_B, rows_B):
        t = per_sample(t_B, z).expand(*z.shape[:-1], 1)
        return velocity(self.nets[z.dtype](torch.cat([z, t], dim=-1)), z, t_B, 0.05)


class Still:
    """Nothing moves: the first-step rule divides by zero speeds."""

    def __call__(self, z, t_B, rows_B):
        return torch.zeros_like(z)


def start(*shape, seed=0):
    return torch.randn(4, *shape, generator=torch.Generator().manual_seed(seed))


PROBLEMS = {
    "linear": (Linear(), start(5, 3)),
    "van der pol": (VanDerPol(), start(6, 2, seed=1)),
    "network": (Network(), start(16, 8, seed=2)),
    "still": (Still(), start(3, seed=3)),
    "vector": (Linear(), start(7, seed=4)),
}


def reference(field, z, rows, grid, **options):
    """What torchdiffeq makes of the samples `rows` as one problem, and its evaluations."""
    count = 0

    def derivative(t, state):
        nonlocal count
        count += 1
        return field(state, t.expand(len(rows)), rows)

    return odeint(derivative, z[rows], grid, **options)[-1], count


def check_dopri5(field, z0, *, tolerance):
    solution = solve(field, z0, solver="dopri5", atol=1e-6, rtol=1e-3)
    grid = time_grid(49, 0.5).float()
    for row in range(len(z0)):
        expected, count = reference(
            field, z0, torch.tensor([row]), grid, method="dopri5", atol=1e-6, rtol=1e-3
        )
        torch.testing.assert_close(solution.z[row], expected[0], rtol=tolerance, atol=tolerance)
        assert solution.nfe_B[row] == count


@pytest.mark.parametrize("problem", PROBLEMS)
def test_dopri5_equals_torchdiffeq_on_each_sample_alone(problem):
    field, z0 = PROBLEMS[problem]
    check_dopri5(field, z0.double(), tolerance=1e-11)


@pytest.mark.parametrize("problem", ["linear", "still", "vector"])
def test_dopri5_equals_torchdiffeq_in_single_precision(problem):
    # A hundred evaluations of values up to 10 round to 6e-8 each.
    check_dopri5(*PROBLEMS[problem], tolerance=1e-4)


def test_dopri5_on_a_network_in_single_precision_agrees_to_its_tolerance():
    # The first steps' error estimates are all rounding, which then decides the step sizes: each
    # of some ten steps may be off by the solver's own tolerance.
    field, z0 = PROBLEMS["network"]
    single, double = solve(field, z0), solve(field, z0.double())
    torch.testing.assert_close(single.z, double.z.float(), rtol=1e-2, atol=1e-2)


def test_dopri5_tolerances_reach_the_controller():
    field, z0 = PROBLEMS["network"]
    loose, tight = (
        solve(field, z0.double(), solver="dopri5", atol=tol, rtol=tol) for tol in (1e-3, 1e-7)
    )
    assert (tight.nfe_B > loose.nfe_B).all()
    expected, count = reference(
        field,
        z0.double(),
        torch.tensor([2]),
        time_grid(1, 0),
        method="dopri5",
        atol=1e-7,
        rtol=1e-7,
    )
    torch.testing.assert_close(tight.z[2], expected[0], rtol=1e-7, atol=1e-7)
    assert tight.nfe_B[2] == count


def test_a_step_whose_error_is_just_the_tolerance_is_taken():
    one = torch.ones(1)
    before = _Travellers(z=one, slope=one, t=0 * one, dt=0.25 * one, rows=torch.arange(1))
    after = _advance(before, 2 * one, 3 * one, ratio=one)
    assert (after.t.item(), after.z.item(), after.slope.item()) == (0.25, 2.0, 3.0)


def test_dopri5_costs_each_sample_its_own_evaluations():
    evaluated = torch.zeros(4, dtype=torch.int64)

    def field(z, t_B, rows_B):
        evaluated.index_add_(0, rows_B, torch.ones_like(rows_B))
        return Linear()(z, t_B, rows_B)

    solution = solve(field, start(5, 3), solver="dopri5")
    assert torch.equal(solution.nfe_B, evaluated)
    assert solution.nfe_B.unique().numel() > 1


@pytest.mark.parametrize(
    ("solver", "dtype", "tolerance"),
    [("dopri5", torch.float64, 1e-10)] + [(name, torch.float32, 1e-5) for name in THEIRS],
)
def test_results_do_not_depend_on_batch_mates(solver, dtype, tolerance):
    field, z0 = PROBLEMS["network"]
    z0 = z0.to(dtype)
    together = solve(field, z0, solver=solver, num_steps=10, alpha=0.5)
    for row in range(4):
        alone = solve(field, z0[row : row + 1], solver=solver, num_steps=10, alpha=0.5)
        torch.testing.assert_close(alone.z[0], together.z[row], rtol=0, atol=tolerance)
        assert alone.nfe_B[0] == together.nfe_B[row]


@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("solver", THEIRS)
@pytest.mark.parametrize("problem", ["linear", "van der pol", "network"])
def test_fixed_steps_equal_torchdiffeq(problem, solver, alpha):
    field, z0 = PROBLEMS[problem]
    z0 = z0.double()
    solution = solve(field, z0, solver=solver, num_steps=200, alpha=alpha)
    expected, count = reference(
        field, z0, torch.arange(4), time_grid(200, alpha), method=THEIRS[solver]
    )
    torch.testing.assert_close(solution.z, expected, rtol=1e-11, atol=1e-11)
    assert solution.nfe_B.tolist() == [count] * 4


def test_fifty_heun_steps_are_a_hundred_evaluations():
    assert solve(Still(), start(3), solver="heun", num_steps=50).nfe_B.tolist() == [100] * 4


@pytest.mark.parametrize("solver", ["heun", "dopri5"])
def test_double_precision_reaches_the_exact_solution(solver):
    def field(z, t_B, rows_B):
        return -2.0 * z

    z0 = start(3).double()
    z = solve(field, z0, solver=solver, num_steps=4000, atol=1e-10, rtol=1e-10).z
    torch.testing.assert_close(z, z0 * torch.exp(torch.tensor(-2.0).double()), rtol=0, atol=1e-7)


def test_padding_does_not_enter_the_error_norm():
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    z0 = start(4, 3)[:2] * mask[..., None]

    def field(z, t_B, rows_B):
        return -3.0 * z * z.abs()

    padded = solve(field, z0, solver="dopri5", mask_BK=mask)
    short = solve(field, z0[:1, :2], solver="dopri5")
    full = solve(field, z0[1:], solver="dopri5")
    assert padded.nfe_B.tolist() == [short.nfe_B.item(), full.nfe_B.item()]
    torch.testing.assert_close(padded.z[:1, :2], short.z, rtol=0, atol=1e-6)


@pytest.mark.parametrize("solver", ["dopri5", "heun"])
def test_non_finite_velocity_names_time_and_sample(solver):
    def field(z, t_B, rows_B):
        broken = (rows_B == 2) & (t_B > 0.5)
        return torch.where(per_sample(broken, z).bool(), float("nan"), -z)

    with pytest.raises(IntegrationError, match=r"t = 0\.\d+ in sample 2 of the batch \(1 of"):
        solve(field, start(5, 3), solver=solver, num_steps=10)


def test_non_finite_start_is_named():
    z0 = start(3)
    z0[1] = float("nan")
    with pytest.raises(IntegrationError, match=r"t = 0 in sample 1 .* \(1 of 4"):
        solve(Still(), z0, solver="dopri5")


def test_step_underflow_is_named():
    def field(z, t_B, rows_B):
        return z * z * 50.0

    with pytest.raises(IntegrationError, match=r"step underflow .* in sample 0"):
        solve(field, torch.ones(1, 2).double(), solver="dopri5")


def test_unknown_solver_is_refused():
    with pytest.raises(ValueError, match="solver must be one of"):
        solve(Still(), start(3), solver="rk4")  # type: ignore[arg-type]


def test_evaluations_of_fixed_steps_are_known_before():
    field = lambda z, t, rows: -z  # noqa: E731
    for solver in ("heun", "midpoint", "euler"):
        solution = solve(field, torch.ones(2, 3), solver=solver, num_steps=5)
        assert solution.nfe_B.tolist() == [fixed_evaluations(solver, 5)] * 2
    assert fixed_evaluations("dopri5", 5) is None
    with pytest.raises(ValueError, match="solver must be one of .*, not 'rk4'"):
        fixed_evaluations("rk4", 5)
