"""The released checkpoints' names and layouts, mapped key by key to ours and back.

Every key of a released checkpoint is accounted for: mapped, dropped for a stated reason, unknown or
missing. What no forward pass uses is accepted and not carried on.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unite.checkpoints.store import CheckpointError

PREFIXES = ("module.", "_orig_mod.", "_forward_module.")
"""What data parallelism and torch.compile put into names."""
EMA_WORDS = ("ema", "average", "shadow")
"""Parts of the name under which a nested checkpoint keeps averaged weights."""
MARK = "latent_tokens"
"""A key that every released state dict has."""


@dataclass(frozen=True)
class Rule:
    """One key of ours, the authors', and the reshaping between them; `{i}` is a block's index."""

    ours: str
    theirs: str
    to_ours: Callable[[Tensor], Tensor] = lambda tensor: tensor
    to_theirs: Callable[[Tensor], Tensor] = lambda tensor: tensor


def _linear(ours: str, theirs: str) -> tuple[Rule, ...]:
    return tuple(Rule(f"{ours}.{part}", f"{theirs}.{part}") for part in ("weight", "bias"))


def _without_first_row(table_1NH: Tensor) -> Tensor:
    return table_1NH[0, 1:]


def _without_class_row(table_1NH: Tensor) -> Tensor:
    if not table_1NH.is_meta and table_1NH[0, 0].any():
        raise CheckpointError("decoder.decoder_pos_embed gives the class token a position")
    return _without_first_row(table_1NH)


def _with_first_row(table_NH: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(table_NH[:1]), table_NH])[None]


def _encoder_block_rules() -> tuple[Rule, ...]:
    ours, theirs = "tokenizer.blocks.{i}", "encoder.blocks.{i}"
    norms = ("norm1", "norm2", "norm3")
    return (
        *(Rule(f"{ours}.{norm}.weight", f"{theirs}.{norm}.weight") for norm in norms),
        *_linear(f"{ours}.attention.qkv", f"{theirs}.attn.qkv"),
        Rule(f"{ours}.attention.q_norm.weight", f"{theirs}.attn.q_norm.weight"),
        Rule(f"{ours}.attention.k_norm.weight", f"{theirs}.attn.k_norm.weight"),
        *_linear(f"{ours}.attention.proj", f"{theirs}.attn.proj"),
        *_linear(f"{ours}.mlp.gate_value", f"{theirs}.mlp.w12"),
        *_linear(f"{ours}.mlp.out", f"{theirs}.mlp.w3"),
        *_linear(f"{ours}.modulation", f"{theirs}.adaLN_modulation.1"),
    )


def _decoder_block_rules() -> tuple[Rule, ...]:
    ours, theirs = "decoder.blocks.{i}", "decoder.decoder_layers.{i}"
    return (
        *_linear(f"{ours}.norm1", f"{theirs}.layernorm_before"),
        *_linear(f"{ours}.attention.qkv", f"{theirs}.qkv"),
        *_linear(f"{ours}.attention.proj", f"{theirs}.attn_proj"),
        *_linear(f"{ours}.norm2", f"{theirs}.layernorm_after"),
        *_linear(f"{ours}.up", f"{theirs}.ffn_up"),
        *_linear(f"{ours}.down", f"{theirs}.ffn_down"),
    )


RULES: tuple[Rule, ...] = (
    *_linear("embedder.projection", "patch_embed.patch_embeddings.projection"),
    Rule(
        "embedder.positions",
        "patch_embed.position_embeddings",
        _without_first_row,
        _with_first_row,
    ),
    Rule("tokenizer.registers", "latent_tokens"),
    *_linear("tokenizer.input", "encoder.up_sample"),
    Rule("tokenizer.in_context", "encoder.in_context_posemb"),
    Rule("tokenizer.time.frequencies", "encoder.t_embedder.W"),
    *_linear("tokenizer.time.hidden", "encoder.t_embedder.mlp.0"),
    *_linear("tokenizer.time.out", "encoder.t_embedder.mlp.2"),
    Rule("tokenizer.classes.weight", "encoder.y_embedder.embedding_table.weight"),
    *_encoder_block_rules(),
    Rule("tokenizer.final.norm.weight", "encoder.final_layer.norm_final.weight"),
    *_linear("tokenizer.final.modulation", "encoder.final_layer.adaLN_modulation.1"),
    *_linear("tokenizer.final.out", "encoder.final_layer.linear"),
    *_linear("tokenizer.norm", "encoder_layer_norm"),
    *_linear("decoder.stem", "up_sample_decoder"),
    *_linear("decoder.input", "decoder.decoder_embed"),
    Rule("decoder.class_token", "decoder.trainable_cls_token"),
    Rule("decoder.positions", "decoder.decoder_pos_embed", _without_class_row, _with_first_row),
    *_decoder_block_rules(),
    *_linear("decoder.norm", "decoder.decoder_norm"),
    *_linear("decoder.head.out", "decoder.decoder_pred"),
)

DROPPED: tuple[tuple[str, str], ...] = (
    (r"encoder\.pos_embed", "no forward pass uses it"),
    (r"encoder\.t_embedder\.special_time_emb", "no forward pass uses it"),
    (r"encoder\.feat_rope(_incontext)?\.freqs_(cos|sin)", "rotary tables are computed"),
)
"""Patterns of keys that are accepted and not carried on, each with the reason."""

OPTIONAL = ("tokenizer.in_context", "q_norm.weight", "k_norm.weight")
"""Endings of our names that an architecture may do without."""

_BY_THEIRS = {rule.theirs: rule for rule in RULES}
_BY_OURS = {rule.ours: rule for rule in RULES}
_INDEX = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True, kw_only=True)
class KeyReport:
    """What became of every key of a released checkpoint."""

    mapped: dict[str, str]
    """Their name -> our name."""
    dropped: dict[str, str]
    """Their name -> why it is not carried on."""
    unknown: tuple[str, ...]
    """Names that belong to no part of the model."""
    missing: tuple[str, ...]
    """The authors' names of parts that the file does not hold."""

    def lines(self) -> Iterator[str]:
        """One line per key, for people."""
        yield from (f"mapped   {theirs} -> {ours}" for theirs, ours in self.mapped.items())
        yield from (f"dropped  {theirs}: {reason}" for theirs, reason in self.dropped.items())
        yield from (f"unknown  {theirs}" for theirs in self.unknown)
        yield from (f"missing  {theirs}" for theirs in self.missing)


