"""Parameter counts and optimiser groups of the four published sizes, to the unit."""

import json
from pathlib import Path

import pytest
import torch

from unite.checkpoints.authors import to_theirs
from unite.config.recipes import decoder, encoder
from unite.config.schema import FlowConfig, ImagesConfig, ModelConfig
from unite.domains import build_domain
from unite.models import UNITE, optimizer_group, parameter_counts

RELEASED = Path(__file__).parents[1] / "parity" / "released_parameters.json"
# METHOD 2: (encoder, decoder, all trainable, encoder alone).
SIZES = {
    "UNITE-B": ("B", "B", 217_643_616, 130_593_056),
    "UNITE-L": ("L", "B", 545_528_384, 458_215_424),
    "UNITE-XL": ("XL", "B", 762_776_352, 675_332_192),
    "UNITE-L_decL": ("L", "L", 763_177_536, 458_215_424),
}


def build(size: str, sharing: str = "shared") -> UNITE:
    encoder_size, decoder_size, *_ = SIZES[size]
    config = ModelConfig(
        encoder=encoder(encoder_size), decoder=decoder(decoder_size), sharing=sharing
    )
    with torch.device("meta"):
        return UNITE(config, build_domain(ImagesConfig()), FlowConfig())


@pytest.mark.parametrize("size", SIZES)
def test_counts_equal_the_release(size: str) -> None:
    _, decoder_size, total, encoder_alone = SIZES[size]
    model = build(size)
    counts = parameter_counts(model)
    assert counts["trained"] + counts["unused_in_release"] == total
    assert counts["generative_encoder"] + counts["unused_in_release"] == encoder_alone
    assert counts["decoder"] == {"B": 86_237_952, "L": 303_887_104}[decoder_size]
    assert counts["trained"] == sum(p.numel() for p in model.parameters())


def test_separate_weights_count_both_encoders() -> None:
    counts = parameter_counts(build("UNITE-B", "separate"))
    alone = parameter_counts(build("UNITE-B"))
    assert counts["separate_denoiser"] == sum(
        alone[part] for part in ("generative_encoder", "registers", "latent_norm")
    )
    assert counts["trained"] == alone["trained"] + counts["separate_denoiser"]


def released_entry(size: str) -> dict:
    """What the released checkpoint of a size holds; `{i}` in the file stands for each block."""
    entry = json.loads(RELEASED.read_text())[size]
    parameters = {}
    for name, (group, *shape) in entry["parameters"].items():
        kind = next((kind for kind in entry["blocks"] if f"{kind}.{{i}}." in name), None)
        for index in range(entry["blocks"][kind] if kind else 1):
            parameters[name.replace("{i}", str(index))] = (shape, group)
    return {**entry, "parameters": parameters}


@pytest.mark.parametrize("size", SIZES)
def test_names_shapes_and_groups_equal_the_release(size: str) -> None:
    released = released_entry(size)
    assert released["trainable_params"] == SIZES[size][2]
    unused = ("encoder.pos_embed", "encoder.t_embedder.special_time_emb")
    trained = {
        name: (shape, group)
        for name, (shape, group) in released["parameters"].items()
        if group != "frozen" and name not in unused
    }
    parameters = dict(build(size).named_parameters())
    theirs = to_theirs(parameters)  # in the same order
    ours = {
        their_name: (list(parameter.shape), optimizer_group(name, parameter))
        for their_name, (name, parameter) in zip(theirs, parameters.items(), strict=True)
    }
    assert ours == trained


def test_groups_of_the_base_model() -> None:
    groups = {name: optimizer_group(name, p) for name, p in build("UNITE-B").named_parameters()}
    assert groups["tokenizer.blocks.3.attention.qkv.weight"] == "muon"
    assert groups["tokenizer.classes.weight"] == "muon"
    assert groups["decoder.head.out.weight"] == "muon"
    for name in (
        "embedder.projection.weight",
        "tokenizer.registers",
        "tokenizer.in_context",
        "tokenizer.final.out.weight",
        "tokenizer.final.modulation.weight",
        "tokenizer.blocks.3.attention.qkv.bias",
        "decoder.class_token",
    ):
        assert groups[name] == "adamw", name


def test_wrappers_do_not_change_groups() -> None:
    weight = torch.nn.Parameter(torch.empty(2, 2))
    assert optimizer_group("module.tokenizer.final._orig_mod.out.weight", weight) == "adamw"
