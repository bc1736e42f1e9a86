"""A file's kind by its first bytes."""

import io
import pickle
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch

from unite.content import HEAD_BYTES, beginning, kind_of, stand_in

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


def written(write) -> bytes:
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def tar(stream) -> None:
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))


FILES = {
    "safetensors": safetensors.torch.save({"w": torch.zeros(2)}),
    "zip": written(lambda stream: torch.save({"w": torch.zeros(2)}, stream)),
    "numpy": written(lambda stream: np.save(stream, np.zeros(2))),
    "pickle": pickle.dumps({"w": 1}),
    "parquet": written(lambda stream: pq.write_table(pa.table({"a": [1]}), stream)),
    "tar": written(tar),
    "text": b"a text with {braces}",
    "unknown": bytes(range(1, 200)),
}


@pytest.mark.parametrize("kind", FILES)
def test_kinds_are_told_from_real_files(kind):
    assert kind_of(FILES[kind][:HEAD_BYTES]) == kind
    assert stand_in(FILES[kind][:HEAD_BYTES]) == ""


def test_a_cut_character_is_still_text():
    assert kind_of("gr\u00fc\u00df".encode()[:-1]) == "text"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (POINTER, "Git LFS pointer.*of 12,345 bytes.*`git lfs pull`"),
        (b"../../.git/annex/objects/xx/SHA256E-s1--0.pt", "git-annex pointer"),
        (b"/annex/objects/SHA256E-s1--0.pt\n", "git-annex pointer"),
        (b"\n <!DOCTYPE html><html>", "web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "web page"),
        (b"", "is empty"),
    ],
)
def test_what_stands_in_for_data_is_named(data, says):
    import re

    assert re.match(f"is .*{says}|{says}", stand_in(data))


def test_a_byte_order_mark_makes_no_other_kind_of_a_text():
    assert kind_of(b"\xef\xbb\xbfIndex,Elements\r\n") == "text"


def test_other_kinds_are_described():
    assert beginning(b"404 not found\nmore") == "is text that begins with '404 not found'"
    assert beginning(FILES["parquet"]) == "is a parquet file"
    assert beginning(FILES["unknown"]) == "is of an unknown kind"
