import numpy as np
import pytest
import torch

from unite.evaluation.images.extractors import Pixels
from unite.evaluation.images.features import metric_name
from unite.evaluation.images.reference import Origin, Reference
from unite.metrics.errors import MetricError
from unite.metrics.fidelity import FidelityPlan, FidelityStatistics, fidelity_metrics
from unite.metrics.moments import Moments
from unite.storage import StorageError

EXTRACTOR = Pixels((1, 2, 3))
MADE = Origin(data="digits", data_digest="d" * 64, split="train", image_rule="x * 255 truncated")


def images(num: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (num, 1, 2, 3), generator=generator, dtype=torch.uint8)


def statistics_of(num: int, seed: int = 0, keep: int = 20) -> FidelityStatistics:
    plan = FidelityPlan(total=num, num_features=6, keep=keep)
    statistics = FidelityStatistics.zeros(plan)
    statistics.update(np.arange(num), EXTRACTOR.features(images(num, seed))["features"])
    return statistics


def metrics(reference: Reference, statistics: FidelityStatistics) -> dict[str, float]:
    return fidelity_metrics(statistics, reference.gaussian, reference.kept_features)


@pytest.fixture
def reference() -> Reference:
    return Reference.of(
        statistics_of(50), EXTRACTOR, MADE, label_histogram=np.array([20, 30], np.int64)
    )


def test_holds_what_numpy_says(reference):
    x = images(50).flatten(1).double().numpy() / 255
    assert np.allclose(reference.mu_F, x.mean(axis=0))
    assert np.allclose(reference.sigma_FF, np.cov(x, rowvar=False))
    assert reference.num == 50
    assert len(reference.kept_features) == 20
    assert np.allclose(reference.kept_features, x[reference.kept_rows])


@pytest.mark.parametrize("with_root", [False, True])
def test_round_trip_gives_the_same_metrics(reference, tmp_path, with_root):
    stored = reference.with_root() if with_root else reference
    uri = str(tmp_path / "new" / "reference.npz")
    stored.save(uri)
    again = Reference.load(uri)
    assert again.digest == reference.digest
    assert again.made == MADE
    assert again.extractor == reference.extractor
    assert (again.root_FR is not None) == with_root
    assert again.label_histogram.tolist() == [20, 30]
    fakes = statistics_of(40, seed=1)
    assert metrics(again, fakes) == metrics(reference, fakes)


def test_round_trip_on_s3(reference, s3):
    reference.save(f"{s3}/references/digits.npz")
    assert Reference.load(f"{s3}/references/digits.npz").digest == reference.digest


def test_digest_follows_the_content(reference):
    assert Reference.of(statistics_of(50), EXTRACTOR, MADE).digest != reference.digest
    histogram = reference.label_histogram
    other_data = Reference.of(statistics_of(50, 1), EXTRACTOR, MADE, label_histogram=histogram)
    assert other_data.digest != reference.digest
    other_rule = Origin(data="digits", data_digest="d" * 64, split="train", image_rule="rounded")
    other = Reference.of(statistics_of(50), EXTRACTOR, other_rule, label_histogram=histogram)
    assert other.digest != reference.digest
    elsewhere = Origin(**{**vars(MADE), "data": "s3://bucket/digits"})
    moved = Reference.of(statistics_of(50), EXTRACTOR, elsewhere, label_histogram=histogram)
    assert moved.digest == reference.digest
    assert reference.with_root().digest == reference.digest


def test_it_must_fit_extractor_and_data(reference):
    reference.check(EXTRACTOR)
    reference.check(EXTRACTOR, data_digest="d" * 64)
    with pytest.raises(MetricError, match="6 features and extractor pixels gives 8"):
        reference.check(Pixels((1, 2, 4)))
    with pytest.raises(MetricError, match="was made with extractor pixels"):
        reference.check(Pixels((1, 3, 2)))
    with pytest.raises(MetricError, match="another data set .* digits .*trained on eeeeeeeeeeee"):
        reference.check(EXTRACTOR, data_digest="e" * 64)


def test_incomplete_statistics_make_no_reference():
    plan = FidelityPlan(total=50, num_features=6)
    half = FidelityStatistics.zeros(plan)
    half.update(np.arange(20), EXTRACTOR.features(images(20))["features"])
    with pytest.raises(MetricError, match="30 were not counted"):
        Reference.of(half, EXTRACTOR, MADE)


def test_files_of_other_projects_hold_mu_and_sigma_alone(reference, tmp_path):
    uri = str(tmp_path / "theirs.npz")
    np.savez(uri, mu=reference.mu_F.astype(np.float32), sigma=reference.sigma_FF)
    nameless = Reference.load(uri)
    with pytest.raises(MetricError, match=r"extractor unknown \(no digest\)"):
        nameless.check(EXTRACTOR)
    named = Reference.load(uri, extractor=EXTRACTOR)
    named.check(EXTRACTOR, data_digest="e" * 64)
    assert set(metrics(named, statistics_of(40, 1))) == {"fid"}
    assert metric_name(named.extractor) == "fd-pixels"
    assert named.num == 0


