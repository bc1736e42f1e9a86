"""The images domain: decoding of rows, samples, flips, losses, metrics, rendering."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from unite.config.schema import EncoderConfig, ImagesConfig, LossConfig, PerceptualConfig
from unite.domains import ImagesDomain, build_domain
from unite.domains.images import PatchEmbed, PatchHead
from unite.flow.random import Purpose, stream_keys, uniform

CONFIG = ImagesConfig(size=8, patch=2, channels=3, num_classes=10)
DOMAIN = ImagesDomain(CONFIG)
NO_LPIPS = LossConfig(perceptual=PerceptualConfig(weight=0.0))


def png(value: int, size: int = 8) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (size, size), (value, 0, 255)).save(stream, "PNG")
    return stream.getvalue()


def test_rows_are_decoded_and_bad_ones_reported_in_place() -> None:
    rows = {
        "image": [png(1), b"broken", png(3), None, {"bytes": png(5), "path": ""}, png(6), png(7)],
        "label": [0, 1, 10, 2, 9, None, -1],
    }
    fields, bad = DOMAIN.decode_rows(rows)
    assert fields["image"].shape == (7, 8, 8, 3) and fields["image"].dtype == np.uint8
    assert fields["image"][:, 0, 0, 0].tolist() == [1, 0, 0, 0, 5, 0, 0]
    assert fields["label"].tolist() == [0, 0, 0, 0, 9, 0, 0]
    assert fields["label"].dtype == np.int64
    assert [position for position, _ in bad] == [1, 2, 3, 5, 6]
    assert "label 10 is not an integer in 0..9" in dict(bad)[2]
    assert "NoneType" in dict(bad)[3]


def test_samples_are_in_the_unit_range() -> None:
    fields, _ = DOMAIN.decode_rows({"image": [png(51)], "label": [4]})
    sample, labels_B = DOMAIN.to_sample({name: torch.from_numpy(a) for name, a in fields.items()})
    assert sample.shape == (1, 3, 8, 8) and sample.is_contiguous()
    assert sample[0, :, 3, 5].tolist() == pytest.approx([0.2, 0.0, 1.0])
    assert labels_B.tolist() == [4] and labels_B.dtype == torch.int64
    assert torch.equal(DOMAIN.render(sample), torch.from_numpy(fields["image"]))


def test_flips_belong_to_the_row_not_to_the_batch() -> None:
    rows_B = torch.arange(64)
    sample = torch.rand(64, 3, 8, 8)
    keys_B = stream_keys(0, torch.zeros_like(rows_B), rows_B, Purpose.FLIP)
    flipped = DOMAIN.augment(sample, keys_B)
    assert torch.equal(DOMAIN.augment(sample[5:9], keys_B[5:9]), flipped[5:9])
    chosen = uniform(keys_B, (1,))[:, 0] < 0.5
    assert 15 < chosen.sum() < 49
    assert torch.equal(flipped[chosen], sample[chosen].flip(-1))
    assert torch.equal(flipped[~chosen], sample[~chosen])
    still = ImagesDomain(ImagesConfig(size=8, patch=2, flip=False))
    assert still.augment(sample, keys_B) is sample


def test_losses() -> None:
    sample = torch.zeros(2, 3, 8, 8)
    reconstruction = torch.full_like(sample, 0.5, requires_grad=True)
    seen = []

    def perceptual(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        seen.append((left.shape, right.shape))
        return (left - right).mean((1, 2, 3)) * torch.tensor([1.0, 3.0])

    loss = LossConfig(reconstruction_weight=10.0, perceptual=PerceptualConfig(weight=0.1))
    terms = DOMAIN.reconstruction_terms(reconstruction, sample, loss, perceptual)
    assert {name: term.item() for name, term in terms.items()} == {"l1": 0.5, "lpips": 1.0}
    assert DOMAIN.reconstruction_loss(terms, loss).item() == pytest.approx(10 * (0.5 + 0.1))
    assert set(DOMAIN.reconstruction_terms(reconstruction, sample, NO_LPIPS, None)) == {"l1"}
    with pytest.raises(ValueError, match="loss.perceptual.weight"):
        DOMAIN.reconstruction_terms(reconstruction, sample, loss, None)
    grey = torch.zeros(2, 1, 8, 8)
    DOMAIN.reconstruction_terms(grey, grey, loss, perceptual)
    assert seen == [((2, 3, 8, 8), (2, 3, 8, 8))] * 2


def test_metrics_are_per_sample_and_clamped() -> None:
    sample = torch.full((3, 3, 8, 8), 0.9)
    reconstruction = sample.clone()
    reconstruction[1] -= 0.1
    reconstruction[2] = 5.0
    metrics = DOMAIN.reconstruction_metrics(reconstruction, sample)
    assert metrics["psnr"].tolist() == pytest.approx([100.0, 20.0, 20.0], abs=1e-3)
    assert metrics["l1"].tolist() == pytest.approx([0.0, 0.1, 0.1], abs=1e-5)


def test_rendering_clamps_and_truncates() -> None:
    row = torch.tensor([-1.0, 0.0, 0.4999, 0.99999, 1.0, 7.0]).expand(1, 1, 1, 6)
    assert DOMAIN.render(row)[0, 0, :, 0].tolist() == [0, 0, 127, 254, 255, 255]


def test_patches_are_row_major_and_the_head_undoes_the_embedding() -> None:
    patch_pixels = 2 * 2 * 3
    embed = PatchEmbed(CONFIG, patch_pixels, torch.zeros(16, patch_pixels))
    head = PatchHead(CONFIG, patch_pixels)
    with torch.no_grad():
        embed.projection.weight.copy_(torch.eye(patch_pixels).view(patch_pixels, 3, 2, 2))
        # The head's pixels are ordered (y, x, channel), the convolution's (channel, y, x).
        order = torch.arange(patch_pixels).view(3, 2, 2).permute(1, 2, 0).flatten()
        head.out.weight.copy_(torch.eye(patch_pixels)[order])
        head.out.bias.zero_()
        image_BCHW = torch.rand(2, 3, 8, 8)
        tokens_BNH = embed(image_BCHW)
        assert torch.equal(tokens_BNH[0, 1].view(3, 2, 2), image_BCHW[0, :, :2, 2:4])
        torch.testing.assert_close(head(tokens_BNH), image_BCHW)
    with pytest.raises(ValueError, match="without a mask"):
        head(tokens_BNH, torch.ones(2, 16, dtype=torch.bool))


def test_patch_positions_follow_the_config() -> None:
    zeros = DOMAIN.build_embedder(32, EncoderConfig())
    table = DOMAIN.build_embedder(32, EncoderConfig(patch_positions="sincos2d"))
    assert not zeros.positions.any()
    assert torch.equal(table.positions, DOMAIN.decoder_positions(32))
    assert not any(parameter is table.positions for parameter in table.parameters())


def test_impossible_configs_are_refused() -> None:
    with pytest.raises(ValueError, match="domain.patch = 3 does not divide domain.size = 8"):
        build_domain(ImagesConfig(size=8, patch=3))
    with pytest.raises(ValueError, match="domain.channels = 4"):
        build_domain(ImagesConfig(channels=4))
    with pytest.raises(TypeError, match="no domain"):
        build_domain(object())  # type: ignore[arg-type]


def test_psnr_of_random_noise_is_as_computed_by_hand() -> None:
    sample, other = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    by_hand = [
        -10 * math.log10(((s - o) ** 2).mean().item()) for s, o in zip(sample, other, strict=True)
    ]
    assert DOMAIN.reconstruction_metrics(other, sample)["psnr"].tolist() == pytest.approx(by_hand)


def test_examples_are_what_rows_are_decoded_to() -> None:
    fields, _ = DOMAIN.decode_rows({"image": [png(1)], "label": [4]})
    made = DOMAIN.example_fields(5, np.random.default_rng(0))
    assert made.keys() == fields.keys()
    for name, array in made.items():
        assert array.dtype == fields[name].dtype and array.shape == (5, *fields[name].shape[1:])
    assert made["image"].std() > 0 and set(made["label"]) <= set(range(10))


def test_facts_are_in_words() -> None:
    assert DOMAIN.facts() == {"images": "8 px, 3 channels, 10 classes, patch 2"}


@pytest.mark.parametrize(
    "images",
    [torch.rand(2, 3, 4, 4), torch.rand(2, 3, 16, 16), torch.rand(3, 8, 8), torch.rand(2, 1, 8, 8)],
)
def test_other_images_are_refused_by_shape(images) -> None:
    config = ImagesConfig(size=8, patch=4)
    embed = PatchEmbed(config, 8, torch.zeros(4, 8))
    with pytest.raises(ValueError, match=r"\(B, 3, 8, 8\); these are torch.float32, "):
        embed(images)
    with pytest.raises(ValueError, match=r"these are torch.uint8, \(2, 3, 8, 8\)"):
        embed(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    assert embed(torch.rand(2, 3, 8, 8)).shape == (2, 4, 8)
