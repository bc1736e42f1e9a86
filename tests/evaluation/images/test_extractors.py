import pytest
import torch

from unite.evaluation.images.extractors import INCEPTION, INCEPTION_FILE, Pixels, build_extractor
from unite.evaluation.images.features import INCEPTION_DIGEST, ExtractorId, metric_name
from unite.metrics.moments import MetricError
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
