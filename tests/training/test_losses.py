"""LPIPS on weights that the tests write: values, ranges and gradients."""

from __future__ import annotations

import warnings
from pathlib import Path

import lpips
import pytest
import torch

from unite.config.recipes import recipe
from unite.config.serialise import replace
from unite.config.validate import validate
from unite.training.losses import Perceptual, layer_distance, unit_features
from unite.training.vgg import VGG
from unite.weights import MissingWeightsError

# Output channels of VGG-16's convolutions and their numbers among torchvision's feature layers.
CHANNELS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
LAYERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
GOLDEN = [0.1921995, 0.2164600]


def pattern(*shape: int, phase: float = 0.0) -> torch.Tensor:
    """Values in -1..1 from a formula: the same in every version of torch."""
    count = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return torch.sin(count * 12.9898 + phase).mul(43758.5453).frac().view(shape).float()


def vgg_tensors() -> dict[str, torch.Tensor]:
    tensors = {"classifier.0.weight": torch.zeros(2, 2)}
    inputs = 3
    for layer, outputs in zip(LAYERS, CHANNELS, strict=True):
        scale = (6.0 / (9 * inputs)) ** 0.5
        weight = pattern(outputs, inputs, 3, 3, phase=float(layer)) * scale
        tensors[f"features.{layer}.weight"] = weight
        tensors[f"features.{layer}.bias"] = pattern(outputs, phase=0.5) * 0.1
        inputs = outputs
    return tensors


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("weights")
    torch.save(vgg_tensors(), place / VGG.file)
    return place


@pytest.fixture(scope="module")
def file(folder: Path) -> str:
    return str(folder / VGG.file)


@pytest.fixture(scope="module")
def perceptual(file: str) -> Perceptual:
    return Perceptual(file)


@pytest.fixture(scope="module")
def oracle() -> lpips.LPIPS:
    """lpips itself, with the same VGG weights copied in and its own heads."""
    with torch.device("meta"), warnings.catch_warnings():
        # The meta device spares 138 million random numbers that are overwritten anyway.
        warnings.simplefilter("ignore", UserWarning)
        network = lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False)
    network = network.to_empty(device="cpu")
    network.scaling_layer = lpips.ScalingLayer()
    heads = Path(lpips.__file__).parent / "weights" / "v0.1" / "vgg.pth"
    network.load_state_dict(torch.load(heads, map_location="cpu", weights_only=True), strict=False)
    own = network.net.state_dict()
    ours = {f"{key.split('.')[1]}.{key.split('.')[2]}": v for key, v in vgg_tensors().items()}
    network.net.load_state_dict({key: ours[key.partition(".")[2]] for key in own})
    return network.requires_grad_(False).eval()


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    shape = (2, 3, 32, 32)
    return pattern(*shape) * 0.5 + 0.5, pattern(*shape, phase=1.0) * 0.5 + 0.5


def test_equals_lpips_on_the_right_range(perceptual: Perceptual, oracle, pair) -> None:
    expected = oracle(pair[0], pair[1], normalize=True).flatten()
    actual = perceptual(*pair)
    assert actual.shape == (2,) and actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=0)


def test_released_range_feeds_images_as_they_are(file: str, oracle, pair) -> None:
    actual = Perceptual(file, "0..1")(*pair)
    torch.testing.assert_close(actual, oracle(*pair).flatten(), rtol=1e-4, atol=0)


def test_golden_values(perceptual: Perceptual, pair) -> None:
    torch.testing.assert_close(perceptual(*pair), torch.tensor(GOLDEN), rtol=1e-4, atol=0.0)


def test_distance_of_equal_images_is_zero(perceptual: Perceptual, pair) -> None:
    assert torch.equal(perceptual(pair[0], pair[0]), torch.zeros(2))


def test_grey_images_are_seen_as_three_equal_channels(perceptual: Perceptual, pair) -> None:
    grey = [image[:, :1] for image in pair]
    colour = [image.expand(-1, 3, -1, -1) for image in grey]
    torch.testing.assert_close(perceptual(*grey), perceptual(*colour))


def test_gradient_reaches_the_reconstruction_alone(perceptual: Perceptual, pair) -> None:
    reconstruction = pair[0].clone().requires_grad_()
    perceptual(reconstruction, pair[1]).mean().backward()
    assert reconstruction.grad.abs().sum() > 0
    assert torch.isfinite(reconstruction.grad).all()
    assert all(not p.requires_grad and p.grad is None for p in perceptual.parameters())


def test_gradient_equals_that_of_lpips(perceptual: Perceptual, oracle, pair) -> None:
    gradients = []
    for network in (perceptual, lambda a, b: oracle(a, b, normalize=True)):
        reconstruction = pair[0].clone().requires_grad_()
        network(reconstruction, pair[1]).sum().backward()
        gradients.append(reconstruction.grad)
    # A pixel's gradient is a sum of thousands of parts as large as the largest gradient.
    largest = float(gradients[1].abs().max())
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-4 * largest)


def test_bfloat16_features_with_float32_distances(file: str, perceptual: Perceptual, pair) -> None:
    low = Perceptual(file, dtype=torch.bfloat16)
    distances = low(*pair)
    assert distances.dtype == torch.float32
    torch.testing.assert_close(distances, perceptual(*pair), rtol=0.05, atol=0.0)


def test_autocast_around_it_changes_nothing(perceptual: Perceptual, pair) -> None:
    expected = perceptual(*pair)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(perceptual(*pair), expected)


def test_memory_layout_does_not_change_the_value(file: str, perceptual: Perceptual, pair) -> None:
    other = Perceptual(file, channels_last=False)
    torch.testing.assert_close(other(*pair), perceptual(*pair), rtol=1e-4, atol=0)


def test_stays_in_evaluation_mode_inside_a_training_module(perceptual: Perceptual, pair) -> None:
    expected = perceptual(*pair)
    torch.nn.ModuleList([perceptual]).train()
    assert not any(module.training for module in perceptual.modules())
    assert torch.equal(perceptual(*pair), expected)


def test_small_images_are_refused(perceptual: Perceptual) -> None:
    with pytest.raises(ValueError, match=r"16 pixels, not \(8, 8\).*loss\.perceptual\.weight"):
        perceptual(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))


def test_small_images_are_refused_before_anything_is_built() -> None:
    config = recipe("digits")
    with pytest.raises(ValueError, match="needs 16 pixels, but domain.size = 8"):
        validate(replace(config, {"loss.perceptual.weight": 1.0}))


def test_features_of_zero_have_a_zero_gradient() -> None:
    zeros = torch.zeros(1, 4, 2, 2, requires_grad=True)
    weight = torch.ones(1, 4, 1, 1)
    layer_distance(zeros, torch.ones(1, 4, 2, 2), weight).sum().backward()
    assert torch.isfinite(zeros.grad).all()
    assert torch.equal(unit_features(torch.zeros(1, 4, 2, 2)), torch.zeros(1, 4, 2, 2))


def test_a_file_without_vgg_features_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(MissingWeightsError, match="holds no VGG-16 features"):
        Perceptual(str(tmp_path / "x.pth"))


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    torch.save({"features.0.weight": Path}, tmp_path / "x.pth")
    with pytest.raises(Exception, match=r"(?i)weights.only"):
        Perceptual(str(tmp_path / "x.pth"))
