"""Command lines from dataclasses: tyro, with the rules that hold for every script.

Every script parses with `parse`; a test finds one that does not. NaN and infinity are refused here,
once for every float of every script: no option means anything at either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

T = TypeVar("T")

RULES = ConstructorRegistry()


@RULES.primitive_rule
def _finite_float(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[float] | None:
    if info.type is not float:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="FLOAT",
        instance_from_str=lambda words: finite(words[0]),
        is_instance=lambda value: isinstance(value, int | float) and not isinstance(value, bool),
        str_from_instance=lambda value: [str(value)],
    )


def finite(text: str) -> float:
    """A finite number; ValueError for other text, NaN and infinity."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def parse(
    kind: type[T],
    *,
    description: str | None,
    default: T | None = None,
    args: Sequence[str] | None = None,
) -> T:
    """`kind` filled from the words of the command line; a mistake ends the process with status 2.

    `default` holds the values of what is not given; None takes those of the class.
    """
    given: dict[str, Any] = {} if default is None else {"default": default}
    # Of a union (RunConfig.domain) the flags are those of the default's class.
    unions = (tyro.conf.AvoidSubcommands,)
    return tyro.cli(
        kind, description=description, args=args, registry=RULES, config=unions, **given
    )
