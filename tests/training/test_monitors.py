"""Latent monitors against closed forms; finite checks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from unite.config.finetune import AdversarialConfig
from unite.training.monitors import (
    AdversaryWatch,
    CollapseWatch,
    collapse_warning,
    effective_rank,
    latent_std,
    non_finite,
    samples_differ,
)


def test_std_is_over_the_batch_not_over_channels() -> None:
    # Constant over the batch, varied over registers and channels: collapsed.
    assert latent_std(torch.arange(12.0).view(1, 3, 4).expand(5, 3, 4)) == 0
    # Two samples at -1 and +1: unbiased standard deviation sqrt(2) everywhere.
    pair = torch.tensor([-1.0, 1.0]).view(2, 1, 1).expand(2, 3, 4)
    assert latent_std(pair).item() == pytest.approx(math.sqrt(2))


def test_std_of_normal_latents_is_near_one() -> None:
    z_BKD = torch.randn(256, 4, 8, generator=torch.Generator().manual_seed(0))
    assert latent_std(z_BKD.bfloat16()).item() == pytest.approx(1.0, abs=0.02)


def test_std_of_a_single_sample_is_unknown() -> None:
    assert math.isnan(latent_std(torch.zeros(1, 3, 4)))


def test_rank_of_isotropic_latents_is_their_width() -> None:
    z_BKD = torch.randn(512, 16, 6, generator=torch.Generator().manual_seed(0))
    assert effective_rank(z_BKD).item() == pytest.approx(6.0, abs=0.01)


def test_rank_counts_directions_in_use() -> None:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q[:3]
    z_BKD = torch.randn(512, 16, 3, generator=generator) @ basis + 5.0
    assert effective_rank(z_BKD).item() == pytest.approx(3.0, abs=0.01)


def test_rank_weighs_directions_by_their_entropy() -> None:
    # Variances 3 : 1 exactly: entropy of (3/4, 1/4).
    x = torch.tensor([[math.sqrt(3.0), 1.0], [math.sqrt(3.0), -1.0]])
    z_BKD = torch.cat([x, -x]).view(4, 1, 2)
    expected = math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert effective_rank(z_BKD).item() == pytest.approx(expected, rel=1e-6)


def test_rank_of_a_constant_latent_is_one() -> None:
    assert effective_rank(torch.ones(4, 3, 5)).item() == 1.0


def padded(latents: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents (K_b, D) of unequal K as one batch, zeros where there is none, and its mask."""
    z_BKD = torch.nn.utils.rnn.pad_sequence(latents, batch_first=True)
    counts = torch.tensor([len(latent) for latent in latents])
    return z_BKD, torch.arange(z_BKD.shape[1]) < counts[:, None]


def test_padded_registers_do_not_count() -> None:
    generator = torch.Generator().manual_seed(0)
    latents = [torch.randn(1 + index % 5, 6, generator=generator) for index in range(400)]
    z_BKD, mask_BK = padded(latents)
    assert latent_std(z_BKD, mask_BK).item() == pytest.approx(1.0, abs=0.05)
    assert latent_std(z_BKD).item() < 0.9, "with the padding it looks collapsed"
    flat = torch.cat(latents)[None]
    assert effective_rank(z_BKD, mask_BK).item() == pytest.approx(effective_rank(flat).item())


def test_a_mask_that_hides_nothing_changes_nothing() -> None:
    z_BKD = torch.randn(8, 3, 4, generator=torch.Generator().manual_seed(0))
    mask_BK = torch.ones(8, 3, dtype=torch.bool)
    torch.testing.assert_close(latent_std(z_BKD, mask_BK), latent_std(z_BKD))
    torch.testing.assert_close(effective_rank(z_BKD, mask_BK), effective_rank(z_BKD))


def test_std_without_two_samples_to_compare_is_unknown() -> None:
    z_BKD, mask_BK = padded([torch.ones(3, 2)])
    assert math.isnan(latent_std(z_BKD, mask_BK))
    # The third register is used once: only the two others are compared.
    z_BKD, mask_BK = padded([torch.ones(3, 2), -torch.ones(2, 2)])
    assert latent_std(z_BKD, mask_BK).item() == pytest.approx(math.sqrt(2))


