"""The path, its velocity and the flow error."""

import pytest
import torch

from unite.flow.path import flow_error, interpolate, velocity

T = torch.tensor([0.0, 0.25, 0.98, 1.0])


def latents(*shape, seed=0):
    return torch.randn(4, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(5, 3), (7,), (2, 3, 4)])
def test_interpolate_runs_from_noise_to_data(shape):
    z, eps = latents(*shape), latents(*shape, seed=1)
    z_t = interpolate(z, eps, T)
    assert torch.equal(z_t[0], eps[0]) and torch.equal(z_t[3], z[3])
    torch.testing.assert_close(z_t[1], 0.25 * z[1] + 0.75 * eps[1])


def test_velocity_is_clamped_near_the_data():
    z, z_hat = latents(5, 3), latents(5, 3, seed=1)
    expected = (z_hat - z) / torch.tensor([1.0, 0.75, 0.05, 0.05])[:, None, None]
    torch.testing.assert_close(velocity(z_hat, z, T, 0.05), expected)


def test_exact_prediction_moves_along_the_path():
    z, eps, t = latents(5, 3), latents(5, 3, seed=1), torch.full((4,), 0.3)
    z_t = interpolate(z, eps, t)
    torch.testing.assert_close(z_t + 0.7 * velocity(z, z_t, t, 0.05), z)


def test_flow_error_spaces():
    z, z_hat = latents(5, 3), latents(5, 3, seed=1)
    plain = (z - z_hat).square().mean(dim=(1, 2))
    torch.testing.assert_close(flow_error(z_hat, z, T, "data", 0.05), plain)
    weights = torch.tensor([1.0, 0.75, 0.05, 0.05]).square()
    torch.testing.assert_close(flow_error(z_hat, z, T, "velocity", 0.05), plain / weights)
    with pytest.raises(ValueError, match="flow.loss_space"):
        flow_error(z_hat, z, T, "noise", 0.05)


def test_flow_error_is_float32_for_low_precision():
    z, z_hat = latents(5, 3).bfloat16(), latents(5, 3, seed=1).bfloat16()
    assert flow_error(z_hat, z, T, "velocity", 0.05).dtype == torch.float32


def test_mask_leaves_padding_out():
    z, z_hat = latents(5, 3), latents(5, 3, seed=1)
    lengths = torch.tensor([5, 1, 3, 2])
    mask = torch.arange(5) < lengths[:, None]
    padded = torch.where(mask[..., None], z_hat, float("nan"))
    error = flow_error(padded, z, T, "data", 0.05, mask_BK=mask)
    for row, length in enumerate(lengths):
        expected = (z - z_hat)[row, :length].square().mean()
        torch.testing.assert_close(error[row], expected)
