"""Pretrained files of LPIPS: found by their digest, and named where they are missing."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest

from unite.training import vgg
from unite.training.vgg import VGG, require_perceptual
from unite.weights import MissingWeightsError


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's cache at an empty place, and no UNITE_WEIGHTS."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("UNITE_WEIGHTS", raising=False)
    return tmp_path / "hub" / "checkpoints"


def test_vgg_is_found_in_the_configured_folder(tmp_path: Path, no_cache: Path) -> None:
    file = tmp_path / VGG.file
    file.write_bytes(b"weights")
    wanted = dataclasses.replace(VGG, digest=digest_of(file), num_bytes=0)
    assert require_perceptual(str(tmp_path), wanted=wanted) == str(file)


def test_missing_file_says_what_to_get_and_where_it_looked(tmp_path: Path, no_cache: Path) -> None:
    with pytest.raises(MissingWeightsError) as caught:
        require_perceptual(str(tmp_path / "w"))
    text = str(caught.value)
    for part in (
        VGG.file,
        VGG.digest,
        str(tmp_path / "w"),
        str(no_cache),
        "torchvision.models.vgg16",
        "UNITE_WEIGHTS",
        "loss.perceptual.weight to 0",
    ):
        assert part in text
    assert VGG.digest.startswith(VGG.file.removesuffix(".pth").rpartition("-")[2])


def test_changed_heads_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vgg, "HEADS_DIGEST", "0" * 64)
    with pytest.raises(MissingWeightsError, match="reinstall the package lpips"):
        require_perceptual("")
