"""Configs as plain data: nested dicts, dotted fields, differences and digests."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from typing import Any, TypeVar

Config = TypeVar("Config")

LATER = {"later": True}
"""Metadata of a field that came after runs were named: at its default it is no part of a digest."""
DIGEST_DIGITS = 16
"""Hex digits of the digests of content: checkpoints, tasks, cards."""
# What decides where and by whom a run is computed, but not what is computed.
PLACE_FIELDS = ("recipe", "name", "storage", "weights", "cluster", "tracking", "checkpoint")


def to_dict(config: Any) -> dict[str, Any]:
    """A config dataclass as nested JSON-able dicts (tuples become lists)."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(kind: type[Config], data: dict[str, Any], prefix: str = "") -> Config:
    """Rebuild a config of class `kind`.

    ValueError names a field that `kind` does not have, or a value of another type than its field's.
    `prefix` is the dotted place of `data` in the whole config.
    """
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(data) - set(hints))
    if unknown:
        raise ValueError(
            f"{kind.__name__} has no field {', '.join(map(repr, unknown))}; it was written by "
            f"another version of unite. Fields: {', '.join(hints)}"
        )
    return kind(
        **{name: _value(hints[name], value, f"{prefix}{name}") for name, value in data.items()}
    )


def _value(hint: Any, value: Any, name: str) -> Any:
    if isinstance(value, dict):
        kinds = [k for k in typing.get_args(hint) or (hint,) if dataclasses.is_dataclass(k)]
        if kinds:
            return from_dict(_member(kinds, value, name), value, f"{name}.")
    value = tuple(value) if isinstance(value, list) else value
    if not _fits(hint, value):
        raise ValueError(f"{name} = {value!r} is not {_in_words(hint)}")
    return value


def _member(kinds: list[Any], value: dict[str, Any], name: str) -> type:
    """The class of a union whose `kind` a stored value names; without one, the first class."""
    if len(kinds) == 1 or "kind" not in value:
        return kinds[0]
    by_kind = {kind.kind: kind for kind in kinds}
    if value["kind"] not in by_kind:
        known = ", ".join(by_kind)
        raise ValueError(f"{name}.kind = {value['kind']!r} is unknown; there are {known}")
    return by_kind[value["kind"]]


def _fits(hint: Any, value: Any) -> bool:
    """True if a value read from JSON has a field's type; whole numbers pass as floats."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return value in parts
    if origin in (typing.Union, types.UnionType):
        return any(_fits(part, value) for part in parts)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = parts[:1] * len(value) if parts[1:] == (...,) else parts
        return len(value) == len(kinds) and all(map(_fits, kinds, value))
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return hint is Any or isinstance(value, origin or hint)


def _in_words(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(hint)))}"
    return f"of type {hint.__name__ if isinstance(hint, type) else hint}"


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted field -> value, in the order of the schema."""
    flat: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            flat |= flatten(value, f"{prefix}{item.name}.")
        else:
            flat[f"{prefix}{item.name}"] = value
    return flat


def replace(config: Config, changes: dict[str, Any]) -> Config:
    """A copy with dotted fields replaced; ValueError names an unknown field."""
    here: dict[str, Any] = {}
    below: dict[str, dict[str, Any]] = {}
    names = {item.name for item in dataclasses.fields(config)}  # type: ignore[arg-type]
    for dotted, value in changes.items():
        name, _, rest = dotted.partition(".")
        if name not in names:
            known = ", ".join(sorted(names))
            raise ValueError(f"{type(config).__name__} has no field {name!r}; fields: {known}")
        if rest:
            below.setdefault(name, {})[rest] = value
        else:
            here[name] = value
    for name, nested in below.items():
        here[name] = replace(getattr(config, name), nested)
    return dataclasses.replace(config, **here)  # type: ignore[type-var]


def diff(left: Any, right: Any) -> list[tuple[str, Any, Any]]:
    """(dotted field, left value, right value) wherever two configs differ."""
    first, second = flatten(left), flatten(right)
    names = list(first) + [name for name in second if name not in first]
    pairs = ((name, first.get(name), second.get(name)) for name in names)
    return [row for row in pairs if row[1] != row[2]]


def json_digest(content: Any) -> str:
    """16 hex digits that identify JSON values; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:DIGEST_DIGITS]


def digest(config: Any) -> str:
    """12 hex digits that identify what a run computes (not where, nor by how many workers).

    Runs keep their digests when the schema gets a field: one that is `LATER` counts only where it
    is not at its default, which computes what was computed before it.
    """
    content = {key: value for key, value in _content(config).items() if key not in PLACE_FIELDS}
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _content(config: Any) -> dict[str, Any]:
    """A config as nested dicts, without later fields at their defaults."""
    content = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if item.metadata.get("later") and value == item.default:
            continue
        content[item.name] = _content(value) if dataclasses.is_dataclass(value) else value
    return content
