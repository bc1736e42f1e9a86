"""Trials that were measured alike: numbers whose cards differ must not be compared.

A sweep finds the results of earlier ones. They may be of other versions, of other noise, or of an
extractor that was fitted anew since.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from unite.config.axes import Axis
from unite.evaluation.card import MetricCard, differences

if TYPE_CHECKING:
    from unite.ablation.verdict import Measured

NAMED = 3
"""Largest number of fields and of runs that are named."""


def varied_fields(axis: Axis) -> set[str]:
    """Fields of cards that an axis varies itself, such as the guidance scale."""
    return {name.removeprefix("sampling.") for row in axis.fields.values() for name in row}


def unlike(axis: Axis, measured: Iterable[Measured], metric: str) -> dict[str, list[Measured]]:
    """Difference in words -> trials whose metric was measured otherwise than that of most.

    Trials without a card of it, as in results of older versions, say nothing.
    """
    cards = [
        (each, MetricCard.from_dict(each.result.cards[metric]))
        for each in measured
        if metric in each.result.cards
    ]
    if not cards:
        return {}
    varied = varied_fields(axis)
    counts = Counter(_protocol(card, varied) for _, card in cards)
    usual = max((card for _, card in cards), key=lambda card: counts[_protocol(card, varied)])
    found: dict[str, list[Measured]] = {}
    for each, card in cards:
        fields = {k: v for k, v in differences(card, usual).items() if k not in varied}
        if fields:
            found.setdefault(_in_words(fields), []).append(each)
    return found


def _protocol(card: MetricCard, varied: set[str]) -> str:
    return repr(sorted((k, v) for k, v in card.protocol().items() if k not in varied))


def _in_words(fields: Mapping[str, tuple[Any, Any]]) -> str:
    few = [f"{name} {a} against {b}" for name, (a, b) in list(fields.items())[:NAMED]]
    return "; ".join([*few, *(["..."] if len(fields) > NAMED else [])])