def test_damaged_and_foreign_files_are_named(reference, tmp_path):
    text = tmp_path / "text.npz"
    text.write_text("mu")
    with pytest.raises(
        MetricError, match="text.npz: it is not an npz file.*text that begins with 'mu'"
    ):
        Reference.load(str(text))
    with pytest.raises(StorageError, match="absent.npz"):
        Reference.load(str(tmp_path / "absent.npz"))
    other = str(tmp_path / "other.npz")
    np.savez(other, mean=reference.mu_F)
    with pytest.raises(MetricError, match="other.npz: it has no mu and no sigma; it holds mean"):
        Reference.load(other)
    np.savez(other, mu=reference.mu_F, sigma=reference.sigma_FF[:, :4])
    with pytest.raises(
        MetricError, match=r"other.npz: mu and sigma have shapes \(6,\) and \(6, 4\)"
    ):
        Reference.load(other)
    np.savez(other, mu=np.array([{"a": 1}]), sigma=reference.sigma_FF)
    with pytest.raises(MetricError, match="other.npz: mu cannot be read: it holds pickled objects"):
        Reference.load(other)
    reference.save(other)
    with np.load(other) as file:
        arrays = dict(file)
    np.savez(other, **arrays | {"kept_features": arrays["kept_features"][:, :3]})
    with pytest.raises(MetricError, match="kept_features has 3 features and mu has 6"):
        Reference.load(other)
    meta = str(arrays["meta"]).replace('"version": 1', '"version": 2')
    np.savez(other, **arrays | {"meta": np.array(meta)})
    with pytest.raises(MetricError, match="version 2"):
        Reference.load(other)


def refused(path, says: str) -> None:
    """The file is refused in one line that begins with its name."""
    with pytest.raises(MetricError, match=says) as caught:
        Reference.load(str(path))
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text and "allow_pickle" not in text


def test_a_single_array_is_no_reference(reference, tmp_path):
    np.save(tmp_path / "mu.npy", reference.mu_F)
    refused(tmp_path / "mu.npy", "one array .*npz with mu and sigma")
    (tmp_path / "mu.npy").rename(tmp_path / "mu.npz")
    refused(tmp_path / "mu.npz", "one array")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"404", "text that begins with '404'"),
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", "git lfs pull"),
        (b"<html>", "web page"),
        (b"\x80\x04\x95pickled", "is a pickle file"),
    ],
)
def test_another_kind_of_file_is_no_reference(tmp_path, content, says):
    (tmp_path / "file.npz").write_bytes(content)
    refused(tmp_path / "file.npz", says)


def test_a_cut_reference_is_named(reference, tmp_path):
    reference.save(str(tmp_path / "cut.npz"))
    data = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(data[: len(data) // 2])
    refused(tmp_path / "cut.npz", "cut short")


def test_numbers_that_are_not_real_are_refused(reference, tmp_path):
    mu, sigma = reference.mu_F, reference.sigma_FF
    for name, wrong in (("complex", sigma + 1e-3j), ("text", sigma.astype(str))):
        np.savez(tmp_path / f"{name}.npz", mu=mu, sigma=wrong)
        refused(tmp_path / f"{name}.npz", "sigma is .*, not real numbers")
    np.savez(tmp_path / "alone.npz", mu=mu)
    refused(tmp_path / "alone.npz", "has no sigma; it holds mu")


@pytest.mark.parametrize(
    ("meta", "says"),
    [
        ('{"version": 1}', "meta lacks num, extractor, made"),
        ('{"version": 1, "num": 3, "extractor": {"nam": ""}, "made": {}}', "'nam'"),
        ('{"version": 1, "num": "x", "extractor": {}, "made": {}}', "meta lacks num"),
        ('{"version"', "meta is not JSON"),
        ("[1]", "version None"),
    ],
)
def test_a_damaged_description_is_named(reference, tmp_path, meta, says):
    arrays = {"mu": reference.mu_F, "sigma": reference.sigma_FF}
    np.savez(tmp_path / "old.npz", **arrays, meta=np.array(meta))
    refused(tmp_path / "old.npz", says)


def test_an_indefinite_sigma_is_refused(tmp_path):
    """Its distance to the true statistics would be negative."""
    features = np.random.default_rng(0).normal(size=(1000, 64))
    mu, sigma = features.mean(axis=0), np.cov(features, rowvar=False)
    smallest = np.linalg.eigvalsh(sigma)[0]
    np.savez(tmp_path / "bad.npz", mu=mu, sigma=sigma - 2 * np.eye(64))
    refused(tmp_path / "bad.npz", rf"smallest eigenvalue is {smallest - 2:.3g}, .* than -\d\.")
    # Just under zero is enough, if it is more than rounding.
    np.savez(tmp_path / "near.npz", mu=mu, sigma=sigma - (smallest + 1e-9) * np.eye(64))
    refused(tmp_path / "near.npz", "smallest eigenvalue is -1e-09")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_a_sigma_of_low_rank_is_taken(tmp_path, dtype, mean):
    """Fewer images than features leave eigenvalues of zero, on either side of it by rounding."""
    features = mean + np.random.default_rng(0).normal(size=(20, 64))
    moments = Moments.of(torch.from_numpy(features))
    mu, sigma = moments.mean(), moments.covariance()
    assert np.linalg.eigvalsh(sigma.astype(dtype).astype(float))[0] < 0
    np.savez(tmp_path / "low.npz", mu=mu.astype(dtype), sigma=sigma.astype(dtype))
    Reference.load(str(tmp_path / "low.npz"))
