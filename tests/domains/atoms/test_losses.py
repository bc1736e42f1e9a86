from dataclasses import replace

import pytest
import torch

from unite.config.domains import CrystalsConfig, MoleculesConfig
from unite.domains.atoms.embedder import to_circle
from unite.domains.atoms.geometry import rotations
from unite.domains.atoms.losses import (
    crystal_metrics,
    crystal_terms,
    molecule_metrics,
    molecule_terms,
    per_sample,
    wrapped,
)
from unite.domains.registry import build_domain

MOLECULES, CRYSTALS = MoleculesConfig(), CrystalsConfig()


def molecule(textbook_molecules, names, most=8):
    types, pos = torch.zeros(len(names), most, dtype=torch.long), torch.zeros(len(names), most, 3)
    for row, name in enumerate(names):
        numbers, positions = textbook_molecules[name]
        types[row, : len(numbers)] = torch.tensor(numbers)
        pos[row, : len(numbers)] = torch.tensor(positions)
    return {"types": types, "pos": pos, "mask": types > 0}


def crystal(textbook_crystals, name):
    cell = {k: torch.tensor([v]) for k, v in textbook_crystals[name].items()}
    types = cell.pop("numbers")
    return {"types": types, "mask": types > 0, "pos": torch.zeros(1, types.shape[1], 3), **cell}


def as_atoms(sample, config):
    return build_domain(config).as_reconstruction(sample)


def test_terms_of_molecules_by_hand(textbook_molecules):
    sample = molecule(textbook_molecules, ["hydrogen fluoride", "water"])
    atoms = as_atoms(sample, MOLECULES)
    atoms["logits"] = torch.zeros_like(atoms["logits"])
    atoms["pos"] = (
        sample["pos"] - sample["pos"].sum(1, keepdim=True) / sample["mask"].sum(1)[:, None, None]
    )
    atoms["pos"][1, 0, 0] += 0.05  # below the bend: 0.05^2 / (2 * 0.1), a third of it on each axis
    atoms["pos"][0, 1, 2] += 1.1  # above it: 1.1 - 0.05
    terms = molecule_terms(atoms, sample, replace(MOLECULES, mean_atoms=2.0))
    assert terms["types"].item() == pytest.approx(5 * torch.log(torch.tensor(100.0)).item() / 4)
    assert terms["positions"].item() == pytest.approx((0.0125 + 1.05) / 3 / 4, rel=1e-4)
    adit = molecule_terms(atoms, sample, replace(MOLECULES, mean_atoms=2.0, loss="adit"))
    assert adit["positions"].item() == pytest.approx(0.1 * (0.05**2 + 1.1**2) / 3 / 4, rel=1e-4)


def test_terms_of_crystals_by_hand(textbook_crystals):
    sample = crystal(textbook_crystals, "CsCl")
    atoms = as_atoms(sample, CRYSTALS)
    atoms["frac"] = sample["frac"] + torch.tensor([0.1, 0.0, 0.0])
    atoms["lengths"] = sample["lengths"] + torch.tensor([0.3, 0.0, 0.0])
    atoms["angles"] = sample["angles"] + torch.tensor([0.0, 9.0, 0.0])
    terms = crystal_terms(atoms, sample, replace(CRYSTALS, mean_atoms=2.0))
    assert terms["positions"].item() == pytest.approx(0.01 / 3, rel=1e-4)
    lengths = (0.3 / 2 ** (1 / 3)) ** 2 / 3
    angles = torch.deg2rad(torch.tensor(9.0)).item() ** 2 / 3
    assert terms["lattice"].item() == pytest.approx(lengths + 10 * angles, rel=1e-4)


def test_fractional_errors_are_wrapped_but_for_adit(textbook_crystals):
    sample = crystal(textbook_crystals, "CsCl")
    atoms = as_atoms(sample, CRYSTALS)
    sample["frac"] = sample["frac"] + torch.tensor([0.99, 0.0, 0.0])
    atoms["frac"] = torch.tensor([[[0.01, 0.0, 0.0], [0.51, 0.5, 0.5]]])
    assert crystal_terms(atoms, sample, CRYSTALS)["positions"].item() < 1e-3
    adit = crystal_terms(atoms, sample, replace(CRYSTALS, loss="adit"))
    assert adit["positions"].item() > 0.05
    assert wrapped(torch.tensor([0.98, -0.98, 0.3])).tolist() == pytest.approx([-0.02, 0.02, 0.3])


