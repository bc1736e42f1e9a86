"""A run as a YAML file: `jobs/train.py --config run.yaml`; `unite recipes NAME --yaml` writes one.

The file holds any part of a config, nested or by dotted names. `recipe` names what the rest is
taken from (digits where it is left out); flags override the file.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Literal

import yaml

from unite.config.recipes import recipe
from unite.config.schema import RunConfig
from unite.config.serialise import replace, to_dict

DEFAULT_RECIPE = "digits"
FLAG = "--config"


def starting_config(words: Sequence[str]) -> tuple[RunConfig, list[str]]:
    """Base of a command line, a recipe's name or --config FILE, and the other words.

    ValueError for both at once, an unknown recipe or a file that is no run.
    """
    rest = [part for word in words for part in _split_flag(word)]
    if FLAG not in rest:
        named = bool(rest) and not rest[0].startswith("-")
        return recipe(rest[0] if named else DEFAULT_RECIPE), rest[named:]
    place = rest.index(FLAG)
    file = rest[place + 1 : place + 2]
    if not file or file[0].startswith("-"):
        raise ValueError(f"{FLAG} needs a YAML file: {FLAG} run.yaml")
    rest = [*rest[:place], *rest[place + 2 :]]
    if rest and not rest[0].startswith("-"):
        raise ValueError(
            f"{rest[0]} and {FLAG} {file[0]} both say what to start from: drop the word, and write "
            f"`recipe: {rest[0]}` into the file"
        )
    return read_yaml(file[0]), rest


def _split_flag(word: str) -> list[str]:
    """--config=FILE as two words."""
    return [FLAG, word[len(FLAG) + 1 :]] if word.startswith(f"{FLAG}=") else [word]


def read_yaml(file: str | Path) -> RunConfig:
    """The recipe that the file names with the file's fields in place.

    ValueError names the file and the field that no run has (with the nearest that it has), that is
    given twice, or whose value is of another kind.
    """
    try:
        return _read(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{FLAG} {file}: {error.strerror or error}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is no YAML: {' '.join(str(error).split())}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text in UTF-8: save it as such") from error
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def write_yaml(config: RunConfig) -> str:
    """A whole config as YAML that `read_yaml` reads back."""
    head = (
        f"# {config.recipe}: keep the lines that you change, the rest is taken from `recipe`.\n"
        f"# python jobs/train.py {FLAG} FILE; python jobs/train.py --help explains each field.\n"
    )
    return head + yaml.safe_dump(to_dict(config), sort_keys=False)


def _read(text: str) -> RunConfig:
    content = yaml.safe_load(text)
    if not isinstance(content, dict):
        raise ValueError("a run is a mapping of fields, for example `flow: {steps: 14}`")
    _refuse_repeats(yaml.compose(text, yaml.SafeLoader))
    given = list(_leaves(content))
    fields = dict(given)
    twice = [name for name in fields if [each for each, _ in given].count(name) > 1]
    if twice:
        raise ValueError(f"{twice[0]} is given twice, nested and by its dotted name")
    base = recipe(str(fields.get("recipe", DEFAULT_RECIPE)))
    kinds = dict(_kinds(base))
    for name in fields:
        if name not in kinds:
            raise ValueError(_unknown(name, list(kinds)))
    return replace(base, {name: _value(name, kinds[name], each) for name, each in fields.items()})


def _refuse_repeats(node: Any) -> None:
    """ValueError for a key that a mapping has twice: YAML would drop the first in silence."""
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise ValueError(f"{key} is given twice, and only one can count: merge them")
        for _, below in node.value:
            _refuse_repeats(below)


def _leaves(content: dict[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted field and value, of nested mappings."""
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _kinds(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted field and type, of a config and what it holds."""
    hints = typing.get_type_hints(type(config))
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            yield from _kinds(value, f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}", hints[item.name]


def _unknown(name: str, known: list[str]) -> str:
    below = [field for field in known if field.startswith(f"{name}.")]
    if below:
        return f"{name} is a group of fields: give {', '.join(below)}"
    last = name.rsplit(".", 1)[-1]
    namesakes = [field for field in known if field.rsplit(".", 1)[-1] == last]
    close = namesakes or difflib.get_close_matches(name, known, n=2, cutoff=0.0)
    return f"no run has a field {name!r}; did you mean {' or '.join(close)}?"


def _value(name: str, kind: Any, value: Any) -> Any:
    """The value as the field's type; ValueError says what it must be."""
    if typing.get_origin(kind) is tuple:
        parts = typing.get_args(kind)
        if parts[1:] == (...,) and isinstance(value, list):
            parts = parts[:1] * len(value)
        if not isinstance(value, list) or len(value) != len(parts):
            raise ValueError(f"{name} = {value!r} must be a list of {len(parts)} numbers")
        return tuple(_value(name, part, each) for part, each in zip(parts, value, strict=True))
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            options = ", ".join(map(repr, typing.get_args(kind)))
            raise ValueError(f"{name} = {value!r} must be one of {options}")
        return value
    if kind is float:
        return _number(name, value)
    if isinstance(kind, UnionType):  # a number or text that stands for several
        kind = str if isinstance(value, str) else typing.get_args(kind)[0]
    if type(value) is not kind:
        wanted = {int: "a whole number", bool: "true or false", str: "text (in quotes)"}[kind]
        raise ValueError(f"{name} = {value!r} must be {wanted}")
    return value


def _number(name: str, value: Any) -> float:
    """A finite number; YAML reads 1e-4 as text, so text that is a number counts."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} = {value!r} must be a finite number")
    return number
