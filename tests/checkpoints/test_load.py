"""`unite.load` on every layout, and what it refuses."""

import io
import json
import os
import pickle
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

import unite
from unite.checkpoints.export import write_export
from unite.checkpoints.metadata import config_metadata
from unite.checkpoints.store import CheckpointError, CheckpointWriter, read_marker
from unite.config.schema import (
    CheckpointConfig,
    DecoderConfig,
    EncoderConfig,
    ImagesConfig,
    ModelConfig,
    RunConfig,
)
from unite.config.serialise import to_dict
from unite.domains import build_domain
from unite.models import UNITE
from unite.runs import read_run_config
from unite.storage import Store

FIXTURE = Path(__file__).parents[1] / "parity" / "authors_tiny"
MODEL = ModelConfig(
    num_registers=16,
    latent_dim=4,
    encoder=EncoderConfig(depth=2, width=32, num_heads=4, in_context_tokens=2, in_context_start=1),
    decoder=DecoderConfig(depth=1, width=64, num_heads=1, mlp_width=48, stem_width=24),
)
RUN = RunConfig(domain=ImagesConfig(size=8, patch=2, num_classes=10), model=MODEL)


def build(run: RunConfig = RUN) -> UNITE:
    model = UNITE(run.model, build_domain(run.domain), run.flow)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


def same(left: UNITE, right: UNITE) -> bool:
    ours, theirs = left.state_dict(), right.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


def save_run(uri: str, run: RunConfig = RUN, images: tuple[int, ...] = (100,)) -> dict[int, UNITE]:
    """A run with committed checkpoints whose averaged weights are the returned models'."""
    config = CheckpointConfig(asynchronous=False, keep_last=9)
    writer = CheckpointWriter(run=Store.open(uri), config=config)
    models = {}
    for count in images:
        models[count] = build(run)
        averaged = {name: t.detach() for name, t in models[count].state_dict().items()}
        weights = {name: tensor + 1 for name, tensor in averaged.items()}
        state = {"images": count, "step": 1, "config": to_dict(run), "metrics": {}}
        parts = {"model": weights, "ema": averaged, "optimizer": {"step": torch.zeros(1)}}
        writer.save(parts, state)
    writer.close()
    return models


@pytest.mark.parametrize("sharing", ["shared", "separate"])
def test_run_and_checkpoint_folders(tmp_path: Path, sharing: str) -> None:
    run = replace(RUN, model=replace(MODEL, sharing=sharing))
    models = save_run(str(tmp_path), run, (100, 2000))
    newest = unite.load(str(tmp_path))
    assert same(newest, models[2000]) and not newest.training
    assert newest.config == run.model and newest.domain.config == run.domain
    older = tmp_path / "checkpoints" / f"{100:012d}"
    assert same(unite.load(str(older)), models[100])
    raw = unite.load(str(older), ema=False)
    assert torch.equal(raw.decoder.class_token, models[100].decoder.class_token + 1)
    assert same(unite.load(str(older / "ema.safetensors")), models[100])


@torch.no_grad()
def test_a_loaded_model_computes_what_the_saved_one_did_and_can_be_trained(tmp_path: Path) -> None:
    model = save_run(str(tmp_path))[100]
    loaded = unite.load(str(tmp_path))
    z_BKD, t_B = torch.randn(2, 16, 4), torch.rand(2)
    assert torch.equal(loaded.denoise(z_BKD, t_B), model.denoise(z_BKD, t_B))
    with torch.enable_grad():
        loaded.denoise(z_BKD, t_B).sum().backward()
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert not any(tensor.is_meta for tensor in (*loaded.parameters(), *loaded.buffers()))


