import torch

from unite.domains.atoms.augmentation import cartesian, rotate, translate
from unite.domains.atoms.geometry import cell_matrix, distances, kabsch_rmsd, periodic_distances


def test_rotations_are_per_sample_addressed_and_keep_chirality():
    pos = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]]]).repeat(3, 1, 1)
    mask = torch.ones(3, 4, dtype=torch.bool)
    keys = torch.tensor([5, 5, 6])
    turned = rotate(pos, keys)
    assert torch.equal(turned[0], turned[1]) and not torch.equal(turned[0], turned[2])
    # float32 squares of about 10 cancel in the superposition; its root remains.
    assert kabsch_rmsd(turned, pos, mask).max() < 1e-3
    torch.testing.assert_close(distances(turned, mask), distances(pos, mask))


def test_translations_move_a_sample_as_a_whole_and_wrap():
    frac = torch.rand(4, 5, 3)
    mask = torch.arange(5) < torch.tensor([[2], [5], [3], [4]])
    frac = frac * mask[..., None]
    moved = translate(frac, torch.arange(4), mask)
    assert (moved >= 0).all() and (moved < 1).all()
    assert not moved[~mask].any()
    cell = cell_matrix(torch.full((4, 3), 4.0), torch.tensor([[90.0, 80.0, 100.0]]).repeat(4, 1))
    before, after = (periodic_distances(each, cell, mask) for each in (frac, moved))
    torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-5)
    assert not torch.equal(moved[0, 0], frac[0, 0])


def test_cartesian_coordinates_are_frac_times_the_cell():
    frac = torch.tensor([[[0.5, 0.0, 0.0], [0.0, 0.0, 0.5]]])
    pos = cartesian(frac, torch.tensor([[4.0, 5.0, 6.0]]), torch.tensor([[90.0, 90.0, 90.0]]))
    torch.testing.assert_close(pos, torch.tensor([[[2.0, 0, 0], [0, 0, 3.0]]]))
