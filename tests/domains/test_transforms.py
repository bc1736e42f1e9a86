"""Decoding of image files and ADM's centre crop."""

import io

import numpy as np
import pytest
from PIL import Image

from unite.domains.transforms import center_crop_adm, decode_image

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
SMOOTH = np.add.outer(np.arange(32), np.arange(32))[..., None] * np.array([1, 2, 3]) % 256


def file_of(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def test_crop_halves_with_a_box_then_cuts_the_centre() -> None:
    # 4 x 6 and size 2: one exact halving to 2 x 3, bicubic to the same size, left column cut.
    grey = np.kron([[10, 20, 30], [40, 50, 60]], np.ones((2, 2))).astype(np.uint8)
    grey[0, 0], grey[0, 1] = 8, 12  # A box mean of 10 that no other filter keeps.
    cropped = np.asarray(center_crop_adm(Image.fromarray(grey), 2))
    assert cropped.tolist() == [[10, 20], [40, 50]]


def test_crop_scales_the_short_side_without_halving_below_twice_the_size() -> None:
    image = Image.fromarray(SMOOTH.astype(np.uint8)).resize((30, 20))
    expected = image.resize((18, 12), Image.Resampling.BICUBIC).crop((3, 0, 15, 12))
    assert np.array_equal(np.asarray(center_crop_adm(image, 12)), np.asarray(expected))


def test_crop_enlarges_small_images() -> None:
    assert center_crop_adm(Image.new("RGB", (5, 3)), 8).size == (8, 8)


def test_images_of_the_right_size_are_decoded_only() -> None:
    assert np.array_equal(decode_image(file_of(Image.fromarray(PIXELS)), 6, 3), PIXELS)


@pytest.mark.parametrize("subsampling", [0, 2])
def test_the_fast_jpeg_path_gives_the_pixels_of_the_general_one(subsampling: int) -> None:
    image = Image.fromarray(SMOOTH.astype(np.uint8))
    data = file_of(image, "JPEG", quality=90, subsampling=subsampling)
    general = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(decode_image(data, 32, 3), general)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_is_converted(mode: str, channels: int) -> None:
    image = Image.new("RGB", (8, 8), (200, 200, 200)).convert(mode)
    kind = "TIFF" if mode == "CMYK" else "PNG"
    pixels = decode_image(file_of(image, kind), 8, channels)
    assert pixels.shape == (8, 8, channels) and pixels.dtype == np.uint8
    # One bit is dithered: only the mean of the whole is 200 or so.
    assert abs(float(pixels.mean()) - 200) < (25 if mode == "1" else 3)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_cmyk_jpegs_are_converted(mode: str, channels: int) -> None:
    image = Image.new("RGB", (16, 16), (90, 90, 90)).convert(mode)
    pixels = decode_image(file_of(image, "JPEG"), 16, channels)
    assert pixels.shape == (16, 16, channels) and abs(float(pixels.mean()) - 90) < 3


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    image = Image.fromarray(np.full((4, 4), 128 * 256, np.uint16))
    assert (decode_image(file_of(image), 4, 3) == 128).all()


@pytest.mark.parametrize("size", [32, 16])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_cut_files_are_refused(kind: str, size: int) -> None:
    data = file_of(Image.fromarray(SMOOTH.astype(np.uint8)), kind)
    with pytest.raises(ValueError, match="not a readable image"):
        decode_image(data[: len(data) // 2], size, 3)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"no image"])
def test_bytes_that_are_no_image_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a readable image"):
        decode_image(data, 8, 3)
