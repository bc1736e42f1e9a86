import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from unite.domains.atoms.geometry import (
    bonds,
    cell_matrix,
    center,
    distances,
    kabsch_rmsd,
    periodic_distances,
    rotations,
    volume,
)


def random_cells(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    lengths = 3 + 5 * torch.rand(count, 3, dtype=torch.float64, generator=generator)
    angles = 70 + 40 * torch.rand(count, 3, dtype=torch.float64, generator=generator)
    return lengths, angles


def test_cell_has_the_lengths_angles_and_volume_that_were_asked_for():
    lengths, angles = random_cells(20)
    cell = cell_matrix(lengths, angles)
    torch.testing.assert_close(cell.norm(dim=-1), lengths, rtol=1e-13, atol=0)
    unit = cell / lengths[..., None]
    for k, (i, j) in enumerate([(1, 2), (0, 2), (0, 1)]):
        between = torch.rad2deg((unit[:, i] * unit[:, j]).sum(-1).acos())
        torch.testing.assert_close(between, angles[:, k], rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.linalg.det(cell), volume(lengths, angles))
    impossible = torch.tensor([[30.0, 30.0, 120.0]])
    assert volume(torch.ones(1, 3), impossible).isnan().all()


def test_center_leaves_padding_out_of_the_mean():
    pos = torch.tensor([[[1.0, 0, 0], [3, 0, 0], [100, 0, 0]]])
    mask = torch.tensor([[True, True, False]])
    assert center(pos, mask)[0, :, 0].tolist() == [-1, 1, 0]


def test_distances_know_no_padding_and_no_self():
    pos = torch.tensor([[[0.0, 0, 0], [3, 4, 0], [0, 0, 0]]])
    apart = distances(pos, torch.tensor([[True, True, False]]))
    assert apart[0, 0, 1] == 5
    assert apart[0, 0, 0].isinf() and apart[0, 2].isinf().all()


def test_textbook_crystals_have_their_textbook_distances(textbook_crystals):
    nearest = {"CsCl": 4.123 * 3**0.5 / 2, "NaCl": 5.6402 / 2, "Si": 5.431 * 3**0.5 / 4}
    nearest |= {"Si primitive": 5.431 * 3**0.5 / 4, "perovskite": 3.905 / 2}
    for name, expected in nearest.items():
        cell = {
            k: torch.tensor([v], dtype=torch.float64) for k, v in textbook_crystals[name].items()
        }
        matrix = cell_matrix(cell["lengths"], cell["angles"])
        mask = cell["numbers"] > 0
        apart = periodic_distances(cell["frac"], matrix, mask)
        assert apart.min().item() == pytest.approx(expected, abs=1e-4), name
        moved = periodic_distances(cell["frac"] + 0.37, matrix, mask)
        torch.testing.assert_close(apart, moved)


def test_bonds_of_textbook_molecules(textbook_molecules):
    number = {"methane": 4, "water": 2, "carbon dioxide": 2, "ethene": 5, "hydrogen fluoride": 1}
    for name, expected in number.items():
        types, pos = textbook_molecules[name]
        types, pos = torch.tensor([types]), torch.tensor([pos], dtype=torch.float64)
        bonded = bonds(types, distances(pos, types > 0), 0.25)
        assert bonded.sum().item() == 2 * expected, name


def test_kabsch_agrees_with_scipy_and_ignores_padding():
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(2, 20, 9, 3))
    mask = torch.arange(9) < torch.from_numpy(generator.integers(3, 10, 20))[:, None]
    ours = kabsch_rmsd(torch.from_numpy(first), torch.from_numpy(second), mask)
    for row in range(20):
        a, b = (each[row][mask[row].numpy()] for each in (first, second))
        _, rssd = Rotation.align_vectors(a - a.mean(0), b - b.mean(0))
        assert ours[row].item() == pytest.approx(rssd / len(a) ** 0.5, rel=1e-9)


def test_kabsch_never_mirrors():
    pos = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]]], dtype=torch.float64)
    mask = torch.ones(1, 4, dtype=torch.bool)
    turned = pos @ rotations(torch.randn(1, 4, dtype=torch.float64)) + 5
    # The squares of coordinates, about 100, cancel: the root of their rounding remains.
    assert kabsch_rmsd(pos, turned, mask).item() < 1e-6
    assert kabsch_rmsd(pos, pos * torch.tensor([1.0, 1, -1]), mask).item() > 0.3


def test_rotations_are_proper_and_cover_the_sphere():
    turned = rotations(torch.randn(4000, 4, dtype=torch.float64))
    torch.testing.assert_close(torch.linalg.det(turned), torch.ones(4000, dtype=torch.float64))
    product = turned @ turned.transpose(1, 2)
    torch.testing.assert_close(product, torch.eye(3, dtype=torch.float64).expand_as(product))
    # Entries of a uniform rotation have mean 0 and variance 1/3; four errors of 4,000 draws.
    assert turned.mean(0).abs().max() < 4 * (1 / 3 / 4000) ** 0.5
