"""The domain as the trainer sees it: sizes, statistics, padding, the way back to structures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unite.config.domains import CrystalsConfig, MoleculesConfig
from unite.config.schema import (
    DecoderConfig,
    EncoderConfig,
    FlowConfig,
    LossConfig,
    ModelConfig,
    SamplingConfig,
)
from unite.domains import build_domain
from unite.domains.atoms.augmentation import cartesian
from unite.flow.random import stream_keys
from unite.models import UNITE
from unite.sampling.generator import draw

ENCODER = EncoderConfig(
    depth=2, width=24, num_heads=2, rotary=False, in_context_tokens=0, in_context_start=0
)
ENCODER = replace(ENCODER, pair_bias=4.0)
DECODER = DecoderConfig(depth=2, width=24, num_heads=2, mlp_width=48, stem_width=24)
CONFIGS = [MoleculesConfig(), CrystalsConfig(), CrystalsConfig(frac_code="circle")]


def model_of(config) -> UNITE:
    torch.manual_seed(0)
    sizes = {"num_registers": config.max_atoms, "latent_dim": 4}
    model = UNITE(
        ModelConfig(**sizes, encoder=ENCODER, decoder=DECODER), build_domain(config), FlowConfig()
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def sample_of(config, sizes: list[int]):
    """A padded batch of random atoms, one sample for each size."""
    domain = build_domain(config)
    fields = domain.example_fields(len(sizes), np.random.default_rng(0))
    fields["num_atoms"] = np.array(sizes)
    for row, size in enumerate(sizes):
        for name in ("numbers", "positions", "frac"):
            if name in fields:
                fields[name][row, size:] = 0
    sample, labels = domain.to_sample({k: torch.from_numpy(v) for k, v in fields.items()})
    assert not labels.any()
    return sample


def test_circles_have_no_plain_loss():
    with pytest.raises(ValueError, match=r"domain\.frac_code = circle.*domain\.loss = adit"):
        build_domain(CrystalsConfig(frac_code="circle", loss="adit"))


@pytest.mark.parametrize("config", CONFIGS)
def test_registers_are_the_atoms(config):
    domain = build_domain(config)
    width = {"num_registers": 7, "encoder": ENCODER, "decoder": DECODER}
    with pytest.raises(ValueError, match=f"num_registers = 7.*{config.max_atoms}"):
        domain.validate(ModelConfig(**width))
    sample = sample_of(config, [3, 5])
    assert domain.register_mask(sample).sum(1).tolist() == [3, 5]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (MoleculesConfig(mean_atoms=0.0), "domain.mean_atoms = 0.0 must be above 0"),
        (MoleculesConfig(bond_tolerance=-0.1), "bond_tolerance = -0.1 must not be negative"),
        (CrystalsConfig(angles_weight=-1.0), "angles_weight = -1.0 must not be negative"),
        (CrystalsConfig(max_atoms=0), "domain.max_atoms = 0 must be at least 1"),
    ],
)
def test_numbers_that_no_loss_could_have_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        build_domain(config)


def test_elements_that_no_table_has_are_refused():
    with pytest.raises(ValueError, match="elements holds 119"):
        build_domain(MoleculesConfig(elements=(1, 119)))


@pytest.mark.parametrize("config", CONFIGS)
def test_statistics_count_sizes_and_elements(config):
    domain = build_domain(config)
    batches = [{"num_atoms": np.array([3, 3, 5]), "numbers": np.array([[1, 6, 0]], np.uint8)}]
    batches.append({"num_atoms": np.array([2]), "numbers": np.array([[8, 0, 0]], np.uint8)})
    found = domain.statistics(batches)
    assert found["sizes"].tolist()[:6] == [0, 0, 1, 2, 0, 1] and found["sizes"].sum() == 4
    assert found["elements"].nonzero().flatten().tolist() == [1, 6, 8]


def test_sizes_are_drawn_from_the_histogram_and_addressed():
    domain = build_domain(MoleculesConfig())
    counts = torch.zeros(30, dtype=torch.int64)
    counts[3], counts[17], counts[29] = 1, 2, 1
    keys = stream_keys(0, torch.arange(4000))
    mask = domain.draw_mask(keys, {"sizes": counts}, torch.zeros_like(keys))
    share = {size: (mask.sum(1) == size).double().mean().item() for size in (3, 17, 29)}
    assert set(mask.sum(1).tolist()) == {3, 17, 29}
    # Four standard errors of a share of 4,000 draws.
    for size, expected in ((3, 0.25), (17, 0.5), (29, 0.25)):
        assert abs(share[size] - expected) < 4 * (0.25 / 4000) ** 0.5
    assert torch.equal(domain.draw_mask(keys[7:9], {"sizes": counts}, torch.zeros(2)), mask[7:9])


@pytest.mark.parametrize("config", CONFIGS)
def test_trimming_cuts_atoms_and_keeps_the_rest(config):
    domain = build_domain(config)
    fields = domain.example_fields(2, np.random.default_rng(0))
    short = domain.trim(fields, 4)
    for name, values in fields.items():
        per_atom = name in ("numbers", "positions", "frac")
        assert short[name].shape == ((2, 4, *values.shape[2:]) if per_atom else values.shape)
    assert domain.sizes(fields).tolist() == [config.max_atoms] * 2


@pytest.mark.parametrize("config", CONFIGS)
def test_augmentation_is_addressed_and_moves_positions_with_the_cell(config):
    domain = build_domain(config)
    sample = sample_of(config, [3, 5, 4])
    keys = torch.tensor([4, 4, 9])
    new = domain.augment(sample, keys)
    assert torch.equal(domain.augment(sample, keys)["pos"], new["pos"])
    assert not torch.equal(new["pos"], sample["pos"])
    assert torch.equal(new["types"], sample["types"])
    if config.periodic:
        assert not torch.equal(new["frac"], sample["frac"])
        plain = cartesian(new["frac"], sample["lengths"], sample["angles"])
        lengths = plain.norm(dim=-1), new["pos"].norm(dim=-1)
        torch.testing.assert_close(*lengths, rtol=1e-5, atol=1e-5)
    still = build_domain(replace(config, rotate=False))
    moved = torch.equal(still.augment(sample, keys)["pos"], sample["pos"])
    assert moved != config.periodic


@settings(max_examples=12, deadline=None)
@given(sizes=st.lists(st.integers(1, 29), min_size=1, max_size=3), extra=st.integers(1, 6))
@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_padding_changes_nothing(config, sizes, extra):
    """Latents, denoised latents, a whole sample, reconstruction, loss and every metric."""
    model, sizes = model_of(config), [min(size, config.max_atoms) for size in sizes]
    most = max(sizes)
    whole = sample_of(config, sizes)
    longer = min(most + extra, config.max_atoms)
    noise = torch.randn(len(sizes), config.max_atoms, 4)
    t_B = torch.rand(len(sizes))
    labels, steps = torch.zeros(len(sizes)).long(), SamplingConfig(solver="euler", num_steps=2)
    found = []
    for length in (most, longer):
        per_atom = ("types", "pos", "frac", "mask")
        sample = {k: v[:, :length] if k in per_atom else v for k, v in whole.items()}
        z = model.tokenize(sample, noise[:, :length], 0.01 * t_B)
        assert not z[~sample["mask"]].any()
        denoised = model.denoise(noise[:, :length], t_B, mask_BK=sample["mask"])
        atoms = model.decode(z, sample["mask"])
        terms = model.domain.reconstruction_terms(atoms, sample, LossConfig(), None)
        metrics = model.domain.reconstruction_metrics(atoms, sample)
        mask = sample["mask"][:, :most, None]
        per_register = ("logits", "pos", "circle", "frac")
        kept = {k: v[:, :most] * mask if k in per_register else v for k, v in atoms.items()}
        kept.pop("mask")
        drawn = draw(model, labels, steps, noise_BKD=noise[:, :length], mask_BK=sample["mask"])
        latents = [z[:, :most], denoised[:, :most], drawn.z_BKD[:, :most].clone()]
        found.append([*latents, *kept.values(), *terms.values(), *metrics.values()])
    for short, padded in zip(*found, strict=True):
        torch.testing.assert_close(short, padded, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", CONFIGS)
def test_structures_give_back_the_samples(config):
    domain = build_domain(config)
    sample = sample_of(config, [3, 5])
    structures = domain.structures(domain.as_reconstruction(sample))
    assert [len(each.numbers) for each in structures] == [3, 5]
    for row, structure in enumerate(structures):
        kept = sample["mask"][row]
        assert structure.numbers.tolist() == sample["types"][row][kept].tolist()
        np.testing.assert_allclose(structure.positions, sample["pos"][row][kept], atol=1e-5)
        if config.periodic:
            np.testing.assert_allclose(structure.lengths, sample["lengths"][row])
    pictures = domain.render(domain.as_reconstruction(sample))
    assert pictures.shape == (2, 160, 160, 3) and pictures.dtype == torch.uint8


def test_structures_of_crystals_are_wrapped_into_the_cell():
    domain = build_domain(CrystalsConfig())
    atoms = domain.as_reconstruction(sample_of(CrystalsConfig(), [2]))
    atoms["frac"] = atoms["frac"] + 2.75
    frac = domain.structures(atoms)[0].frac
    assert (frac >= 0).all() and (frac < 1).all()


@pytest.mark.parametrize("config", CONFIGS)
def test_a_gradient_does_not_depend_on_how_a_batch_is_cut(config):
    model = model_of(config)
    whole, noise = sample_of(config, [2, 3, 7, 9]), torch.randn(4, config.max_atoms, 4)
    gradients = []
    for cuts in ([slice(0, 4)], [slice(0, 2), slice(2, 4)], [slice(i, i + 1) for i in range(4)]):
        model.zero_grad()
        for rows in cuts:
            length = int(whole["mask"][rows].sum(1).max())
            sample = model.domain.take(whole, rows)
            sample = {
                k: v[:, :length] if v.dim() > 1 and v.shape[1] == config.max_atoms else v
                for k, v in sample.items()
            }
            z = model.tokenize(sample, noise[rows, :length], torch.zeros(len(sample["mask"])))
            terms = model.domain.reconstruction_terms(
                model.decode(z, sample["mask"]), sample, LossConfig(), None
            )
            (model.domain.reconstruction_loss(terms, LossConfig()) / len(cuts)).backward()
        gradients.append(
            torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        )
    scale = gradients[0].abs().max()
    for other in gradients[1:]:
        assert (other - gradients[0]).abs().max() < 1e-5 * scale
