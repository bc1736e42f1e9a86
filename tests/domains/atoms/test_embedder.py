import pytest
import torch

from unite.config.domains import CrystalsConfig, MoleculesConfig
from unite.domains.atoms.embedder import (
    AtomEmbedder,
    AtomHead,
    from_circle,
    scaled_cell,
    to_circle,
    unscaled_cell,
)

CIRCLE = CrystalsConfig(frac_code="circle")


def test_cells_are_inverted_exactly():
    lengths, angles = 2 + 9 * torch.rand(50, 3), 50 + 80 * torch.rand(50, 3)
    sizes = torch.randint(1, 21, (50,))
    back = unscaled_cell(scaled_cell(lengths, angles, sizes), sizes)
    # A few roundings of float32, relative to a root of at most 2.7 times 4 A and to 90 degrees.
    torch.testing.assert_close(back[0], lengths, rtol=1e-6, atol=0)
    torch.testing.assert_close(back[1], angles, rtol=1e-6, atol=1e-5)


def sample_of(config):
    sample = {"types": torch.tensor([[6, 1, 0]]), "pos": torch.randn(1, 3, 3)}
    sample["mask"] = sample["types"] > 0
    if config.periodic:
        sample |= {"frac": torch.rand(1, 3, 3), "lengths": torch.full((1, 3), 4.0)}
        sample["angles"] = torch.full((1, 3), 80.0)
    return sample


@pytest.mark.parametrize("config", [MoleculesConfig(), CrystalsConfig(), CIRCLE])
def test_every_part_of_an_atom_reaches_its_token(config):
    embedder = AtomEmbedder(config, 16)
    sample = sample_of(config)
    tokens = embedder(sample)
    assert tokens.shape == (1, 3, 16)
    changes = {"types": sample["types"].roll(1, 1), "pos": sample["pos"] + 1}
    if config.periodic:
        changes |= {"frac": sample["frac"] * 0.5, "lengths": sample["lengths"] + 1}
        changes["angles"] = sample["angles"] + 10
    for name, value in changes.items():
        assert not torch.allclose(embedder({**sample, name: value})[:, 0], tokens[:, 0]), name


@pytest.mark.parametrize("config", [MoleculesConfig(), CrystalsConfig(), CIRCLE])
def test_coordinates_lose_no_digits_below_autocast(config):
    """5.000 and 5.008 A are one number in bfloat16."""
    embedder, sample = AtomEmbedder(config, 16), sample_of(config)
    sample["pos"] = torch.full((1, 3, 3), 5.0)
    moved = {**sample, "pos": sample["pos"] + 0.008}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tokens, others = embedder(sample), embedder(moved)
    torch.testing.assert_close(tokens, embedder(sample), rtol=0, atol=0)
    assert tokens.dtype == torch.float32 and not torch.equal(tokens, others)


def test_the_index_tells_equal_atoms_apart():
    embedder = AtomEmbedder(MoleculesConfig(), 16)
    sample = {"types": torch.ones(1, 2, dtype=torch.long), "pos": torch.zeros(1, 2, 3)}
    tokens = embedder(sample)
    assert not torch.allclose(tokens[0, 0], tokens[0, 1])


def test_elements_that_the_model_does_not_know_are_never_drawn():
    head = AtomHead(MoleculesConfig(), 16)
    atoms = head(10 * torch.randn(4, 29, 16))
    assert set(atoms["logits"].argmax(-1).unique().tolist()) <= {1, 6, 7, 8, 9}
    whole = AtomHead(CrystalsConfig(), 16)(10 * torch.randn(400, 20, 16))
    assert 0 not in whole["logits"].argmax(-1)


def test_positions_come_centred_over_the_atoms_alone():
    head = AtomHead(MoleculesConfig(), 16)
    mask = torch.tensor([[True, True, False]])
    atoms = head(torch.randn(1, 3, 16), mask)
    assert atoms["pos"][0, :2].mean(0).abs().max() < 1e-6
    assert not atoms["pos"][0, 2].any()


def test_the_cell_is_pooled_over_the_atoms_alone():
    head = AtomHead(CrystalsConfig(), 16)
    x, mask = torch.randn(1, 3, 16), torch.tensor([[True, True, False]])
    padded, alone = head(x, mask), head(x[:, :2])
    for name in ("lengths", "angles"):
        torch.testing.assert_close(padded[name], alone[name])


def test_coordinates_on_circles_have_no_border_and_come_back():
    frac = torch.tensor([[0.0, 0.999, 0.25], [0.5, 0.001, 0.75]])
    back = from_circle(3.0 * to_circle(frac))
    apart = back - frac
    assert (apart - apart.round()).abs().max() < 1e-6
    assert (back.abs() <= 0.5).all()
    embedder = AtomEmbedder(CIRCLE, 16)
    sample = sample_of(CIRCLE)
    sample["frac"] = torch.full((1, 3, 3), 1e-4)
    tokens = embedder(sample)
    other = embedder({**sample, "frac": sample["frac"] - 2e-4 + 1.0})
    assert (tokens - other).abs().max() < 1e-2
    atoms = AtomHead(CIRCLE, 16)(torch.randn(2, 20, 16))
    torch.testing.assert_close(atoms["frac"], from_circle(atoms["circle"]))
