from dataclasses import asdict

import pytest
import torch
import torch_fidelity
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.flop_counter import FlopCounterMode

from unite.config.schema import ImagesConfig
from unite.evaluation.images.extractors import Pixels, build_extractor, identify_extractor
from unite.evaluation.images.features import ExtractorId, metric_name
from unite.evaluation.images.small import SmallExtractor, SmallNetwork, fit_extractor
from unite.evaluation.images.small_card import CARD_FILE, FitOptions, training_flop
from unite.evaluation.images.sources import ExtractorSource
from unite.evaluation.images.torch_fidelity import register_extractor
from unite.metrics.errors import MetricError
from unite.metrics.frechet import Gaussian
from unite.metrics.moments import Moments
from unite.storage import Store

SHORT = FitOptions(images=12_000, width=16)


def digits(num: int = 1797) -> tuple[torch.Tensor, torch.Tensor]:
    data = load_digits()
    images = torch.from_numpy((data.images * 15).astype("uint8"))[:num, None]
    return images, torch.from_numpy(data.target[:num])


def distance(extractor, a: torch.Tensor, b: torch.Tensor) -> float:
    first, second = (Moments.of(extractor.features(x)["features"]) for x in (a, b))
    one, other = (Gaussian(each.mean(), each.covariance()) for each in (first, second))
    return one.distance(other)


def inception_score(logits_BC: torch.Tensor) -> float:
    """exp(mean KL(p(y|x) || p(y))) of one split."""
    share_BC = logits_BC.double().softmax(dim=1)
    ratio_BC = share_BC.log() - share_BC.mean(dim=0).log()
    return (share_BC * ratio_BC).sum(dim=1).mean().exp().item()


@pytest.fixture(scope="module")
def extractor() -> SmallExtractor:
    images, labels = digits(1500)
    return fit_extractor(
        images, labels, name="small-digits", seed=3, options=SHORT, data_digest="abc"
    )


def test_it_reads_digits(extractor):
    assert extractor.card.accuracy > 0.9
    assert extractor.card.num_train + extractor.card.num_held_out == 1500
    images, labels = digits()
    logits = extractor.features(images[1500:])["logits"]
    assert (logits.argmax(dim=1) == labels[1500:]).double().mean() > 0.85


def test_its_distance_grows_with_damage(extractor):
    images, _ = digits()
    train, held_out = images[:1500], images[1500:]
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(-60, 61, held_out.shape, generator=generator)
    noisy = (held_out.int() + noise).clamp(0, 255).to(torch.uint8)
    static = torch.randint(0, 256, held_out.shape, generator=generator, dtype=torch.uint8)
    distances = [distance(extractor, train, x) for x in (held_out, noisy, static)]
    assert distances == sorted(distances)
    assert distances[2] > 5 * distances[0]
    assert metric_name(extractor) == "fd-small-digits"


def test_the_same_seed_gives_the_same_weights():
    images, labels = digits(200)
    options = FitOptions(images=600, width=4, num_features=8)
    state = torch.get_rng_state()
    first = fit_extractor(images, labels, name="a", options=options)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert fit_extractor(images, labels, name="a", options=options).digest == first.digest
    assert fit_extractor(images, labels, name="a", seed=1, options=options).digest != first.digest


def test_features_do_not_depend_on_the_batch(extractor):
    images, _ = digits(50)
    whole = extractor.features(images)["features"]
    alone = torch.cat([extractor.features(x)["features"] for x in images.split(1)])
    assert torch.allclose(whole, alone, rtol=1e-4, atol=1e-5)


