"""The released names: mapping both ways, the report of keys, nested layouts."""

import json
import re
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
    said = {"tokenize_t_max": 0.01, "shift": 0.5}
    assert hints == Hints(encoder_heads=4, decoder_heads=2, in_context_start=4, **said)
    assert hints_from_config({}) == Hints(in_context_start=4)


def test_nested_layouts_and_the_choice_of_averaged_weights(released) -> None:
    averaged = {f"module.{name}": tensor + 1 for name, tensor in released.items()}
    content = {"epoch": 3, "model": released, "optimizer": {"state": {}}, "ema": averaged}
    assert find_state(content, ema=False) == released
    mark = "latent_tokens"
    for nested in (content, {"state": {"ema_model": averaged}}):
        found = find_state(nested, ema=True)
        assert set(found) == set(released) and torch.equal(found[mark], released[mark] + 1)
    assert find_state(released, ema=True) == released
    with pytest.warns(UserWarning, match="no averaged weights.*under model"):
        find_state({"model": released}, ema=True)
    with pytest.raises(CheckpointError, match="only averaged weights under ema"):
        find_state({"ema": averaged}, ema=False)
    with pytest.raises(CheckpointError, match="no weights of a UNITE model; it has: weights"):
        find_state({"weights": {"conv": torch.zeros(1)}}, ema=True)


@pytest.mark.parametrize(
    "prefix",
    [
        "_forward_module.",
        "module.",
        "_orig_mod.",
        "model.",
        "_forward_module.module._orig_mod.",
        "_orig_mod._forward_module.module.",
        "module._fsdp_wrapped_module.model._orig_mod.",
        "model._checkpoint_wrapped_module.module.",
        "net.unite.",
    ],
)
def test_prefixes_are_taken_off_in_any_order(released, prefix) -> None:
    found = find_state({"state_dict": {prefix + n: t for n, t in released.items()}}, ema=False)
    assert found == released
    found = find_state({prefix + n: t for n, t in released.items()}, ema=True)
    assert found == released


def test_wrappers_inside_of_names_are_taken_off(released) -> None:
    wrapped = {re.sub(r"(blocks|layers)\.(\d+)\.", r"\1.\2._orig_mod.", n): n for n in released}
    assert wrapped.keys() != released.keys()
    state = {f"module.{inner}": released[name] for inner, name in wrapped.items()}
    assert find_state(state, ema=False) == released


def test_models_side_by_side_in_a_flat_file_are_told_apart(released) -> None:
    flat = {f"model.{name}": tensor for name, tensor in released.items()}
    flat |= {f"ema_model.module.{name}": tensor + 1 for name, tensor in released.items()}
    flat |= {"loss.vgg.weight": torch.zeros(1), "n_averaged": torch.zeros(1)}
    assert find_state({"state_dict": flat}, ema=False) == released
    averaged = find_state({"state_dict": flat}, ema=True)
    assert averaged.keys() == released.keys()
    assert torch.equal(averaged["latent_tokens"], released["latent_tokens"] + 1)
    bare = released | {f"ema.{name}": tensor + 1 for name, tensor in released.items()}
    assert find_state(bare, ema=False) == released


def test_of_several_averages_the_first_is_taken_and_told_and_any_can_be_named(released) -> None:
    def plus(number: int) -> dict[str, torch.Tensor]:
        return {name: tensor + number for name, tensor in released.items()}

    content = {"model": released, "ema_1": plus(1), "ema_2": plus(2)}
    with pytest.warns(UserWarning, match=r"2 sets of averaged .*ema_1, ema_2.*taken: ema_1"):
        first = find_state(content, ema=True)
    assert torch.equal(first["latent_tokens"], plus(1)["latent_tokens"])
    second = find_state(content, ema=True, state="ema_2")
    assert torch.equal(second["latent_tokens"], plus(2)["latent_tokens"])
    assert find_state(content, ema=True, state="/model") == released
    with pytest.raises(CheckpointError, match=r"'ema_3': .*it has: model, ema_1, ema_2"):
        find_state(content, ema=True, state="ema_3")


def test_an_error_lists_eight_keys_of_a_foreign_file() -> None:
    with pytest.raises(CheckpointError, match=r"it has: k0, .*, k7 and 92 more$"):
        find_state({f"k{index}": torch.zeros(1) for index in range(100)}, ema=True)
