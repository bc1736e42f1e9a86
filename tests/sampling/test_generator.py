"""The sampler on a small random model: exactness, guidance, cost, bad input."""

from copy import deepcopy

import pytest
import torch

from unite.config.schema import (
    DecoderConfig,
    EncoderConfig,
    FlowConfig,
    ImagesConfig,
    ModelConfig,
    SamplingConfig,
)
from unite.domains import build_domain
from unite.flow.path import velocity
from unite.flow.solvers import solve
from unite.models.unite import UNITE
from unite.sampling.generator import draw, generate_batches, sample
from unite.sampling.seeds import sample_noise

NUM_CLASSES = 5
LABELS = torch.tensor([0, 4, 2, 1, 3, 3, NUM_CLASSES])
SEEDS = torch.tensor([11, 12, 13, 1 << 50, 15, 16, 17])


@pytest.fixture(scope="module")
def model():
    """Every parameter random: a fresh model's zero-initialised output would predict nothing."""
    generator = torch.Generator().manual_seed(0)
    encoder = EncoderConfig(depth=3, width=32, num_heads=2, in_context_tokens=2, in_context_start=1)
    decoder = DecoderConfig(depth=1, width=16, num_heads=2, mlp_width=32, stem_width=16)
    model = UNITE(
        ModelConfig(num_registers=16, latent_dim=4, encoder=encoder, decoder=decoder),
        build_domain(ImagesConfig(size=8, patch=2, channels=1, num_classes=NUM_CLASSES)),
        FlowConfig(),
    )
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = parameter.data + 0.1 * noise
    return model


def settings(**changes):
    return SamplingConfig(**({"solver": "heun", "num_steps": 8, "cfg_scale": 2.0} | changes))


def test_shapes_and_device(model):
    z, images = sample(model, [1, 2, 3], seeds_B=[5, 6, 7], solver="euler", num_steps=3)
    assert z.shape == (3, 16, 4) and images.shape == (3, 1, 8, 8)
    assert torch.isfinite(images).all()
    # Predictions are after the final LayerNorm, so samples have its size: nothing exploded.
    assert z.square().mean() < 10


@pytest.mark.parametrize("solver", ["heun", "midpoint", "euler"])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 7])
def test_fixed_step_images_do_not_depend_on_the_batch(model, solver, batch_size):
    config = settings(solver=solver)
    whole = draw(model, LABELS, config, seeds_B=SEEDS)
    parts = list(generate_batches(model, LABELS, SEEDS, batch_size, config))
    images = torch.cat([part.reconstruction for part in parts])
    torch.testing.assert_close(images, whole.reconstruction, rtol=0, atol=1e-4)
    assert torch.equal(torch.cat([part.labels_B for part in parts]), LABELS)
    assert torch.equal(torch.cat([part.nfe_B for part in parts]), whole.nfe_B)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 2e-2)])
def test_dopri5_images_do_not_depend_on_the_batch(model, dtype, tolerance):
    # In single precision the network's rounding, which depends on the batch, moves the adaptive
    # steps, so samples agree to the solver's tolerance; double precision shows the exact claim.
    model = deepcopy(model).to(dtype)
    config = settings(solver="dopri5")
    whole = draw(model, LABELS, config, seeds_B=SEEDS)
    for row in range(len(LABELS)):
        here = slice(row, row + 1)
        alone = draw(model, LABELS[here], config, seeds_B=SEEDS[here])
        torch.testing.assert_close(
            alone.reconstruction[0], whole.reconstruction[row], rtol=0, atol=tolerance
        )
        if dtype == torch.float64:
            assert alone.nfe_B[0] == whole.nfe_B[row]
            assert alone.network_rows_B[0] == whole.network_rows_B[row]


def test_seed_noise_and_order_name_the_same_sample(model):
    config = settings()
    by_seed = draw(model, LABELS, config, seeds_B=SEEDS)
    by_noise = draw(model, LABELS, config, noise_BKD=sample_noise(SEEDS, model.noise_shape))
    assert torch.equal(by_seed.z_BKD, by_noise.z_BKD)
    turned = draw(model, LABELS.flip(0), config, seeds_B=SEEDS.flip(0))
    torch.testing.assert_close(turned.z_BKD.flip(0), by_seed.z_BKD, rtol=0, atol=1e-4)


def test_fresh_noise_differs(model):
    first, second = (sample(model, [1], solver="euler", num_steps=2)[0] for _ in range(2))
    assert not torch.allclose(first, second)


def test_follows_the_method_by_hand(model):
    """Euler with guidance written out as in METHOD 4."""
    noise, labels = sample_noise(SEEDS, model.noise_shape), LABELS
    z, flow = noise, model.flow
    grid = torch.linspace(0, 1, 7)
    grid = flow.shift * grid / (1 + (flow.shift - 1) * grid)
    with torch.inference_mode():
        for t, t_next in zip(grid[:-1], grid[1:], strict=True):
            t_B = t.expand(len(z))
            conditional, unconditional = model.denoise(z, t_B, labels), model.denoise(z, t_B)
            scale = 2.0 if 0.1 < t < 1.0 else 1.0
            z_hat = unconditional + scale * (conditional - unconditional)
            z = z + (t_next - t) * (z_hat - z) / max(1 - t.item(), flow.t_clamp)
        images = model.decode(z)
    config = settings(solver="euler", num_steps=6)
    samples = draw(model, labels, config, noise_BKD=noise)
    torch.testing.assert_close(samples.z_BKD, z, rtol=0, atol=1e-4)
    torch.testing.assert_close(samples.reconstruction, images, rtol=0, atol=1e-4)