def to_ours(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], KeyReport]:
    """An authors' state dict under our names, and the report of every key.

    Unknown and missing keys are reported, not raised.
    """
    ours: dict[str, Tensor] = {}
    mapped, dropped, unknown = {}, {}, []
    for name, tensor in state.items():
        key = strip_prefixes(name)
        if rule := _rule(_BY_THEIRS, key):
            mapped[name] = _with_index(rule.ours, key)
            ours[mapped[name]] = rule.to_ours(tensor)
        elif reason := _drop_reason(key):
            dropped[name] = reason
        else:
            unknown.append(name)
    missing = tuple(_missing(ours))
    return ours, KeyReport(mapped=mapped, dropped=dropped, unknown=tuple(unknown), missing=missing)


def _missing(ours: Mapping[str, Tensor]) -> Iterator[str]:
    """The authors' names of what every architecture has and `ours` lacks, up to its last block."""
    depths = {
        part: 1 + max((block_index(name, part) for name in ours), default=-1)
        for part in ("tokenizer", "decoder")
    }
    for rule in RULES:
        blocks = range(depths[rule.ours.split(".")[0]]) if "{i}" in rule.ours else (0,)
        for block in blocks:
            name = rule.ours.replace("{i}", str(block))
            if name not in ours and not name.endswith(OPTIONAL):
                yield rule.theirs.replace("{i}", str(block))


def block_index(name: str, part: str) -> int:
    """Index of the block that one of our names belongs to within `part`; -1 outside of blocks."""
    match = re.match(rf"{part}\.blocks\.(\d+)\.", name)
    return int(match[1]) if match else -1


def to_theirs(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict under the authors' names; CheckpointError for what they have no name for.

    What `to_ours` drops does not come back: the unused first rows of tables return as zeros.
    """
    theirs = {}
    for name, tensor in state.items():
        rule = _rule(_BY_OURS, name)
        if rule is None:
            raise CheckpointError(f"the released layout has no place for {name}")
        theirs[_with_index(rule.theirs, name)] = rule.to_theirs(tensor)
    return theirs


def their_name(ours: str) -> str | None:
    """The authors' name of one of our keys; None when they have none."""
    rule = _rule(_BY_OURS, ours)
    return rule and _with_index(rule.theirs, ours)


def strip_prefixes(name: str) -> str:
    """The name without what wrappers put into it."""
    for prefix in PREFIXES:
        name = name.replace(prefix, "")
    return name


def _rule(rules: Mapping[str, Rule], name: str) -> Rule | None:
    return rules.get(name) or rules.get(_INDEX.sub(".{i}.", name, count=1))


def _with_index(pattern: str, name: str) -> str:
    match = _INDEX.search(name)
    return pattern.replace("{i}", match[1]) if match else pattern


def _drop_reason(name: str) -> str | None:
    return next((reason for pattern, reason in DROPPED if re.fullmatch(pattern, name)), None)


def is_authors(state: Mapping[str, Any]) -> bool:
    """Whether a state dict has the authors' names."""
    return any(strip_prefixes(str(name)) == MARK for name in state)


def find_state(content: Any, *, ema: bool) -> dict[str, Tensor]:
    """The state dict inside a nested checkpoint such as {"model": ..., "ema": ...}.

    `ema` chooses where the file holds both, and warns where it names only plain weights (a bare
    state dict leaves open what it is). CheckpointError when the file holds no state dict, or only
    averaged weights and `ema` is False.
    """
    found = dict(_state_dicts(content, ""))
    averaged = {path: state for path, state in found.items() if _is_average(path)}
    plain = {path: state for path, state in found.items() if path not in averaged}
    wanted = averaged if ema and averaged else plain
    if not wanted:
        keys = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content)
        have = f"only averaged weights under {', '.join(averaged)}" if averaged else "no weights"
        raise CheckpointError(f"the file holds {have} of a UNITE model; it has: {keys}")
    path, state = next(iter(wanted.items()))
    if ema and path and path not in averaged:
        warnings.warn(f"the file has no averaged weights; using those under {path}", stacklevel=2)
    return state


def _is_average(path: str) -> bool:
    return any(word in path.lower() for word in EMA_WORDS)


def _state_dicts(content: Any, path: str) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """(path, state dict) of every mapping below `content` that looks like a model's state."""
    if not isinstance(content, Mapping):
        return
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if is_authors(tensors) or is_ours(tensors):
        yield path, tensors
        return
    for key, value in content.items():
        yield from _state_dicts(value, f"{path}/{key}")


def is_ours(state: Mapping[str, Any]) -> bool:
    """Whether a state dict has our names."""
    return any(strip_prefixes(str(name)) == "tokenizer.registers" for name in state)
