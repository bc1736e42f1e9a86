"""Axes: maps from data to the drawing, round numbers along them, short names for those."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

TICKS = 5
MARGIN = 0.06
"""Free space beside the data, as a share of its range."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Map from data to the drawing, along one axis."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float, *, log: bool) -> Scale:
        """Scale that holds all values, with free space beside them."""
        low, high = min(values), max(values)
        if log:
            free = (high / low) ** MARGIN if high > low else 2.0
            return cls(low=low / free, high=high * free, start=start, end=end, log=True)
        if low == high == 0:  # a metric that is 0 everywhere, such as a share
            high = 1.0
        free = MARGIN * (high - low) or abs(high) * MARGIN
        return cls(low=low - free, high=high + free, start=start, end=end)

    def __call__(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = math.log10(low), math.log10(high), math.log10(value)
        share = (at - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Round numbers of the axis."""
        return (log_ticks if self.log else ticks)(self.low, self.high)


def ticks(low: float, high: float) -> list[float]:
    """About TICKS round numbers from low to high."""
    if high <= low:
        return [low]
    rough = (high - low) / TICKS
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from low to high, with 2 and 5 between them where they are few.

    A range that holds fewer than two of these has round numbers, as other axes have.
    """
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1,) if math.log10(high / low) > 3 else (1, 2, 5)
    values = [factor * 10.0**exponent for exponent in exponents for factor in factors]
    found = [value for value in values if low <= value <= high * (1 + 1e-9)]
    return found if len(found) > 1 else ticks(low, high)


def names(values: Sequence[float]) -> list[str]:
    """Short names of numbers along an axis, in as many digits as tell them apart."""
    found: list[str] = []
    for digits in range(3, 16):
        found = [compact(value, digits) for value in values]
        if len(set(found)) == len(found):
            break
    return found


def compact(value: float, digits: int = 3) -> str:
    """A number short enough for an axis: 38k, 1.2M, 0.05."""
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * (1 if sign != "k" else 10):
            return f"{value / size:.{digits}g}{sign}"
    return f"{value:.{digits + 1}g}"
