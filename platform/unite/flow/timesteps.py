"""Times for training and sampling: the distribution of t, its shift, the time grid.

METHOD 3, step 5, and METHOD 4. t = 1 is clean data, t = 0 is pure noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unite.config.schema import FlowConfig
from unite.flow.random import normal, uniform


def shift_time(t: Tensor, alpha: float) -> Tensor:
    """t <- alpha t / (1 + (alpha - 1) t): below 1 towards noise. 0 and 1 leave t as it is."""
    if alpha in (0.0, 1.0):
        return t
    if alpha < 0.0:
        raise ValueError(f"flow.shift must be 0 (no shift) or positive, not {alpha}")
    return alpha * t / (1.0 + (alpha - 1.0) * t)


def sample_times(keys_B: Tensor, config: FlowConfig) -> Tensor:
    """Shifted training times (B,), one per key, from the configured distribution."""
    if config.timesteps == "logit_normal":
        t_B = torch.sigmoid(config.t_mean + config.t_std * normal(keys_B))
    elif config.timesteps == "uniform":
        t_B = uniform(keys_B)
    else:
        raise ValueError(
            f"flow.timesteps must be 'logit_normal' or 'uniform', not {config.timesteps!r}"
        )
    return shift_time(t_B, config.shift)


def time_grid(num_steps: int, alpha: float) -> Tensor:
    """The ends of `num_steps` intervals from 0 to 1, shifted: float64 (num_steps + 1,), CPU.

    The released sampler's 50 output times are the 49 intervals of `time_grid(49, 0.5)`.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, not {num_steps}")
    return shift_time(torch.linspace(0.0, 1.0, num_steps + 1, dtype=torch.float64), alpha)
