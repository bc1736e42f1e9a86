"""Images are named and encoded as MLflow itself does it, so that its UI finds them."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image

from unite.tracking.images import ImageId, check_image, encode_image, parse_image_name
from unite.tracking.server import connect


def test_png_is_lossless_and_the_thumbnail_small():
    image_HWC = np.random.default_rng(0).integers(0, 256, (300, 600, 3), np.uint8)
    encoded = encode_image("samples", image_HWC, 5, 1)
    (png,) = [data for name, data in encoded.items() if name.endswith(".png")]
    (webp,) = [data for name, data in encoded.items() if name.endswith(".webp")]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), image_HWC)
    assert Image.open(io.BytesIO(webp)).size == (256, 128)


def test_grey_images_are_taken():
    image_HWC = np.full((8, 8, 1), 7, np.uint8)
    png = next(iter(encode_image("digits", image_HWC, 0, 1).values()))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), image_HWC[:, :, 0])


def test_names_can_be_read_back(gradient):
    png, webp = encode_image("eval/samples", gradient, 4096, 1)
    assert parse_image_name(png) == ImageId("eval/samples", 4096, False)
    assert parse_image_name(webp) == ImageId("eval/samples", 4096, True)
    assert parse_image_name("images/other.png") is None


def test_names_are_those_of_mlflow(sqlite_run, gradient):
    client = connect(sqlite_run.uri)
    client.log_image(sqlite_run.run_id, gradient, key="eval/samples", step=4096, timestamp=17)
    theirs = {file.path for file in client.list_artifacts(sqlite_run.run_id, "images")}
    ours = set(encode_image("eval/samples", gradient, 4096, 17))

    def without_uuid(names):
        return {re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "UUID", name) for name in names}

    assert without_uuid(ours) == without_uuid(theirs)
    assert all(parse_image_name(name) for name in theirs)


@pytest.mark.parametrize(
    "key, image",
    [
        ("no spaces", np.zeros((4, 4, 3), np.uint8)),
        ("samples", np.zeros((4, 4, 3), np.float32)),
        ("samples", np.zeros((4, 4), np.uint8)),
        ("samples", np.zeros((3, 4, 5), np.uint8)),
    ],
)
def test_other_images_are_refused(key, image):
    with pytest.raises(ValueError, match="image"):
        check_image(key, image)
