"""CKA and CKNNA against dense definitions; sums that do not depend on how the work is split."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch.nn import functional

from unite.config.recipes import recipe
from unite.domains import build_domain
from unite.evaluation.instruments import Rows
from unite.evaluation.suites.alignment import both_passes
from unite.metrics.pathways import AlignmentConfig, AlignmentSums
from unite.metrics.similarity import cka_from_sums, cknna
from unite.models.unite import UNITE
from unite.sampling.passes import denoise_rows, tokenize_rows

CONFIG = AlignmentConfig(levels=(0.2, 0.8), neighbors=5, neighbor_rows=64)


def streamed_cka(x, y):
    x, y = x.double(), y.double()
    return float(cka_from_sums(len(x), x.sum(0), y.sum(0), x.T @ x, y.T @ y, x.T @ y))


def dense_cka(x, y):
    """Kornblith et al. 2019, eq. 3, on centred (N, N) kernels."""
    n = len(x)
    center = torch.eye(n, dtype=torch.float64) - 1 / n
    k, m = x.double() @ x.double().T, y.double() @ y.double().T

    def hsic(a, b):
        return torch.trace(a @ center @ b @ center)

    return float(hsic(k, m) / (hsic(k, k) * hsic(m, m)).sqrt())


def dense_cknna(x, y, neighbors):
    """Huh et al. 2024 in loops: unbiased HSIC of kernels masked to mutual nearest neighbours."""
    x, y = ((v.double() / v.double().norm(dim=1, keepdim=True)).numpy() for v in (x, y))
    n = len(x)

    def nearest(kernel, i):
        others = sorted((j for j in range(n) if j != i), key=lambda j: -kernel[i, j])
        return set(others[:neighbors])

    def align(k, m):
        masked_k, masked_m = np.zeros((n, n)), np.zeros((n, n))
        for i in range(n):
            for j in nearest(k, i) & nearest(m, i):
                masked_k[i, j], masked_m[i, j] = k[i, j], m[i, j]
        one = np.ones(n)
        product = masked_k @ masked_m
        sums = (one @ masked_k @ one) * (one @ masked_m @ one)
        hsic = np.trace(product) + sums / ((n - 1) * (n - 2)) - 2 * (one @ product @ one) / (n - 2)
        return hsic / (n * (n - 3))

    k, m = x @ x.T, y @ y.T
    return align(k, m) / np.sqrt(align(k, k) * align(m, m))


@pytest.fixture(scope="module")
def data(model):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(12, 1, 8, 8, generator=generator)
    return images, torch.arange(12) * 7, torch.arange(12) % 10


def add(sums, model, images, rows, labels):
    """Both passes of a batch, as the suite runs them."""
    mask = model.domain.register_mask(images)
    batch = Rows(rows_B=rows, sample=images, labels_B=labels, mask_BK=mask)
    with torch.inference_mode():
        sums.update(rows, *both_passes(sums.config, model, batch), mask)


def measure(model, data, batches, config=CONFIG):
    images, rows, labels = data
    sums = AlignmentSums(config)
    for batch in batches:
        add(sums, model, images[batch], rows[batch], labels[batch])
    return sums


def related(n=60, width=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, width, generator=generator) + 3.0
    noise = torch.randn(n, width, generator=generator)
    return x, x @ torch.randn(width, width, generator=generator) + noise


def test_cka_equals_the_dense_definition():
    x, y = related()
    assert streamed_cka(x, y) == pytest.approx(dense_cka(x, y), rel=1e-12)
    assert streamed_cka(x, y[:, :5]) == pytest.approx(dense_cka(x, y[:, :5]), rel=1e-12)


def test_cka_survives_a_large_mean():
    x, y = related()
    assert streamed_cka(x.double() + 1e3, y) == pytest.approx(streamed_cka(x, y), rel=1e-6)


def test_cka_is_invariant_to_rotation_scale_and_shift_only():
    x, y = related()
    rotation = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(2)))[0]
    base = streamed_cka(x, y)
    assert streamed_cka(x @ rotation, y) == pytest.approx(base, rel=1e-5)
    assert streamed_cka(7.0 * x, y - 2.0) == pytest.approx(base, rel=1e-5)
    assert streamed_cka(x, x @ rotation) == pytest.approx(1.0, abs=1e-5)
    stretched = x * torch.linspace(0.1, 5.0, 12)
    assert abs(streamed_cka(stretched, y) - base) > 1e-3


def test_cka_of_independent_rows_is_small():
    x, y = torch.randn(2, 5000, 4, generator=torch.Generator().manual_seed(3)).unbind()
    assert streamed_cka(x, y) < 0.01


def test_cka_of_a_constant_side_is_undefined():
    x, _ = related()
    assert np.isnan(streamed_cka(x, torch.full((60, 3), 0.1)))


@pytest.mark.parametrize("neighbors", [2, 5, 20])
def test_cknna_equals_the_dense_definition(neighbors):
    x, y = related(n=40)
    assert cknna(x, y, neighbors) == pytest.approx(dense_cknna(x, y, neighbors), rel=1e-10)


def test_cknna_bounds_and_invariances():
    x, y = related(n=40)
    rotation = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(2)))[0]
    assert cknna(x, x, 5) == pytest.approx(1.0, abs=1e-12)
    assert cknna(x @ rotation, 3.0 * y, 5) == pytest.approx(cknna(x, y, 5), rel=1e-4)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(4))
    assert cknna(x[order], y[order], 5) == pytest.approx(cknna(x, y, 5), rel=1e-9)
    assert cknna(x, y[order], 5) < cknna(x, y, 5) / 2


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_cknna_of_rows_of_one_direction_is_undefined(scale):
    """Their neighbours are what rounding makes of them."""
    x, _ = related(n=40)
    alike = scale * (torch.linspace(0.1, 1.0, 7) * torch.linspace(1.0, 2.0, 40)[:, None])
    assert np.isnan(cknna(x, alike, 5)) and np.isnan(cknna(alike, x, 5))
    assert np.isnan(cknna(alike, alike, 5))
    assert np.isfinite(cknna(x, alike + 1e-3 * scale * x[:, :7], 5))


def test_cknna_needs_enough_rows():
    x, y = related(n=8)
    with pytest.raises(ValueError, match="k = 7 neighbours .* there are 8: measure more samples"):
        cknna(x, y, 7)


def test_curves_equal_a_dense_computation(model, data):
    """All activations at once, straight from the model, through the definitions."""
    images, rows, labels = data
    result = measure(model, data, [slice(0, 5), slice(5, 12)]).result()
    x_blocks = []
    z0 = tokenize_rows(model, images, rows, seed=0, activations=x_blocks)
    for level, t in enumerate(CONFIG.levels):
        y_blocks = []
        z_hat = denoise_rows(model, z0, t, rows, seed=0, labels_B=labels, activations=y_blocks)
        for block, (x, y) in enumerate(zip(x_blocks, y_blocks, strict=True)):
            dense = dense_cka(x.flatten(0, 1), y.flatten(0, 1))
            assert result.cka[level, block] == pytest.approx(dense, rel=1e-5)
            cosine = functional.cosine_similarity(x, y, dim=-1).mean()
            assert result.cosine[level, block] == pytest.approx(float(cosine), abs=1e-5)
        latent = functional.cosine_similarity(z0, z_hat, dim=-1).mean()
        assert result.latent_cosine[level] == pytest.approx(float(latent), abs=1e-5)
    assert (result.num_images, result.num_rows, result.num_neighbor_rows) == (12, 192, 64)
    assert result.cka.shape == result.cknna.shape == (2, len(x_blocks))
    assert np.isfinite(result.cknna).all()


def test_batches_and_workers_do_not_change_the_result(model, data):
    whole = measure(model, data, [slice(0, 12)]).result()
    first = measure(model, data, [slice(0, 4)])
    second = measure(model, data, [slice(8, 12), slice(4, 8)])
    merged = AlignmentSums(CONFIG)
    for part in (second, first, AlignmentSums(CONFIG)):
        merged.merge(part.to_arrays())
    for name in ("cka", "cknna", "cosine", "latent_cosine"):
        # Float32 activations of other batch sizes differ in their last bits.
        values = getattr(merged.result(), name)
        np.testing.assert_allclose(values, getattr(whole, name), rtol=1e-4, err_msg=name)


def test_merge_equals_a_single_pass(model, data):
    """With the same batches, so that activations are bit-equal, only the sums' order differs."""
    batches = [slice(0, 4), slice(4, 8), slice(8, 12)]
    whole = measure(model, data, batches)
    merged = measure(model, data, batches[2:])
    merged.merge(measure(model, data, batches[:2]).to_arrays())
    for name, value in whole.to_arrays().items():
        if name not in ("keys", "x", "y"):
            np.testing.assert_allclose(merged.to_arrays()[name], value, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(merged.result().cka, whole.result().cka, rtol=1e-12)
    np.testing.assert_allclose(merged.result().cknna, whole.result().cknna, rtol=1e-12)


def test_merging_leaves_the_other_alone(model, data):
    part = measure(model, data, [slice(0, 4)])
    before = {name: value.copy() for name, value in part.to_arrays().items()}
    merged = AlignmentSums(CONFIG)
    merged.merge(part.to_arrays())
    images, rows, labels = data
    add(merged, model, images[4:], rows[4:], labels[4:])
    for name, value in part.to_arrays().items():
        np.testing.assert_array_equal(value, before[name])


def test_image_rows_are_means_over_registers(model, data):
    config = dataclasses.replace(CONFIG, rows="image", neighbors=2)
    with pytest.warns(UserWarning, match="12 rows for activations of width 32"):
        result = measure(model, data, [slice(0, 12)], config).result()
    images, rows, _ = data
    x_blocks, y_blocks = [], []
    z0 = tokenize_rows(model, images, rows, seed=0, activations=x_blocks)
    denoise_rows(model, z0, 0.2, rows, seed=0, labels_B=data[2], activations=y_blocks)
    dense = dense_cka(x_blocks[-1].mean(1), y_blocks[-1].mean(1))
    assert result.cka[0, -1] == pytest.approx(dense, rel=1e-4)
    assert result.num_rows == 12


def test_padded_registers_do_not_count(model, data, monkeypatch):
    """A sample whose last registers are padding: only the real ones enter the sums."""
    images, rows, labels = data
    mask = torch.ones(12, 16, dtype=torch.bool)
    mask[:, 10:] = False
    monkeypatch.setattr(model.domain, "register_mask", lambda sample: mask, raising=False)
    sums = AlignmentSums(CONFIG)
    add(sums, model, images, rows, labels)
    x_blocks = []
    tokenize_rows(model, images, rows, seed=0, activations=x_blocks)
    expected = x_blocks[0][:, :10].double().sum(dim=(0, 1)).numpy()
    np.testing.assert_allclose(sums.to_arrays()["x_sum"][0], expected, rtol=1e-9, atol=1e-9)
    assert sums.result().num_rows == 120


def test_the_condition_matters_and_needs_labels(model, data):
    images, rows, _ = data
    null = dataclasses.replace(CONFIG, condition="null")
    labelled, unlabelled = (measure(model, data, [slice(0, 12)], c) for c in (CONFIG, null))
    assert not np.allclose(labelled.result().cosine, unlabelled.result().cosine)
    with pytest.raises(ValueError, match="'label' needs labels_B"):
        add(AlignmentSums(CONFIG), model, images, rows, None)


def test_a_collapsed_model_is_reported_as_undefined(data):
    config = recipe("smoke")
    model = UNITE(config.model, build_domain(config.domain), config.flow)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    with pytest.warns(UserWarning, match="is not defined where activations do not vary"):
        result = measure(model, data, [slice(0, 12)]).result()
    assert np.isnan(result.cka).all() and np.isnan(result.cknna).all()
    assert not result.cosine.any()


def test_result_to_dict_is_plain(model, data):
    result = measure(model, data, [slice(0, 12)]).result()
    restored = json.loads(json.dumps(result.to_dict()))
    assert restored["cka"] == result.cka.tolist()
    assert restored["config"]["neighbors"] == 5
    assert set(result.summary()) >= {"cka_mean", "cknna_last_block", "latent_cosine_mean"}


def test_bad_configs_and_empty_results_are_refused():
    with pytest.raises(ValueError, match="levels"):
        AlignmentConfig(levels=(1.5,))
    with pytest.raises(ValueError, match="neighbor_rows"):
        AlignmentConfig(neighbors=10, neighbor_rows=11)
    with pytest.raises(ValueError, match="no images"):
        AlignmentSums(CONFIG).result()


@pytest.mark.parametrize(("rows", "num"), [("register", 9), ("image", 3)])
def test_each_row_has_a_key_of_its_own(rows, num):
    sums = AlignmentSums(dataclasses.replace(CONFIG, rows=rows))
    real_BK = torch.ones(3, 3, dtype=torch.bool)
    keys = sums._row_keys(torch.arange(3), real_BK)
    assert len(keys) == len(keys.unique()) == num
