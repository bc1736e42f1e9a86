"""Image files from outside: kinds, sizes and depths that are read, and those that are refused."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from unite.config.schema import ImagesConfig
from unite.data.ingest.images import Encoding
from unite.domains import build_domain
from unite.domains.image_files import MAX_PIXELS, open_image, read_pixels
from unite.domains.transforms import LONG, center_crop_adm, decode_image

MEBIBYTE = 2**20


def file_of(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG file of a few bytes whose header states a size."""

    def chunk(name: bytes, body: bytes) -> bytes:
        code = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + code

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def jpeg_that_claims(width: int, height: int) -> bytes:
    """A JPEG file of 8 x 8 pixels whose header states another size."""
    data = bytearray(file_of(Image.new("RGB", (8, 8)), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (2, 20_000), (20_000, 2)])
def test_thin_images_are_cropped_in_little_memory(size, kind) -> None:
    data = file_of(Image.new("RGB", size, (9, 9, 9)), kind)
    tracemalloc.start()
    pixels = decode_image(data, 256, 3)
    stored = Encoding(size=256, format="jpeg", quality=95).encode(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (pixels == 9).all() and pixels.shape == (256, 256, 3)
    assert np.abs(decode_image(stored, 256, 3).astype(int) - 9).max() <= 1
    assert peak < 20 * MEBIBYTE


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1)])
def test_pillow_makes_no_large_image_of_a_thin_one(size, monkeypatch) -> None:
    """Its memory is not Python's, so that tracemalloc does not see it."""
    made, resize = [], Image.Image.resize

    def seen(self, wanted, *args, **options):
        made.append(wanted[0] * wanted[1])
        return resize(self, wanted, *args, **options)

    monkeypatch.setattr(Image.Image, "resize", seen)
    center_crop_adm(Image.new("RGB", size), 256)
    assert max(made) <= 256**2


@pytest.mark.parametrize("size", [(3, 100), (100, 3), (30, 2200), (2200, 30), (1, 70)])
def test_the_crop_of_a_long_image_is_that_of_the_whole(size, monkeypatch) -> None:
    side = 2
    width, height = size
    ramp = np.add.outer(np.arange(height) * 7, np.arange(width) * 5) % 200 + 20
    image = Image.fromarray(ramp.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    assert max(size) * side > LONG * side * min(size)
    cropped = np.asarray(center_crop_adm(image, side)).astype(int)
    monkeypatch.setattr("unite.domains.transforms.LONG", 10**6)
    whole = np.asarray(center_crop_adm(image, side)).astype(int)
    assert np.abs(cropped - whole).max() <= 1


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("make", [png_that_claims, jpeg_that_claims])
def test_a_bomb_is_refused_by_its_header(make) -> None:
    data = make(50_000, MAX_PIXELS // 50_000 + 1)
    assert len(data) < 2000
    with pytest.raises(ValueError, match="more than 134,217,728 pixels: 50,000 x 2,685"):
        decode_image(data, 8, 3)


def test_a_larger_bomb_than_pillow_opens_is_a_bad_row_too() -> None:
    with pytest.raises(ValueError, match="DecompressionBomb"):
        decode_image(png_that_claims(2**20, 2**20), 8, 3)


def test_kinds_that_start_programs_are_not_tried(monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **kwargs: asked.append(args))
    data = file_of(Image.new("RGB", (8, 8)), "EPS")
    with pytest.raises(ValueError, match="not a readable image"):
        decode_image(data, 8, 3)
    assert not asked
    with pytest.raises(ValueError, match="not a readable image"):
        open_image(file_of(Image.new("RGB", (8, 8)), "PPM"))


def test_what_is_none_of_the_kinds_is_named_alike_each_time() -> None:
    """Pillow's text holds an address of memory, which went into lists of bad rows."""
    with pytest.raises(ValueError, match="it begins like none of JPEG, PNG, .*, TIFF$"):
        decode_image(b"\0\0\0 ftypavif", 8, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_kinds_that_are_read(kind) -> None:
    pixels = decode_image(file_of(Image.new("RGB", (8, 8), (200, 100, 50)), kind), 8, 3)
    assert np.abs(pixels[0, 0].astype(int) - (200, 100, 50)).max() <= 5


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_grey_without_a_white_is_a_bad_row(kind) -> None:
    data = file_of(Image.fromarray(np.full((8, 8), 1, kind)), "TIFF")
    domain = build_domain(ImagesConfig(size=8, patch=2, num_classes=10))
    _, bad = domain.decode_rows({"image": [data], "label": [0]})
    assert len(bad) == 1 and "has no fixed white" in bad[0][1]


def tiff(values: np.ndarray, *, bits: int, photometric: int = 1) -> bytes:
    """A little-endian TIFF of one strip of grey values that are packed already."""
    height, width = 4, 4
    strip = values.tobytes()
    entries = [
        (256, 3, width),
        (257, 3, height),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8),
        (277, 3, 1),
        (278, 3, height),
        (279, 4, len(strip)),
    ]
    directory = struct.pack("<H", len(entries))
    for tag, kind, value in entries:
        directory += struct.pack("<HHII", tag, kind, 1, value)
    return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + directory + bytes(4)


def test_deep_grey_keeps_its_highest_bits() -> None:
    grey = np.full(16, 200 * 256 + 99, np.uint16)
    assert (read_pixels(tiff(grey, bits=16), 1) == 200).all()
    assert (read_pixels(tiff(grey, bits=16, photometric=0), 1) == 55).all()
    # Two values of 12 bits, 0xC85 = 200 * 16 + 5, in three bytes.
    packed = np.tile(np.array([0xC8, 0x5C, 0x85], np.uint8), 8)
    assert (read_pixels(tiff(packed, bits=12), 1) == 200).all()


def test_a_pointer_in_the_place_of_an_image_is_named() -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1000\n"
    with pytest.raises(ValueError, match="not a readable image: it is a Git LFS pointer"):
        decode_image(pointer, 8, 3)