def test_scale_one_is_conditional_sampling(model):
    noise = sample_noise(SEEDS, model.noise_shape)

    def conditional(z, t_B, rows_B):
        return velocity(model.denoise(z, t_B, LABELS[rows_B]), z, t_B, model.flow.t_clamp)

    with torch.inference_mode():
        expected = solve(conditional, noise, solver="heun", num_steps=8, alpha=model.flow.shift)
    samples = draw(model, LABELS, settings(cfg_scale=1.0), noise_BKD=noise)
    torch.testing.assert_close(samples.z_BKD, expected.z, rtol=0, atol=1e-4)
    assert torch.equal(samples.network_rows_B, samples.nfe_B)


def test_unconditional_rows_are_evaluated_inside_the_interval_only(model, monkeypatch):
    batches = []
    denoise = model.denoise

    def recorded(z_BKD, *arguments, **options):
        batches.append(len(z_BKD))
        return denoise(z_BKD, *arguments, **options)

    monkeypatch.setattr(model, "denoise", recorded)
    config = settings(solver="euler", cfg_interval=(0.3, 0.6))
    samples = draw(model, LABELS, config, seeds_B=SEEDS)
    grid = torch.linspace(0, 1, 9)[:-1]
    grid = 0.5 * grid / (1 - 0.5 * grid)
    inside = ((grid > 0.3) & (grid < 0.6)).tolist()
    assert 0 < sum(inside) < 8
    # The last label is the null class, whose guidance would change nothing.
    assert batches == [13 if guided else 7 for guided in inside]
    assert samples.nfe_B.tolist() == [8] * 7
    assert samples.network_rows_B.tolist() == [8 + sum(inside)] * 6 + [8]


def test_the_models_mode_is_kept(model):
    model.train()
    sample(model, [0], seeds_B=[0], solver="euler", num_steps=1)
    assert model.training
    model.eval()
    sample(model, [0], seeds_B=[0], solver="euler", num_steps=1)
    assert not model.training


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels_B": [0, 6]}, r"labels_B holds 6, but the model has 5 classes: labels are 0\.\.4"),
        ({"labels_B": [-1]}, "labels_B holds -1"),
        ({"labels_B": []}, "labels_B must hold one integer per sample"),
        ({"labels_B": [0.5]}, "labels_B must hold one integer per sample"),
        ({"labels_B": [0], "seeds_B": [1, 2]}, r"seeds_B has shape \(2,\), but there are 1 labels"),
        (
            {"labels_B": [0], "noise_BKD": torch.zeros(1, 16, 3)},
            r"noise_BKD has shape \(1, 16, 3\)",
        ),
        ({"labels_B": [0], "noise_BKD": torch.zeros(1, 16, 4), "seeds_B": [1]}, "not both"),
        ({"labels_B": [0], "solver": "rk4"}, "solver = rk4 is unknown: use one of"),
        ({"labels_B": [0], "solver": "heun", "num_steps": 0}, "num_steps = 0 must be above 0"),
        ({"labels_B": [0], "cfg_scale": -2.0}, r"cfg_scale = -2\.0 must be at least 1"),
        ({"labels_B": [0], "rtol": float("nan")}, "rtol = nan must be above 0"),
        ({"labels_B": [0], "cfg_interval": (0.5, 0.2)}, "cfg_interval"),
    ],
)
def test_bad_input_is_named(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        sample(model, **arguments)


class Padded:
    """A predictor with masked registers, standing for a domain of varying sizes."""

    null_label, noise_shape, flow, training = 1, (6, 2), FlowConfig(), False
    domain = type("Domain", (), {"num_classes": 1})

    def __init__(self):
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def parameters(self):
        return iter([self.weight])

    def eval(self):
        return self

    def train(self, mode):
        return self

    def denoise(self, z_BKD, t_B, labels_B=None, *, mask_BK=None):
        size = mask_BK.sum(1)[:, None, None]
        return torch.sin(z_BKD * size + labels_B[:, None, None]) * mask_BK[..., None]

    def decode(self, z_BKD, mask_BK=None):
        return z_BKD.sum((1, 2))


@pytest.mark.parametrize("solver", ["heun", "dopri5"])
def test_samples_with_fewer_registers(solver):
    sizes = torch.tensor([1, 4, 3])
    mask = torch.arange(4) < sizes[:, None]
    config = settings(solver=solver)
    whole = draw(Padded(), [0, 0, 1], config, seeds_B=[1, 2, 3], mask_BK=mask)
    assert (whole.z_BKD[~mask] == 0).all() and (whole.z_BKD[mask] != 0).all()
    for row, size in enumerate(sizes):
        alone = draw(
            Padded(),
            [int(row == 2)],
            config,
            seeds_B=[row + 1],
            mask_BK=mask[row : row + 1, :size],
        )
        torch.testing.assert_close(alone.z_BKD[0], whole.z_BKD[row, :size], rtol=0, atol=1e-4)
        assert alone.nfe_B[0] == whole.nfe_B[row]


def test_each_batch_has_its_part_of_the_mask(model, monkeypatch):
    mask, seen = torch.rand(len(LABELS), 16, generator=torch.Generator().manual_seed(0)) > 0.5, []
    noted = lambda *_, mask_BK, **__: seen.append(mask_BK)  # noqa: E731
    monkeypatch.setattr("unite.sampling.generator.draw", noted)
    list(generate_batches(model, LABELS, SEEDS, 3, settings(), mask=mask))
    assert [len(each) for each in seen] == [3, 3, 1] and torch.equal(torch.cat(seen), mask)
    seen.clear()
    list(generate_batches(model, LABELS, SEEDS, 4, settings()))
    assert seen == [None, None]