def test_it_is_stored_with_its_card(extractor, tmp_path, monkeypatch):
    folder = str(tmp_path / "extractor")
    extractor.save(folder)
    monkeypatch.chdir(tmp_path)
    config = ImagesConfig(size=8, patch=2, channels=1, num_classes=10)
    assert ExtractorSource.open("extractor", config).place == folder
    again = build_extractor(folder, image_shape=(1, 8, 8))
    known = identify_extractor(folder, image_shape=(1, 8, 8))
    assert known == (ExtractorId.of(again), again.num_features, again.num_classes)
    assert asdict(again.card) == asdict(extractor.card)
    images, _ = digits(20)
    assert torch.equal(again.features(images)["features"], extractor.features(images)["features"])
    weights = tmp_path / "extractor" / "extractor.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"abcd")
    with pytest.raises(MetricError, match="is not what extractor.json says"):
        SmallExtractor.load(folder)


def test_colour_images_of_32_pixels():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.arange(40) % 4
    options = FitOptions(images=80, width=4, num_features=8)
    extractor = fit_extractor(images, labels, name="tiny", options=options)
    made = extractor.features(images[:5])
    assert made["features"].shape == (5, 8)
    assert made["logits"].shape == (5, 4)
    with pytest.raises(MetricError, match=r"fitted on images of shape \(3, 32, 32\)"):
        extractor.features(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))


def test_bad_training_sets_are_refused():
    images, labels = digits(50)
    with pytest.raises(MetricError, match="extractor name 'My Net'"):
        fit_extractor(images, labels, name="My Net")
    with pytest.raises(MetricError, match="50 images and 49 labels"):
        fit_extractor(images, labels[:49], name="a")
    with pytest.raises(MetricError, match="two or more classes"):
        fit_extractor(images, torch.zeros(50, dtype=torch.long), name="a")
    with pytest.raises(MetricError, match="not uint8"):
        fit_extractor(images.float(), labels, name="a")
    with pytest.raises(MetricError, match="held_out"):
        FitOptions(held_out=1.0)


@pytest.mark.filterwarnings("ignore")
def test_torch_fidelity_can_use_it(extractor, tmp_path):
    images, _ = digits()
    sides = {"fake": images[1500:1600], "real": images[:120]}
    for side, pictures in sides.items():
        (tmp_path / side).mkdir()
        for index, picture in enumerate(pictures):
            Image.fromarray(picture[0].numpy()).save(tmp_path / side / f"{index:03d}.png")
    for used in (extractor, Pixels((3, 8, 8))):
        theirs = torch_fidelity.calculate_metrics(
            input1=str(tmp_path / "fake"),
            input2=str(tmp_path / "real"),
            feature_extractor=register_extractor(used),
            cuda=False,
            fid=True,
            isc=used.num_classes > 0,
            isc_splits=1,
            save_cpu_ram=True,
            verbose=False,
        )
        rgb = [x.expand(-1, 3, -1, -1) for x in sides.values()]
        expected = distance(used, *rgb)
        assert theirs["frechet_inception_distance"] == pytest.approx(expected, rel=1e-5)
        if used.num_classes:
            expected = inception_score(used.features(rgb[0])["logits"])
            assert theirs["inception_score_mean"] == pytest.approx(expected, rel=1e-5)
    assert register_extractor(extractor) == "small-digits"


@pytest.mark.parametrize(
    ("change", "says"),
    [({"options": 3}, "'options' = '3'"), ({"colour": 1}, "is damaged .*'colour'")],
)
def test_a_damaged_card_is_named(tmp_path, extractor, change, says):
    extractor.save(Store.open(tmp_path))
    store = Store.open(tmp_path)
    store.write_json(CARD_FILE, store.read_json(CARD_FILE) | change)
    with pytest.raises(MetricError, match=f"{CARD_FILE} .*{says}"):
        SmallExtractor.load(store)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 17, 34), (1, 3, 5)])
def test_the_flop_of_a_fit_are_those_of_its_convolutions(shape):
    options = FitOptions(width=4, num_features=6)
    flop = training_flop(shape, options)
    with FlopCounterMode(display=False) as counter:
        network = SmallNetwork(shape, 2, 4, 6)
        network.trunk(torch.zeros(1, *shape))
    counted = counter.get_total_flops()
    assert flop == 3 * counted
