"""Agreement with torch-fidelity on an Inception file with random weights: nothing is downloaded."""

import hashlib
import io

import numpy as np
import pytest
import torch
import torch_fidelity
from PIL import Image
from torch_fidelity import feature_extractor_inceptionv3 as theirs

from unite.evaluation.images.extractors import INCEPTION, Inception, build_extractor
from unite.evaluation.images.features import metric_name
from unite.evaluation.images.reference import Origin, Reference
from unite.metrics.fidelity import FidelityPlan, FidelityStatistics

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
    return FidelityStatistics.total(plan, [statistics])


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
    extractor = build_extractor(
        INCEPTION, image_shape=(3, 16, 16), weights=str(weights_folder), inception_digest=digest
    )
    # Without the published weights it is not FID, whoever vouches for them.
    name = f"{INCEPTION}-{digest[:8]}"
    assert metric_name(extractor) == f"fd-{name}"
    reference = Reference.of(statistics_of(extractor, real), extractor, Origin())
    found = reference.metrics(statistics_of(extractor, fake))
    assert expected["frechet_inception_distance"] > 0.1
    assert expected["inception_score_mean"] > 1.01
    pairs = {
        f"fd-{name}": "frechet_inception_distance",
        f"cs-{name}": "inception_score_mean",
        f"cs_std-{name}": "inception_score_std",
    }
    for ours, other in pairs.items():
        assert found[ours] == pytest.approx(expected[other], rel=1e-3, abs=1e-6)


def test_grey_images_are_read_as_rgb(weights_folder):
    extractor = Inception((weights_folder / "random.pth").read_bytes())
    grey = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    made = extractor.features(grey)
    assert made["features"].shape == (2, 2048)
    assert made["logits"].shape == (2, 1008)
    as_rgb = extractor.features(grey.repeat(1, 3, 1, 1))
    assert torch.equal(made["features"], as_rgb["features"])
