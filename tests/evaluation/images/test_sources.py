from dataclasses import replace

import pytest

from unite.config.schema import ImagesConfig
from unite.evaluation.images.extractors import INCEPTION, INCEPTION_FILE
from unite.evaluation.images.features import INCEPTION_DIGEST
from unite.evaluation.images.sources import SMALL, ExtractorSource, choose, small_name
from unite.metrics.errors import MetricError
from unite.weights import MissingWeightsError

DIGITS = ImagesConfig(size=8, patch=2, channels=1, num_classes=10)
CIFAR = ImagesConfig(size=32, patch=4)
IMAGENET = ImagesConfig()


@pytest.fixture(autouse=True)
def no_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("UNITE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


def test_digits_get_a_fitted_extractor_and_pixels():
    assert choose(("auto",), DIGITS) == ((SMALL, "pixels"), ())


def test_small_photographs_get_inception_where_its_file_is(monkeypatch):
    places, remarks = choose((), CIFAR)
    assert places == (SMALL,)
    assert INCEPTION_FILE in remarks[0]
    monkeypatch.setattr("unite.evaluation.images.sources.identify_extractor", lambda *_, **__: None)
    assert choose((), CIFAR) == ((INCEPTION,), ())


def test_images_of_one_class_have_no_small_extractor(monkeypatch):
    """It is fitted by telling classes apart."""
    assert choose(("auto",), replace(DIGITS, num_classes=1)) == (("pixels",), ())
    faces = replace(CIFAR, num_classes=1)
    for asked, config in (("small", DIGITS), ("small", faces), ("auto", replace(faces, size=24))):
        with pytest.raises(MetricError, match="these images have one: name another --extractor"):
            choose((asked,), replace(config, num_classes=1))
    with pytest.raises(MetricError, match=f"(?s)these images have one.*{INCEPTION_FILE}"):
        choose((), faces)
    monkeypatch.setattr("unite.evaluation.images.sources.identify_extractor", lambda *_, **__: None)
    assert choose((), faces) == ((INCEPTION,), ())


def test_without_inception_the_remark_says_which_file_to_fetch():
    places, remarks = choose(("auto",), IMAGENET)
    assert places == (SMALL,)
    (remark,) = remarks
    assert INCEPTION_FILE in remark
    assert INCEPTION_DIGEST in remark


@pytest.mark.parametrize("name", ["inception", INCEPTION])
def test_inception_by_name_needs_its_file(name):
    with pytest.raises(MissingWeightsError, match=INCEPTION_DIGEST):
        choose((name,), DIGITS)


def test_a_folder_without_an_extractor_is_refused(tmp_path):
    with pytest.raises(MetricError, match=r"no feature extractor"):
        ExtractorSource.open(str(tmp_path / "none"), DIGITS)


def test_sources_are_equal_when_their_features_are():
    a = ExtractorSource.open("pixels", DIGITS)
    assert a == ExtractorSource.open("pixels", DIGITS, weights="elsewhere")
    assert a != ExtractorSource.open("pixels", CIFAR)
    assert a.num_features == 64


def test_places_are_those_of_any_current_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    source = ExtractorSource.open("pixels", DIGITS, weights="weights")
    assert (source.place, source.weights) == ("pixels", str(tmp_path / "weights"))
    assert ExtractorSource.open("pixels", DIGITS).weights == ""


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("/storage/data/digits", "digits-cnn"),
        ("s3://bucket/CIFAR_10/shards", "cifar-10-cnn"),
        ("/train", "small-cnn"),
    ],
)
def test_the_small_extractor_is_named_after_the_data(uri, name):
    assert small_name(uri) == name
