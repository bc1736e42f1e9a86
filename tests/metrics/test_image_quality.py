import numpy as np
import pytest
import torch

from unite.config.schema import ImagesConfig
from unite.domains import build_domain
from unite.metrics.errors import MetricError
from unite.metrics.image_quality import (
    ReconstructionTotals,
    eight_bit_metrics,
    l1,
    psnr,
    reconstruction_metrics,
    ssim,
    ssim_window,
)


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    """Smooth random images in [0, 1], float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def ssim_by_hand(a: np.ndarray, b: np.ndarray, side: int) -> float:
    """SSIM of one channel by the definition: a double loop over places (Wang et al. 2004)."""
    window = np.empty((side, side))
    for y in range(side):
        for x in range(side):
            window[y, x] = np.exp(-((y - side // 2) ** 2 + (x - side // 2) ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for y in range(a.shape[0] - side + 1):
        for x in range(a.shape[1] - side + 1):
            p, q = a[y : y + side, x : x + side], b[y : y + side, x : x + side]
            mean_p, mean_q = (window * p).sum(), (window * q).sum()
            var_p = (window * (p - mean_p) ** 2).sum()
            var_q = (window * (q - mean_q) ** 2).sum()
            covariance = (window * (p - mean_p) * (q - mean_q)).sum()
            luminance = (2 * mean_p * mean_q + 1e-4) / (mean_p**2 + mean_q**2 + 1e-4)
            structure = (2 * covariance + 9e-4) / (var_p + var_q + 9e-4)
            values.append(luminance * structure)
    return float(np.mean(values))


@pytest.mark.parametrize(
    ("shape", "side"),
    [((2, 3, 16, 13), 11), ((2, 1, 8, 8), 7), ((1, 1, 5, 9), 5), ((1, 3, 2, 2), 1)],
)
def test_ssim_by_hand(shape, side):
    a = images(*shape)
    b = (a + 0.2 * images(*shape, seed=1)).clamp(0, 1)
    assert ssim_window(*shape[2:]) == side
    expected = [
        np.mean([ssim_by_hand(x, y, side) for x, y in zip(p, q, strict=True)])
        for p, q in zip(a.numpy(), b.numpy(), strict=True)
    ]
    assert np.allclose(ssim(b, a).numpy(), expected, rtol=1e-10)


def test_ssim_of_equal_and_inverted_images():
    a = images(2, 1, 16, 16)
    assert np.allclose(ssim(a, a), 1.0)
    assert (ssim(1 - a, a) < 0).all()


def test_psnr_and_l1_by_hand():
    a = torch.full((2, 3, 4, 4), 0.5)
    b = a.clone()
    b[0] += 0.1
    b[1, :, 0, 0] += 0.2
    mse = 3 * 0.2**2 / 48
    assert psnr(b, a).tolist() == pytest.approx([20.0, -10 * np.log10(mse)], rel=1e-5)
    assert l1(b, a).tolist() == pytest.approx([0.1, 0.2 / 16], rel=1e-5)


def test_uint8_and_float_mean_the_same():
    a8 = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    b8 = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    for metric in (psnr, ssim, l1):
        assert torch.allclose(metric(a8, b8), metric(a8.double() / 255, b8.double() / 255))


def test_equal_images_have_100_db_and_values_outside_are_clamped():
    a = images(2, 1, 8, 8)
    assert psnr(a, a).tolist() == [100.0, 100.0]
    assert torch.equal(psnr(a * 3, a), psnr((a * 3).clamp(0, 1), a))


def test_agrees_with_the_evaluation_during_training():
    domain = build_domain(ImagesConfig(size=8, patch=2, channels=1, num_classes=10, flip=False))
    a, b = images(4, 1, 8, 8).float(), images(4, 1, 8, 8, seed=1).float() * 1.2
    theirs = domain.reconstruction_metrics(b, a)
    ours = reconstruction_metrics(b, a)
    for name in ("psnr", "l1"):
        assert np.allclose(ours[name], theirs[name], rtol=1e-5)


def test_a_perceptual_distance_is_reported_when_given():
    a, b = images(3, 3, 8, 8), images(3, 3, 8, 8, seed=1)
    assert set(reconstruction_metrics(a, b)) == {"psnr", "ssim", "l1"}
    distance = lambda x, y: (x - y).square().mean((1, 2, 3), keepdim=True)
    values = reconstruction_metrics(a, b, perceptual=distance)
    assert np.allclose(values["lpips"], (a - b).square().mean((1, 2, 3)), rtol=1e-5)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(2, 1, 8, 8\) and images \(2, 3, 8, 8\)"):
        psnr(images(2, 1, 8, 8), images(2, 3, 8, 8))


def totals_of(values: np.ndarray, chunk: int, batch: int = 3) -> list[ReconstructionTotals]:
    chunks = []
    for start in range(0, len(values), chunk):
        totals = ReconstructionTotals(worst=4)
        for indices in np.array_split(np.arange(start, min(start + chunk, len(values))), batch):
            given = torch.from_numpy(values[indices])
            totals.update(indices, {"psnr": given, "l1": 1 / given})
        chunks.append(totals)
    return chunks


def add_up(chunks: list[ReconstructionTotals]) -> ReconstructionTotals:
    total = ReconstructionTotals(worst=4)
    for chunk in chunks:
        total.merge(chunk.to_arrays())
    return total


def test_totals_are_means_and_the_worst_images():
    values = np.random.default_rng(0).integers(10, 40, 50).astype(float)
    total = add_up(totals_of(values, chunk=9))
    assert total.num == 50
    assert total.result() == pytest.approx({"psnr": values.mean(), "l1": (1 / values).mean()})
    expected = sorted(zip(values.tolist(), range(50), strict=True))[:4]
    assert total.worst_cases == expected
    for chunk in (1, 50):
        assert add_up(totals_of(values, chunk)).worst_cases == expected
    backwards = add_up(totals_of(values, chunk=9)[::-1])
    assert backwards.worst_cases == expected


def test_the_worst_are_the_highest_where_low_is_good():
    totals = ReconstructionTotals(worst=2, worst_by="lpips")
    totals.update(np.array([7, 8, 9]), {"lpips": torch.tensor([0.1, 0.9, 0.5])})
    assert [index for _, index in totals.worst_cases] == [8, 9]


def test_totals_refuse_what_would_not_mean_anything():
    totals = ReconstructionTotals()
    with pytest.raises(MetricError, match="no image"):
        totals.result()
    with pytest.raises(MetricError, match="psnr of image 6 is not finite"):
        totals.update(np.array([5, 6]), {"psnr": torch.tensor([1.0, torch.nan])})
    with pytest.raises(MetricError, match="'psnr' is not measured"):
        totals.update(np.array([5]), {"l1": torch.tensor([1.0])})
    with pytest.raises(MetricError, match="3 indices for psnr"):
        totals.update(np.arange(3), {"psnr": torch.ones(2)})
    totals.update(np.array([5]), {"psnr": torch.tensor([1.0])})
    with pytest.raises(MetricError, match="different metrics"):
        totals.update(np.array([6]), {"psnr": torch.tensor([1.0]), "l1": torch.tensor([1.0])})


def test_eight_bit_metrics_count_what_rounding_adds():
    """By hand in numpy: per image 20 log10(255 / sqrt(mse)) and |a - b| / 255 of uint8 values."""
    generator = np.random.default_rng(0)
    a, b = (generator.integers(0, 256, (3, 3, 5, 4), dtype=np.uint8) for _ in range(2))
    found = eight_bit_metrics(torch.from_numpy(a), torch.from_numpy(b))
    error = a.astype(np.float64) - b.astype(np.float64)
    mse = (error**2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(found["psnr_8bit"], 20 * np.log10(255 / np.sqrt(mse)), rtol=1e-12)
    np.testing.assert_allclose(found["l1_8bit"], np.abs(error).mean((1, 2, 3)) / 255, rtol=1e-12)


def test_equal_pictures_have_the_released_codes_cap():
    same = torch.full((1, 1, 4, 4), 7, dtype=torch.uint8)
    values = eight_bit_metrics(same, same)
    assert values["psnr_8bit"].item() == pytest.approx(20 * np.log10(255 / np.sqrt(1e-10)))
    assert values["l1_8bit"].item() == 0


def test_eight_bit_metrics_refuse_floats():
    pixels = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    with pytest.raises(MetricError, match="uint8 pictures, not of torch.float32"):
        eight_bit_metrics(pixels.float(), pixels)
