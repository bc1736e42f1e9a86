"""Pretrained files: by digest, wherever they are, and a message that says what to fetch."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest

from unite.storage import Store
from unite.weights import MissingWeightsError, Pretrained, find_weights, weights_folders

WANTED = Pretrained(
    file="usual.pth",
    digest=hashlib.sha256(b"weights").hexdigest(),
    num_bytes=7,
    purpose="Tests need it",
    remedy="Ask for it.",
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's cache at an empty place, and no UNITE_WEIGHTS."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("UNITE_WEIGHTS", raising=False)
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.parametrize("place", ["folder", "environment", "cache"])
@pytest.mark.parametrize("name", ["usual.pth", "renamed.pt"])
def test_found_by_digest_under_any_name(tmp_path, cache, monkeypatch, place, name):
    folder = cache if place == "cache" else tmp_path / "weights"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(b"weights")
    (folder / "another.pth").write_bytes(b"others!")
    if place == "environment":
        monkeypatch.setenv("UNITE_WEIGHTS", str(folder))
    weights = str(folder) if place == "folder" else ""
    assert find_weights(WANTED, weights) == Store.open(folder) / name
    anything = dataclasses.replace(WANTED, num_bytes=0)
    assert find_weights(anything, weights).read() == b"weights"


def test_found_on_s3(cache, s3):
    Store.open(s3).write("models/usual.pth", b"weights")
    assert find_weights(WANTED, f"{s3}/models").read() == b"weights"


def test_missing_file_says_what_to_get_and_where_it_looked(tmp_path, cache):
    with pytest.raises(MissingWeightsError) as caught:
        find_weights(WANTED, str(tmp_path / "w"))
    text = str(caught.value)
    said = ("Tests need it", "usual.pth (7 bytes)", WANTED.digest, str(tmp_path / "w"), str(cache))
    assert all(part in text for part in (*said, "UNITE_WEIGHTS", "Ask for it."))


def test_an_incomplete_download_is_named(tmp_path, cache):
    (tmp_path / "usual.pth").write_bytes(b"half")
    with pytest.raises(MissingWeightsError, match="usual.pth has another SHA-256"):
        find_weights(WANTED, str(tmp_path))
    (tmp_path / "usual.pth").write_bytes(b"version https://git-lfs.github.com/spec/v1\nsize 7\n")
    with pytest.raises(MissingWeightsError, match="usual.pth is a Git LFS pointer"):
        find_weights(WANTED, str(tmp_path))


def test_foreign_files_of_another_size_are_not_read(tmp_path, cache, monkeypatch):
    (tmp_path / "huge.pth").write_bytes(b"something else")
    (tmp_path / "folder.pth").mkdir()
    monkeypatch.setattr(Store, "digest", lambda *_: pytest.fail("hashed"))
    with pytest.raises(MissingWeightsError):
        find_weights(WANTED, str(tmp_path))


def test_torchs_cache_is_where_torch_says(monkeypatch, tmp_path):
    import torch

    for variable in ("TORCH_HOME", "XDG_CACHE_HOME", "UNITE_WEIGHTS"):
        monkeypatch.delenv(variable, raising=False)
    for variable in (None, "XDG_CACHE_HOME", "TORCH_HOME"):
        if variable:
            monkeypatch.setenv(variable, str(tmp_path / variable))
        (place,) = weights_folders("")
        assert place == Store.open(Path(torch.hub.get_dir()) / "checkpoints")
