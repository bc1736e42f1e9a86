"""The released checkpoints' names and layouts, mapped key by key to ours and back.

Every key of a released checkpoint is accounted for: mapped, dropped for a stated reason, unknown or
missing. What no forward pass uses is accepted and not carried on.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unite.checkpoints.store import CheckpointError

WRAPPERS = frozenset(
    ("module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
)
"""Parts of a dotted name that data parallelism, torch.compile and the like put in, anywhere."""
EMA_WORDS = ("ema", "average", "shadow")
"""Parts of the name under which a nested checkpoint keeps averaged weights."""
MARK = "latent_tokens"
"""A key that every released state dict has."""
OUR_MARK = "tokenizer.registers"
"""A key that every state dict of ours has."""
LISTED = 8
"""Names that an error message spells out."""


@dataclass(frozen=True)
class Rule:
    """Pair of a key of ours and the authors', with the reshaping; `{i}` is a block's index."""

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
    """Result for every key of a released checkpoint: mapped, dropped, unknown or missing."""

    mapped: dict[str, str]
    """Their name -> our name."""
    dropped: dict[str, str]
    """Their name -> the reason why it is not carried on."""
    unknown: tuple[str, ...]
    """Names that belong to no part of the model."""
    missing: tuple[str, ...]
    """The authors' names of parts that the file does not hold."""

    def lines(self) -> Iterator[str]:
        """Lines of text, one per key."""
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
        key = strip_wrappers(name)
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
    """Authors' names of keys that every architecture has and `ours` lacks, up to its last block."""
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
    """Our state dict under the authors' names; CheckpointError for keys without such a name.

    What `to_ours` drops does not come back: the unused first rows of tables return as zeros.
    """
    theirs = {}
    for name, tensor in state.items():
        rule = _rule(_BY_OURS, name)
        if rule is None:
            raise CheckpointError(f"the released layout has no place for {name}")
        theirs[_with_index(rule.theirs, name)] = rule.to_theirs(tensor)
    return theirs


def strip_wrappers(name: str) -> str:
    """The name without the parts that wrappers put in, in whatever order and depth."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _rule(rules: Mapping[str, Rule], name: str) -> Rule | None:
    return rules.get(name) or rules.get(_INDEX.sub(".{i}.", name, count=1))


def _with_index(pattern: str, name: str) -> str:
    match = _INDEX.search(name)
    return pattern.replace("{i}", match[1]) if match else pattern


def _drop_reason(name: str) -> str | None:
    return next((reason for pattern, reason in DROPPED if re.fullmatch(pattern, name)), None)


def is_authors(state: Mapping[str, Any]) -> bool:
    """True if a state dict has the authors' names."""
    return MARK in map(strip_wrappers, state)


def find_state(content: Any, *, ema: bool, state: str = "") -> dict[str, Tensor]:
    """The state dict inside a nested checkpoint such as {"model": ..., "ema": ...}.

    Names lose what stands before the model's own ones ("model." in a Lightning file) and what
    wrappers put in. `state` is the path of one ("ema_1"); without it, `ema` chooses where the file
    holds both kinds. Warns where it names only plain weights (a bare state dict leaves open what it
    is), and of several of a kind, of which the first is taken. CheckpointError when there is no
    such state dict, or only averaged weights and `ema` is False.
    """
    found = dict(state_dicts(content))
    if state:
        return _named(found, state)
    averaged = {path: tensors for path, tensors in found.items() if is_average(path)}
    plain = {path: tensors for path, tensors in found.items() if path not in averaged}
    wanted = averaged if ema and averaged else plain
    if not wanted:
        keys = listed(content) if isinstance(content, Mapping) else type(content)
        have = f"only averaged weights under {listed(averaged)}" if averaged else "no weights"
        raise CheckpointError(f"the file holds {have} of a UNITE model; it has: {keys}")
    path, tensors = next(iter(wanted.items()))
    if ema and path and path not in averaged:
        warnings.warn(f"the file has no averaged weights; using those under {path}", stacklevel=1)
    if len(wanted) > 1:
        kind = "averaged" if wanted is averaged else "plain"
        warnings.warn(
            f"the file holds {len(wanted)} sets of {kind} weights ({listed(wanted)}); the first is "
            f"taken: {path}. Name another one by "
            "unite.load(FILE, state=...), or unite import-authors --state for the authors' layout",
            stacklevel=1,
        )
    return tensors


def _named(found: Mapping[str, dict[str, Tensor]], state: str) -> dict[str, Tensor]:
    path = state.strip("/")
    if path not in found:
        raise CheckpointError(
            f"state {state!r}: the file holds no such weights of a UNITE model; it has: "
            f"{listed(name or 'unnamed ones' for name in found) or 'none'}"
        )
    return found[path]


def is_average(path: str) -> bool:
    """True if the path of a state dict inside a file says that its weights are averaged."""
    return any(word in path.lower() for word in EMA_WORDS)


def state_dicts(content: Any, path: str = "") -> Iterator[tuple[str, dict[str, Tensor]]]:
    """(path, state dict) of every model in a file's content: "state_dict/ema", "" for a bare one.

    What stands before a model's own names in a flat mapping counts as a part of the path.
    """
    if not isinstance(content, Mapping):
        return
    tensors = {
        strip_wrappers(str(key)): value
        for key, value in content.items()
        if isinstance(value, Tensor)
    }
    prefixes = [prefix for name in tensors if (prefix := _before_mark(name)) is not None]
    for prefix in prefixes:
        below = tuple(other for other in prefixes if other != prefix and other.startswith(prefix))
        yield (
            "/".join(filter(None, [path, *prefix.split(".")])),
            {
                name.removeprefix(prefix): tensor
                for name, tensor in tensors.items()
                if name.startswith(prefix) and not name.startswith(below)
            },
        )
    for key, value in content.items():
        yield from state_dicts(value, f"{path}/{key}".lstrip("/"))


def _before_mark(name: str) -> str | None:
    """Prefix of a name that ends with a mark, "" for the mark alone; None for any other name."""
    for mark in (MARK, OUR_MARK):
        if name == mark or name.endswith(f".{mark}"):
            return name.removesuffix(mark)
    return None


def listed(names: Iterable[Any]) -> str:
    """The first names, and the number of the others."""
    texts = [str(name) for name in names]
    more = f" and {len(texts) - LISTED} more" if len(texts) > LISTED else ""
    return ", ".join(texts[:LISTED]) + more
