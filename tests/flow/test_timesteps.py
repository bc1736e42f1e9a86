"""Training times, their shift, and the sampling grid."""

import pytest
import torch
from scipy import stats

from unite.config.schema import FlowConfig
from unite.flow.random import stream_keys
from unite.flow.timesteps import sample_times, shift_time, time_grid

KEYS = stream_keys(0, torch.arange(1 << 15))


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_shift_zero_and_one_do_nothing(alpha):
    t = torch.linspace(0, 1, 11)
    assert torch.equal(shift_time(t, alpha), t)


def test_shift_half_moves_towards_noise():
    t = torch.tensor([0.0, 0.25, 0.5, 1.0])
    torch.testing.assert_close(shift_time(t, 0.5), torch.tensor([0.0, 1 / 7, 1 / 3, 1.0]))
    torch.testing.assert_close(shift_time(shift_time(t, 0.5), 2.0), t)


def test_negative_shift_is_refused():
    with pytest.raises(ValueError, match="flow.shift"):
        shift_time(torch.ones(1), -0.5)


def test_logit_normal_times():
    t = sample_times(KEYS, FlowConfig(shift=0.0, t_mean=0.5, t_std=2.0)).double()
    assert 0.0 < t.min() and t.max() < 1.0
    assert stats.kstest(torch.logit(t).numpy(), "norm", args=(0.5, 2.0)).pvalue > 1e-4


def test_uniform_times():
    t = sample_times(KEYS, FlowConfig(shift=1.0, timesteps="uniform"))
    assert stats.kstest(t.double().numpy(), "uniform").pvalue > 1e-4


def test_times_are_shifted_and_addressed():
    plain, shifted = (sample_times(KEYS, FlowConfig(shift=alpha)) for alpha in (0.0, 0.5))
    torch.testing.assert_close(shifted, shift_time(plain, 0.5))
    assert torch.equal(sample_times(KEYS[7:9], FlowConfig(shift=0.5)), shifted[7:9])


def test_unknown_distribution_is_refused():
    with pytest.raises(ValueError, match="flow.timesteps"):
        sample_times(KEYS, FlowConfig(timesteps="beta"))  # type: ignore[arg-type]


def test_time_grid():
    grid = time_grid(49, 0.5)
    assert grid.shape == (50,) and grid[0] == 0.0 and grid[-1] == 1.0
    released = shift_time(torch.linspace(0, 1, 50), 0.5).double()  # in float32
    torch.testing.assert_close(grid, released, rtol=0, atol=1e-6)
    assert (grid.diff() > 0).all()
    with pytest.raises(ValueError, match="num_steps"):
        time_grid(0, 0.5)
