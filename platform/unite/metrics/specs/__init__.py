"""Every metric is one row: directions, names, units, report columns, vocabulary and docs/METRICS.md
come from here.

A new metric is a row in the file of its domain. A domain brings a file of rows, which is named once
below. This package imports nothing but itself, so that every room can ask it.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from unite.metrics.specs import atoms, images, shared, training
from unite.metrics.specs.spec import TRAINING, Direction, Spec

SPECS: dict[tuple[str, str], Spec] = {}
"""(family, key) -> the metric. Order is that of columns in the report."""
EVALUATION = "eval/"


def register(*rows: Spec) -> None:
    """Add metrics.

    ValueError for a name that is taken, for a direction that another family's metric of that name
    contradicts, and for a logged name that is taken.
    """
    for row in rows:
        if (row.family, row.key) in SPECS:
            raise ValueError(f"{row.family}/{row.key} is registered already: choose another key")
        for other in SPECS.values():
            if set(row.keys) & set(other.keys) and row.better != other.better:
                raise ValueError(
                    f"{row.family}/{row.key}: better = {row.better}, but {other.family}/"
                    f"{other.key} has {other.better}; one name has one direction"
                )
            if row.logged_name and row.logged_name == other.logged_name:
                raise ValueError(f"{row.logged_name} is logged by {other.family}/{other.key} too")
        SPECS[row.family, row.key] = row


def spec_of(metric: str, family: str = "") -> Spec | None:
    """Row of a metric by its key or by a stored name; None for an unknown one.

    Stored names are those of training (loss/l1, eval/psnr) and eval/<family>/<key>; a key may carry
    its extractor (fd-digits-cnn), a family the part of a joint model (generation-molecules), and
    the shown and the paper's names are known too. Without a family that has the key, any family's
    row is taken.
    """
    short = metric.removeprefix(EVALUATION)
    if (TRAINING, short) in SPECS:
        return SPECS[TRAINING, short]
    *head, last = short.split("/")
    family, key = family or "/".join(head), last.lower()
    family, key = (name.partition("-")[0] for name in (family, key))
    candidates = [row for row in SPECS.values() if row.family != TRAINING]
    of_family = [row for row in candidates if row.family == family]
    exact = (row for rows in (of_family, candidates) for row in rows if key in row.names)
    patterns = (row for row in of_family or candidates if fnmatchcase(key, row.key))
    return next(exact, None) or next(patterns, None)


def of_family(family: str, kind: str = "") -> list[Spec]:
    """Metrics of a family, in their order; `kind` of a domain leaves those of other domains out."""
    rows = (row for row in SPECS.values() if row.family == family)
    return [row for row in rows if not (kind and row.domains) or kind in row.domains]


def judges(family: str, kind: str = "") -> list[Spec]:
    """Metrics that speak for a family when runs are compared, the first one first."""
    rows = (row for row in of_family(family, kind) if row.judges)
    return sorted(rows, key=lambda row: row.judges)


def logged() -> dict[str, str]:
    """Vocabulary of training: every name that may be logged, with its meaning and unit."""
    rows = [row for row in SPECS.values() if row.logged_name]
    return {row.logged_name: _in_words(row) for row in rows}


def directions() -> dict[str, Direction]:
    """Key, without extractor -> direction, of every metric that has one."""
    return {key: row.better for row in SPECS.values() if row.better for key in row.keys}


def direction(metric: str) -> Direction | None:
    """Direction of a metric such as fd-digits-cnn or eval/reconstruction/psnr; None without one."""
    row = spec_of(metric)
    return row.better if row else None


def higher_is_better(metric: str) -> bool:
    """True if larger values of `metric` are better."""
    return direction(metric) == "higher"


def better_words(metric: str) -> str:
    """Direction of a metric in words; empty for a metric without one."""
    row = spec_of(metric)
    return row.better_words if row else ""


def shown_name(metric: str) -> str:
    """Name of a metric as the literature writes it: FID, FD-digits-cnn, PSNR."""
    head, dash, rest = metric.rsplit("/", 1)[-1].partition("-")
    row = spec_of(head)
    if row is None or head not in row.keys:
        return head + dash + rest
    return (row.name if head == row.key else row.elsewhere) + dash + rest


def shown_value(metric: str, value: float) -> str:
    """A metric's value in as many digits as its row says."""
    row = spec_of(metric)
    return number(value, row.digits if row else 4)


def number(value: float, digits: int = 4) -> str:
    """A number in so many significant digits; whole numbers in full."""
    whole = float(value).is_integer() and abs(value) < 1e9
    return f"{value:,.0f}" if whole else f"{value:.{digits}g}"


def _in_words(row: Spec) -> str:
    held_out = "held-out " if row.family != TRAINING else ""
    return f"{held_out}{row.meaning}" + (f", {row.unit}" if row.unit else "")


def _all_rows() -> Iterator[Spec]:
    for module in (training, images, atoms, shared):
        yield from module.ROWS


register(*_all_rows())