def test_on_circles_small_errors_are_those_of_plain_coordinates(textbook_crystals):
    sample = crystal(textbook_crystals, "CsCl")
    atoms = as_atoms(sample, CRYSTALS)
    sample["frac"] = sample["frac"] + torch.tensor([0.99, 0.0, 0.0])
    near = sample["frac"] + torch.tensor([0.01, 0.0, 0.0])
    atoms["frac"] = near
    plain = crystal_terms(atoms, sample, CRYSTALS)["positions"].item()
    found = crystal_terms({**atoms, "circle": to_circle(near)}, sample, CRYSTALS)
    assert found["positions"].item() == pytest.approx(plain, rel=1e-3)  # sin x = x - x^3 / 6
    none = {**atoms, "circle": torch.zeros(1, 2, 6)}
    config = replace(CRYSTALS, mean_atoms=2.0)
    chance = crystal_terms(none, sample, config)["positions"].item()
    assert chance == pytest.approx(1 / (4 * torch.pi**2))


def test_a_term_does_not_depend_on_how_a_batch_is_cut(textbook_molecules):
    sample = molecule(textbook_molecules, list(textbook_molecules))
    logits = torch.randn(len(textbook_molecules), 8, 100, dtype=torch.float64)
    pos = torch.randn(len(textbook_molecules), 8, 3, dtype=torch.float64)
    atoms = {"logits": logits, "pos": pos, "mask": sample["mask"]}
    whole = molecule_terms(atoms, sample, MOLECULES)
    cuts = []
    for rows, length in ((slice(0, 4), 5), (slice(4, 8), 8)):
        part = [{k: v[rows, :length] for k, v in each.items()} for each in (atoms, sample)]
        cuts.append(molecule_terms(*part, MOLECULES))
    for name, value in whole.items():
        mean = (cuts[0][name] + cuts[1][name]) / 2
        assert mean.item() == pytest.approx(value.item(), rel=1e-6), name


def test_padding_is_no_atom():
    mask = torch.tensor([[True, False]])
    assert per_sample(torch.tensor([[3.0, 100.0]]), mask, 2.0).item() == 1.5


def test_true_molecules_match_however_they_are_turned(textbook_molecules):
    sample = molecule(textbook_molecules, list(textbook_molecules))
    atoms = as_atoms(sample, MOLECULES)
    atoms["pos"] = atoms["pos"] @ rotations(torch.randn(len(textbook_molecules), 4))
    found = molecule_metrics(atoms, sample, MOLECULES)
    assert found["match_pct"].tolist() == [100] * len(textbook_molecules)
    assert found["exact_pct"].tolist() == [100] * len(textbook_molecules)
    # float32 coordinates of about 1 A: the root of what their squares lose.
    assert found["rmsd_all"].max() < 1e-3


def test_a_molecule_fails_by_its_types_or_by_its_bonds_alone(textbook_molecules):
    sample = molecule(textbook_molecules, ["hydrogen cyanide", "methane", "water"])
    atoms = as_atoms(sample, MOLECULES)
    atoms["logits"] = atoms["logits"].clone()
    atoms["logits"][0, 1, 6] = 2.0  # nitrogen becomes carbon: the same distance is a bond still
    atoms["pos"] = atoms["pos"].clone()
    atoms["pos"][1, 1] *= 2  # a hydrogen leaves
    found = molecule_metrics(atoms, sample, MOLECULES)
    assert found["match_pct"].tolist() == [0, 0, 100]
    assert found["exact_pct"].tolist() == [0, 100, 100]
    assert found["types_pct"].tolist() == pytest.approx([200 / 3, 100, 100])


def test_crystals_match_within_the_tolerances(textbook_crystals):
    sample = crystal(textbook_crystals, "NaCl")
    atoms = as_atoms(sample, CRYSTALS)
    assert crystal_metrics(atoms, sample)["match_pct"].item() == 100
    atoms["frac"] = sample["frac"] + 1.0 + torch.tensor([0.01, 0, 0])
    found = crystal_metrics(atoms, sample)
    assert found["match_pct"].item() == 100
    assert found["rmsd_all"].item() == pytest.approx(0.01 * 5.6402, rel=1e-3)
    for change in ({"lengths": sample["lengths"] * 1.4}, {"angles": sample["angles"] + 11}):
        assert crystal_metrics({**atoms, **change}, sample)["match_pct"].item() == 0
    far = {**atoms, "frac": sample["frac"] + torch.tensor([0.3, 0, 0])}
    assert crystal_metrics(far, sample)["match_pct"].item() == 0