def test_export_folder_and_its_file(tmp_path: Path) -> None:
    model = build()
    write_export(model, to_dict(RUN), Store.open(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["config.json", "model.safetensors"]
    assert same(unite.load(str(tmp_path)), model)
    assert same(unite.load(str(tmp_path / "model.safetensors")), model)


def test_s3(s3: str) -> None:
    model = save_run(f"{s3}/run")[100]
    assert same(unite.load(f"{s3}/run"), model)
    write_export(model, to_dict(RUN), Store.open(f"{s3}/export"))
    assert same(unite.load(f"{s3}/export"), model)
    Store.open(s3).write("bare.pt", _torch_file({"model": model.state_dict()}))
    assert same(unite.load(f"{s3}/bare.pt", ema=False, encoder_heads=4, in_context_start=1), model)


def _torch_file(content: object) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


@pytest.mark.parametrize("sharing", ["shared", "separate"])
def test_bare_state_dict_in_our_names(tmp_path: Path, sharing: str) -> None:
    model = build(replace(RUN, model=replace(MODEL, sharing=sharing)))
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save(state, tmp_path / "bare.pt")
    loaded = unite.load(str(tmp_path / "bare.pt"), in_context_start=1)
    assert same(loaded, model) and loaded.config == model.config


def test_a_lone_file_with_its_config_inside(tmp_path: Path) -> None:
    model = build()
    path = tmp_path / "lone.safetensors"
    safetensors.torch.save_file(model.state_dict(), path, config_metadata(to_dict(RUN)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = unite.load(str(path))
    assert same(loaded, model) and loaded.config == RUN.model and loaded.flow == RUN.flow


def test_a_guess_that_may_be_wrong_is_told_and_an_impossible_one_refused(tmp_path: Path) -> None:
    torch.save(build().state_dict(), tmp_path / "bare.pt")
    with pytest.raises(CheckpointError, match="which of the 2 blocks.*give in_context_start"):
        unite.load(str(tmp_path / "bare.pt"))
    deep = replace(MODEL, encoder=replace(MODEL.encoder, depth=5))
    torch.save(build(replace(RUN, model=deep)).state_dict(), tmp_path / "deep.pt")
    with pytest.warns(UserWarning, match="assumed.*in_context_start 4.*give in_context_start"):
        assert unite.load(str(tmp_path / "deep.pt")).config.encoder.in_context_start == 4
    without = replace(MODEL, encoder=replace(MODEL.encoder, in_context_tokens=0))
    torch.save(build(replace(RUN, model=without)).state_dict(), tmp_path / "without.pt")
    said = "assumed, as in the paper's models: decoder_heads 1, tokenize_t_max 0.01, shift 0.5. If"
    with pytest.warns(UserWarning, match=said):
        unite.load(str(tmp_path / "without.pt"))


@pytest.fixture(scope="module")
def released() -> dict[str, Tensor]:
    return safetensors.torch.load_file(FIXTURE / "state_dict.safetensors")


def test_authors_files(tmp_path: Path, released) -> None:
    expected = unite.load(str(FIXTURE))
    assert same(unite.load(str(FIXTURE / "state_dict.safetensors")), expected)
    other = {f"module.{name}": tensor * 2 for name, tensor in released.items()}
    nested = {"epoch": 7, "model": other, "ema": released, "optimizer": {"lr": 1e-4}}
    torch.save(nested, tmp_path / "checkpoint.pt")
    path = str(tmp_path / "checkpoint.pt")
    assert same(unite.load(path, decoder_heads=2), expected)
    with pytest.raises(CheckpointError, match="rotary angles"):
        unite.load(path, ema=False, decoder_heads=2)
    (tmp_path / "config.json").write_text((FIXTURE / "config.json").read_text())
    assert unite.load(path).config.decoder.num_heads == 2


def test_a_legacy_torch_file_is_read(tmp_path: Path, released) -> None:
    path = tmp_path / "old.pth"
    torch.save(released, path, _use_new_zipfile_serialization=False)
    assert same(unite.load(str(path), decoder_heads=2), unite.load(str(FIXTURE)))


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is nothing at .*nowhere"):
        unite.load(str(tmp_path / "nowhere"))


def test_uncommitted_and_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    save_run(str(tmp_path))
    folder = tmp_path / "checkpoints" / f"{100:012d}"
    weights = folder / "ema.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match="does not match the digest"):
        unite.load(str(tmp_path))
    (folder / "COMMITTED").unlink()
    with pytest.raises(CheckpointError, match="no committed checkpoint yet"):
        unite.load(str(tmp_path))
    with pytest.raises(CheckpointError, match="not a committed checkpoint"):
        unite.load(str(folder))


def test_folders_and_files_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no model.*no files"):
        unite.load(str(tmp_path))
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(CheckpointError, match="notes.txt"):
        unite.load(str(tmp_path))
    with pytest.raises(CheckpointError, match="no weights file"):
        unite.load(str(tmp_path / "notes.txt"))
    for name in ("cut.safetensors", "cut.pt"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(CheckpointError, match=f"{name} .*is damaged.*'nothing of the kind'"):
            unite.load(str(tmp_path / name))


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (LFS, "is a Git LFS pointer.*12,345 bytes: .*`git lfs pull`"),
        (b"<!DOCTYPE html>\n<html><body>Sign in", "is a web page"),
        (b"", "is empty"),
    ],
)
def test_what_stands_in_for_weights_is_named(tmp_path: Path, name, content, says) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name} {says}") as caught:
        unite.load(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_a_cut_file_is_told_without_torchs_advice(tmp_path: Path) -> None:
    torch.save(build().state_dict(), tmp_path / "whole.pt")
    safetensors.torch.save_file(build().state_dict(), tmp_path / "whole.safetensors")
    for name in ("whole.pt", "whole.safetensors"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(CheckpointError, match=f"{name} is damaged.*cut short") as caught:
            unite.load(str(tmp_path / name))
        assert "weights_only" not in str(caught.value) and "\x1b" not in str(caught.value)


@pytest.mark.parametrize("kind", ["export", "torch"])
def test_links_of_a_model_cache_are_read_by_content(tmp_path: Path, kind: str) -> None:
    """A cache keeps blobs without endings, and links that have the names."""
    model, (blobs, place) = build(), (tmp_path / "blobs", tmp_path / "snapshots" / "abc")
    write_export(model, to_dict(RUN), Store.open(tmp_path / "export"))
    name = "model.safetensors"
    if kind == "torch":
        name = "last.pt"
        torch.save({"model": model.state_dict()}, tmp_path / "export" / name)
    blobs.mkdir()
    place.mkdir(parents=True)
    for number, file in enumerate((name, "config.json")):
        (tmp_path / "export" / file).rename(blobs / f"{number}")
        (place / file).symlink_to(f"../../blobs/{number}")
    assert same(unite.load(str(place / name), ema=False), model)
    assert unite.load(str(place / name), ema=False).config == RUN.model, "config.json is beside"
    if kind == "export":
        assert same(unite.load(str(place)), model)
        assert same(unite.load(str(blobs / "0")), model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("share", [1, 2])
def test_weights_of_another_precision_are_cast_and_told(tmp_path: Path, dtype, share) -> None:
    model = build()
    state = model.state_dict()
    cast = dict(list(state.items())[::share])
    state |= {name: tensor.to(dtype) for name, tensor in cast.items()}
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(state, path, config_metadata(to_dict(RUN)))
    told = f"{len(cast)} of {len(state)} weights are {str(dtype)[6:]}; .*cast to float32"
    with pytest.warns(UserWarning, match=told):
        loaded = unite.load(str(path))
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, state[name].float())
    assert loaded.tokenize(torch.rand(2, 3, 8, 8)).dtype == torch.float32


def test_an_authors_file_of_bfloat16_is_cast(tmp_path: Path, released) -> None:
    half = {name: tensor.bfloat16() for name, tensor in released.items()}
    rotary = {name: tensor for name, tensor in released.items() if "freqs" in name}
    torch.save({"ema": half | rotary}, tmp_path / "half.pt")
    (tmp_path / "config.json").write_text((FIXTURE / "config.json").read_text())
    with pytest.warns(UserWarning, match="are bfloat16"):
        loaded = unite.load(str(tmp_path / "half.pt"))
    expected = unite.load(str(FIXTURE)).state_dict()
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, expected[name].bfloat16().float()), name


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    state = build().state_dict()
    state["tokenizer.input.weight"] = state["tokenizer.input.weight"].to(torch.int8)
    torch.save(state, tmp_path / "int8.pt")
    (tmp_path / "config.json").write_text(json.dumps(to_dict(RUN)))
    with pytest.raises(CheckpointError, match="1 weights are int8.*tokenizer.input.weight"):
        unite.load(str(tmp_path / "int8.pt"))


def test_one_of_several_averages_is_loaded_by_name(tmp_path: Path) -> None:
    first, second = build(), build()
    averages = {"ema_0": first.state_dict(), "ema_1": second.state_dict()}
    torch.save(averages, tmp_path / "several.pt")
    (tmp_path / "config.json").write_text(json.dumps(to_dict(RUN)))
    path = str(tmp_path / "several.pt")
    assert same(unite.load(path, state="ema_1"), second)
    with pytest.warns(UserWarning, match="taken: ema_0"):
        assert same(unite.load(path), first)
    save_run(str(tmp_path / "run"))
    with pytest.raises(CheckpointError, match="choose by `ema`"):
        unite.load(str(tmp_path / "run"), state="ema_1")


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("COMMITTED", {"sha256": None}, "'sha256' = 'None', which is not an object"),
        ("COMMITTED", None, "is not JSON, it is damaged or cut short"),
        ("state.json", {"config": "text"}, "'config' = 'text', which is not an object"),
    ],
)
def test_damaged_json_of_a_checkpoint_is_named(tmp_path: Path, file, change, says) -> None:
    save_run(str(tmp_path))
    path = tmp_path / "checkpoints" / f"{100:012d}" / file
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | change) if change else path.read_text()[:9])
    with pytest.raises(CheckpointError, match=f"{file} .*{says}"):
        read_marker(Store.open(path.parent)), read_run_config(str(path.parent))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": 3}, "model = 3 is not"),
        ({"model": None}, "model = None is not"),
        ({"training": {"batch_size": "many"}}, "training.batch_size = 'many' is not"),
        ({"sampling": {"solver": "hein"}}, "sampling.solver = 'hein' is not"),
        ({"flow": {"shfit": 1.0}}, "no field 'shfit'"),
    ],
)
def test_a_damaged_config_is_named_with_its_field(tmp_path: Path, change, says) -> None:
    write_export(build(), to_dict(RUN), Store.open(tmp_path))
    config = json.dumps(to_dict(RUN) | change)
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(CheckpointError, match=f"config.json .*{says}"):
        read_run_config(str(tmp_path))
    (tmp_path / "config.json").write_text(config[:50])
    with pytest.raises(CheckpointError, match="config.json is not JSON"):
        read_run_config(str(tmp_path))