def test_warning_names_value_threshold_and_cures() -> None:
    text = collapse_warning(0.0312, 0.1)
    for part in (
        "0.031",
        "training.collapse_std = 0.1",
        "flow.warmup_fraction",
        "flow.reduction mean",
        "loss.reconstruction_weight",
    ):
        assert part in text


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_flags_any_bad_value(bad: float) -> None:
    flag = non_finite(torch.tensor([1.0, bad, 2.0]))
    assert flag.dtype == torch.bool and flag.shape == () and bool(flag)
    assert not bool(non_finite(torch.tensor([1.0, 3e38])))


@pytest.mark.parametrize(
    ("stds", "told"),
    [
        ([0.0] * 9, 0),  # it starts there
        ([0.0, 0.5, 0.05, 0.5, 0.05], 0),  # dips
        ([0.0, 0.5, *[0.05] * 9], 1),
        # `digits-paper`, which never stays low and ends half collapsed.
        ([0.036, 0.162, 0.099, 0.177, 0.176, 0.025, 0.121, 0.081], 0),
        ([0.036, 0.162, 0.099, 0.177, 0.176, 0.025, 0.121, 0.081, 0.096, 0.136], 1),
    ],
)
def test_collapse_is_told_once_it_has_fallen_and_stays(stds, told) -> None:
    watch = CollapseWatch(0.1, total_images=10**9, batch_size=64)
    assert sum(bool(watch.look(std, 64, pressed=True)) for std in stds) == told


def test_a_latent_of_images_that_are_all_alike_is_not_blamed() -> None:
    alike = {"image": np.full((4, 2, 2, 1), 7, np.uint8), "label": np.arange(4)}
    assert not samples_differ(alike)
    alike["image"][3, 1, 1, 0] = 8
    assert samples_differ(alike)
    assert not samples_differ({"image": np.zeros((1, 2, 2, 1), np.uint8)})


def test_a_latent_is_not_blamed_before_the_flow_loss_has_weight() -> None:
    watch = CollapseWatch(0.1, total_images=64, batch_size=64)
    assert not any(watch.look(0.0, 64, pressed=False) for _ in range(9))


@pytest.mark.parametrize(
    ("steps", "spreads", "told"), [(600, 100, 0), (600, 600, 1), (100, 100, 0)]
)
def test_a_latent_may_take_its_first_steps_to_spread(steps, spreads, told) -> None:
    """As sound runs on digits do: low for up to 100 of 600 steps, with a log every 20.

    A run that ends before 200 steps has learned nothing that could have collapsed.
    """
    watch = CollapseWatch(0.1, total_images=steps * 32, batch_size=32)
    logs = range(20, steps + 1, 20)
    stds = {step: 0.06 if step <= spreads else 0.3 for step in logs}
    assert sum(bool(watch.look(stds[step], step * 32, pressed=True)) for step in logs) == told


def looked(accuracies, config=None, weight: float = 0.2) -> list[str]:
    """Warnings over a run with these accuracies at its logs, one log per image."""
    watch = AdversaryWatch(len(accuracies), config or AdversarialConfig())
    values = [{"disc/accuracy": each, "disc/weight": weight} for each in accuracies]
    return [text for n, each in enumerate(values, 1) if (text := watch.look(each, n))]


def test_a_healthy_adversary_is_not_told() -> None:
    assert looked([0.55, 0.6, 0.5, 0.96, 0.97, 0.96, 0.98, 0.6, 0.58, 0.56]) == []
    assert AdversaryWatch(2, AdversarialConfig()).look({"loss/l1": 0.1}, 1) == ""


def test_an_adversary_that_wins_is_told_once() -> None:
    (told,) = looked([0.99] * 12)
    assert "the adversary wins" in told and "discriminator.trunk_lr_scale" in told


def test_an_adversary_that_sees_no_difference_is_told_at_the_end() -> None:
    (told,) = looked([0.9] * 6 + [0.49, 0.51, 0.5, 0.5, 0.505, 0.5])
    assert "sees no difference" in told and "--adversarial.weight 0" in told
    assert looked([0.9] * 6 + [0.49, 0.51, 0.5, 0.55, 0.505, 0.5]) == []
    assert looked([0.5] * 6) == []  # three logs decide nothing


def test_a_weight_at_its_limit_is_told_but_not_a_fixed_one() -> None:
    (told,) = looked([0.55] * 4, weight=7500.0)
    assert "adversarial.max_weight" in told
    assert looked([0.55] * 4, AdversarialConfig(mode="fixed", weight=7500.0), weight=7500.0) == []
