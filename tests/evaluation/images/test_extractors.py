"""Extractors and their names; Inception agrees with torch-fidelity on a file of random weights."""

import hashlib
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch_fidelity
from PIL import Image
from torch_fidelity import feature_extractor_inceptionv3 as theirs

from unite.evaluation.images import extractors
from unite.evaluation.images.extractors import (
    INCEPTION,
    INCEPTION_FILE,
    Inception,
    Pixels,
    build_extractor,
    identify_extractor,
)
from unite.evaluation.images.features import INCEPTION_DIGEST, ExtractorId, metric_name
from unite.evaluation.images.reference import Origin, Reference
from unite.metrics.errors import MetricError
from unite.metrics.fidelity import FidelityPlan, FidelityStatistics, fidelity_metrics
from unite.weights import MissingWeightsError

REAL = ExtractorId(name=INCEPTION, digest=INCEPTION_DIGEST, resize="")


SMALL = ExtractorId(name="small-digits", digest="0" * 64, resize="")


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No weights in the environment or in torch's cache, which is this folder."""
    monkeypatch.delenv("UNITE_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path


def test_a_metric_is_called_fid_only_with_the_verified_inception():
    assert metric_name(REAL) == "fid"
    assert metric_name(REAL, "rfid") == "rfid"
    assert metric_name(REAL, "is_std") == "is_std"
    assert metric_name(SMALL) == "fd-small-digits"
    assert metric_name(SMALL, "rfid") == "rfd-small-digits"
    assert metric_name(SMALL, "is") == "cs-small-digits"
    assert metric_name(SMALL, "kid") == "kd-small-digits"
    assert metric_name(SMALL, "precision") == "precision-small-digits"
    impostor = ExtractorId(name=INCEPTION, digest="0" * 64, resize="")
    assert metric_name(impostor) == f"fd-{INCEPTION}"


def test_torch_fidelity_downloads_the_file_that_we_look_for():
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    assert URL_INCEPTION_V3.endswith("/" + INCEPTION_FILE)
    assert INCEPTION_DIGEST[:8] in INCEPTION_FILE


def test_pixels_are_flattened_to_the_unit_range():
    images = torch.randint(0, 256, (3, 1, 4, 5), dtype=torch.uint8)
    extractor = build_extractor("pixels", image_shape=(1, 4, 5))
    made = extractor.features(images)
    assert made["logits"] is None
    assert extractor.num_features == 20
    assert torch.allclose(made["features"], images.flatten(1).float() / 255)
    assert metric_name(extractor) == "fd-pixels"
    assert extractor.digest != Pixels((1, 5, 4)).digest
    known = identify_extractor("pixels", image_shape=(1, 4, 5))
    assert known == (ExtractorId.of(extractor), 20, 0)


def test_images_of_another_kind_are_refused():
    extractor = Pixels((1, 4, 4))
    with pytest.raises(MetricError, match="not uint8"):
        extractor.features(torch.rand(2, 1, 4, 4))
    with pytest.raises(MetricError, match=r"\(2, 4, 4, 1\), not"):
        extractor.features(torch.zeros(2, 4, 4, 1, dtype=torch.uint8))
    with pytest.raises(MetricError, match=r"\(1, 8, 8\) for pixel features"):
        extractor.features(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))


def test_missing_inception_says_which_file_and_digest(nowhere):
    folder = nowhere / "weights"
    folder.mkdir()
    (folder / INCEPTION_FILE).write_bytes(b"half a download")
    with pytest.raises(MissingWeightsError) as raised:
        build_extractor(INCEPTION, image_shape=(3, 32, 32), weights=str(folder))
    message = str(raised.value)
    assert INCEPTION_FILE in message
    assert INCEPTION_DIGEST in message
    assert str(folder) in message
    assert str(nowhere / "hub" / "checkpoints") in message
    assert "incomplete?" in message


def test_unknown_extractors_are_named(nowhere):
    with pytest.raises(MetricError, match="no feature extractor 'inception'.*pixels"):
        build_extractor("inception", image_shape=(3, 32, 32))


NUM = 20


pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def random_weights() -> bytes:
    """A weights file for torch-fidelity's network, of a scale that keeps signals alive."""

    class Fresh(theirs.FeatureExtractorInceptionV3):
        def load_state_dict(self, state_dict, strict=True, assign=False):
            return None

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    network = Fresh(INCEPTION, ["2048"], nothing)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            fan_in = parameter[0].numel()
            noise = torch.randn(parameter.shape, generator=generator)
            gain = 20 if name.startswith("fc.") else 2**0.5
            parameter.copy_(gain * noise / fan_in**0.5)
    buffer = io.BytesIO()
    torch.save(network.state_dict(), buffer)
    return buffer.getvalue()


def write_pngs(folder, seed: int, size: int) -> torch.Tensor:
    """Blocky random pictures as PNG files; the same as uint8 (B, 3, H, W)."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    images = []
    for index in range(NUM):
        coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        image = coarse.repeat(size // 4, axis=0).repeat(size // 4, axis=1)
        Image.fromarray(image).save(folder / f"{index:03d}.png")
        images.append(torch.from_numpy(image).permute(2, 0, 1))
    return torch.stack(images)


@pytest.fixture(scope="module")
def weights_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    (folder / "random.pth").write_bytes(random_weights())
    return folder


def statistics_of(extractor: Inception, images: torch.Tensor) -> FidelityStatistics:
    plan = FidelityPlan(total=len(images), num_features=2048, num_classes=1008)
    statistics = FidelityStatistics.zeros(plan)
    for indices in torch.arange(len(images)).split(10):
        made = extractor.features(images[indices])
        statistics.update(indices.numpy(), made["features"], made["logits"])
    statistics.check_complete()
    return statistics


@pytest.mark.filterwarnings("ignore")
def test_fid_and_inception_score_agree_with_torch_fidelity(weights_folder, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("something was to be downloaded")

    monkeypatch.setattr(theirs, "load_state_dict_from_url", refuse)
    fake = write_pngs(tmp_path / "fake", 0, 16)
    real = write_pngs(tmp_path / "real", 1, 32)
    file = weights_folder / "random.pth"
    expected = torch_fidelity.calculate_metrics(
        input1=str(tmp_path / "fake"),
        input2=str(tmp_path / "real"),
        cuda=False,
        fid=True,
        isc=True,
        feature_extractor_weights_path=str(file),
        save_cpu_ram=True,
        batch_size=NUM,
        verbose=False,
    )
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    extractor = Inception(file.read_bytes())
    # Without the published weights it is not FID, whoever vouches for them.
    name = f"{INCEPTION}-{digest[:8]}"
    assert metric_name(extractor) == f"fd-{name}"
    reference = Reference.of(statistics_of(extractor, real), extractor, Origin())
    found = fidelity_metrics(statistics_of(extractor, fake), reference.gaussian, None)
    assert expected["frechet_inception_distance"] > 0.1
    assert expected["inception_score_mean"] > 1.01
    assert metric_name(extractor, "is_std") == f"cs_std-{name}"
    pairs = {
        "fid": "frechet_inception_distance",
        "is": "inception_score_mean",
        "is_std": "inception_score_std",
    }
    for ours, other in pairs.items():
        assert found[ours] == pytest.approx(expected[other], rel=1e-3, abs=1e-6)


def test_inception_is_identified_as_what_is_built(weights_folder, monkeypatch):
    digest = hashlib.sha256((weights_folder / "random.pth").read_bytes()).hexdigest()
    published = replace(extractors.INCEPTION_WEIGHTS, digest=digest, num_bytes=0)
    monkeypatch.setattr(extractors, "INCEPTION_WEIGHTS", published)
    monkeypatch.setattr(extractors, "INCEPTION_DIGEST", digest)
    place = {"image_shape": (3, 16, 16), "weights": str(weights_folder)}
    built = build_extractor(INCEPTION, **place)
    assert identify_extractor(INCEPTION, **place) == (ExtractorId.of(built), 2048, 1008)


def test_grey_images_are_read_as_rgb(weights_folder):
    extractor = Inception((weights_folder / "random.pth").read_bytes())
    grey = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    made = extractor.features(grey)
    assert made["features"].shape == (2, 2048)
    assert made["logits"].shape == (2, 1008)
    as_rgb = extractor.features(grey.repeat(1, 3, 1, 1))
    assert torch.equal(made["features"], as_rgb["features"])
