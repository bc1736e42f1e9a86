"""Objects on S3: whole or not at all, conditional, and given up in time."""

from __future__ import annotations

import pytest

from unite import objects
from unite.objects import ConflictError, read_tagged, upload, write_if


@pytest.mark.parametrize("size", [0, 10, 6 * 2**20, 17 * 2**20])
def test_pieces_come_back_as_one_object(s3, monkeypatch, size):
    monkeypatch.setattr(objects, "PART_BYTES", 5 * 2**20)
    data = bytes(range(256)) * (size // 256 + 1)
    pieces = (data[i : min(i + 1_000_003, size)] for i in range(0, size, 1_000_003))
    upload(f"{s3}/x", pieces)
    assert read_tagged(f"{s3}/x")[0] == data[:size]


@pytest.mark.parametrize("size", [10, 17 * 2**20])
def test_an_upload_that_fails_leaves_what_was_there(s3, monkeypatch, size):
    monkeypatch.setattr(objects, "PART_BYTES", 5 * 2**20)
    upload(f"{s3}/x", [b"before"])

    def pieces():
        for start in range(0, size, 2**20):
            yield bytes(min(2**20, size - start))
        raise MemoryError("at the very end")

    with pytest.raises(MemoryError):
        upload(f"{s3}/x", pieces())
    assert read_tagged(f"{s3}/x")[0] == b"before"


def test_of_two_conditional_writes_one_succeeds(s3):
    tag = write_if(f"{s3}/x", b"1", None)
    with pytest.raises(ConflictError):
        write_if(f"{s3}/x", b"2", None)
    second = write_if(f"{s3}/x", b"2", tag)
    with pytest.raises(ConflictError):
        write_if(f"{s3}/x", b"3", tag)
    assert read_tagged(f"{s3}/x") == (b"2", second)
    assert read_tagged(f"{s3}/y") is None


def test_errors_of_the_store_are_os_errors(s3, monkeypatch):
    with pytest.raises(OSError, match="NoSuchBucket"):
        write_if("s3://no-such-bucket-at-all/x", b"", None)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(OSError, match="Could not connect"):
        upload(f"{s3}/x", [b"1"])