def test_a_config_without_a_part_is_not_taken_for_another_kind(tmp_path: Path) -> None:
    config = to_dict(RUN)
    del config["model"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="config.json .*no field 'model'"):
        read_run_config(str(tmp_path))


def test_another_architecture_is_refused_key_by_key(tmp_path: Path) -> None:
    state = build().state_dict()
    state["tokenizer.extra"] = torch.zeros(1)
    del state["decoder.norm.bias"]
    state["tokenizer.input.bias"] = torch.zeros(3)
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(to_dict(RUN)))
    with pytest.raises(CheckpointError, match="another architecture") as caught:
        unite.load(str(tmp_path))
    text = str(caught.value)
    assert "missing: decoder.norm.bias" in text and "unexpected: tokenizer.extra" in text
    assert "tokenizer.input.bias (3,), not (32,)" in text


def test_authors_files_of_another_architecture_are_refused(tmp_path: Path, released) -> None:
    state = {**released, "encoder.extra.weight": torch.zeros(2)}
    del state["decoder.decoder_norm.bias"]
    safetensors.torch.save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="encoder.extra.weight.*decoder.decoder_norm.bias"):
        unite.load(str(tmp_path / "other.safetensors"), decoder_heads=2)


class _Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_file_that_would_run_code_is_not_opened(tmp_path: Path, writer: str, released) -> None:
    target = tmp_path / "touched"
    content = {"model": released, "args": _Malicious(target)}
    path = tmp_path / "evil.pt"
    if writer == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError, match="not opened, because that could run code"):
        unite.load(str(path))
    assert not target.exists()


def test_importing_the_package_is_cheap_and_its_names_are_there() -> None:
    code = (
        "import sys, unite\n"
        "assert not {'torch', 'numpy', 'ray', 'mlflow', 'pyarrow'} & set(sys.modules)\n"
        "assert unite.UNITE.__name__ == 'UNITE' and callable(unite.load) and unite.__version__\n"
        "assert not {'ray', 'mlflow', 'boto3'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="nothing"):
        unite.nothing  # noqa: B018
