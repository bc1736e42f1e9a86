"""The released names: mapping both ways, the report of keys, nested layouts."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import unite
from unite.checkpoints.authors import find_state, to_ours, to_theirs
from unite.checkpoints.infer import Hints, hints_from_config, infer_configs
from unite.checkpoints.store import CheckpointError
from unite.config.recipes import decoder, encoder

FIXTURE = Path(__file__).parents[1] / "parity" / "authors_tiny"
RELEASED = Path(__file__).parents[1] / "parity" / "released_parameters.json"
SIZES = {"UNITE-B": "BB", "UNITE-L": "LB", "UNITE-XL": ("XL", "B"), "UNITE-L_decL": "LL"}


@pytest.fixture(scope="module")
def released() -> dict[str, torch.Tensor]:
    return load_file(FIXTURE / "state_dict.safetensors")


def test_every_key_is_mapped_or_dropped_for_a_reason(released) -> None:
    ours, report = to_ours(released)
    assert set(report.mapped) | set(report.dropped) == set(released)
    assert not report.unknown and not report.missing
    assert set(report.dropped) == {
        "encoder.pos_embed",
        "encoder.t_embedder.special_time_emb",
        *(
            f"encoder.feat_rope{kind}.freqs_{part}"
            for kind in ("", "_incontext")
            for part in ("cos", "sin")
        ),
    }
    assert set(ours) == set(unite.load(str(FIXTURE)).state_dict())
    assert len(list(report.lines())) == len(released)


def test_round_trip(released) -> None:
    released = dict(released)
    ours, report = to_ours(released)
    theirs = to_theirs(ours)
    assert set(theirs) == set(report.mapped)
    positions = released["patch_embed.position_embeddings"].clone()
    positions[:, 0] = 0  # Nothing uses that row: it returns as zeros.
    released["patch_embed.position_embeddings"] = positions
    for name, tensor in theirs.items():
        assert torch.equal(tensor, released[name]), name


def test_unknown_and_missing_keys_are_named(released) -> None:
    state = {f"module.{name}": tensor for name, tensor in released.items()}
    del state["module.encoder.blocks.2.mlp.w12.weight"], state["module.latent_tokens"]
    state["module.encoder.extra"] = torch.zeros(1)
    _, report = to_ours(state)
    assert report.unknown == ("module.encoder.extra",)
    assert set(report.missing) == {"encoder.blocks.2.mlp.w12.weight", "latent_tokens"}
    assert "unknown  module.encoder.extra" in list(report.lines())


def test_a_class_token_with_a_position_is_refused(released) -> None:
    table = released["decoder.decoder_pos_embed"].clone()
    table[0, 0, 3] = 1.0
    with pytest.raises(CheckpointError, match="class token"):
        to_ours({**released, "decoder.decoder_pos_embed": table})


def test_what_the_release_cannot_hold_is_refused() -> None:
    with pytest.raises(CheckpointError, match="separate_denoiser.registers"):
        to_theirs({"separate_denoiser.registers": torch.zeros(1)})


@pytest.mark.parametrize("size", SIZES)
def test_architectures_of_the_release_are_read_from_shapes(size: str) -> None:
    entry = json.loads(RELEASED.read_text())[size]
    shapes = {}
    for name, (_, *shape) in entry["parameters"].items():
        kind = next((kind for kind in entry["blocks"] if f"{kind}.{{i}}." in name), None)
        for index in range(entry["blocks"][kind] if kind else 1):
            shapes[name.replace("{i}", str(index))] = shape
    with torch.device("meta"):
        state = {name: torch.empty(shape) for name, shape in (shapes | entry["buffers"]).items()}
    ours, report = to_ours(state)
    images, model, flow = infer_configs(ours, Hints(in_context_start=4))
    encoder_size, decoder_size = SIZES[size]
    assert not report.unknown and not report.missing
    assert model.encoder == encoder(encoder_size)
    assert model.decoder == decoder(decoder_size)
    assert (model.num_registers, model.latent_dim, flow.shift) == (256, 32, 0.5)
    assert (images.size, images.patch, images.channels, images.num_classes) == (256, 16, 3, 1000)


def test_heads_without_qk_norm_come_from_the_rotary_buffer_or_the_caller(released) -> None:
    bare = {name: tensor for name, tensor in released.items() if "_norm.weight" not in name}
    bare |= {name: released[name] for name in released if name.startswith(("decoder.", "encoder_"))}
    ours, report = to_ours(bare)
    assert not report.missing
    hints = Hints(decoder_heads=2, in_context_start=4)
    assert infer_configs(ours, hints, rotary_width=12)[1].encoder.num_heads == 4
    assert infer_configs(ours, hints, rotary_width=12)[1].encoder.qk_norm is False
    with pytest.raises(CheckpointError, match="encoder_heads"):
        infer_configs(ours, hints)
    given = Hints(decoder_heads=2, encoder_heads=8, in_context_start=4)
    assert infer_configs(ours, given)[1].encoder.num_heads == 8


def test_decoder_heads_that_shapes_cannot_tell_are_asked_for(released) -> None:
    with pytest.raises(CheckpointError, match="decoder_heads"):
        infer_configs(to_ours(released)[0], Hints(in_context_start=4))


def test_hints_from_the_config_beside_the_file() -> None:
    hints = hints_from_config(json.loads((FIXTURE / "config.json").read_text()))
    assert hints == Hints(encoder_heads=4, decoder_heads=2, in_context_start=4)
    assert hints_from_config({}) == Hints(in_context_start=4)


def test_nested_layouts_and_the_choice_of_averaged_weights(released) -> None:
    averaged = {f"module.{name}": tensor + 1 for name, tensor in released.items()}
    content = {"epoch": 3, "model": released, "optimizer": {"state": {}}, "ema": averaged}
    assert find_state(content, ema=False) == released
    assert set(find_state(content, ema=True)) == set(averaged)
    assert set(find_state({"state": {"ema_model": averaged}}, ema=True)) == set(averaged)
    assert find_state(released, ema=True) == released
    with pytest.warns(UserWarning, match="no averaged weights.*/model"):
        find_state({"model": released}, ema=True)
    with pytest.raises(CheckpointError, match="only averaged weights under /ema"):
        find_state({"ema": averaged}, ema=False)
    with pytest.raises(CheckpointError, match="no weights of a UNITE model; it has: weights"):
        find_state({"weights": {"conv": torch.zeros(1)}}, ema=True)
