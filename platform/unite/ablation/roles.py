"""Metrics that stand for generation and reconstruction in a sweep, by what was measured.

The paper judges samples by gFID and reconstructions by rFID. In their places stand the metrics
whose rows say so (`judges`): the first of them that a sweep has measured, on each extractor, since
extractors may see different things and no one of them speaks for the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unite.config.axes import Role
from unite.metrics.specs import Spec, judges, of_family, spec_of

LATENT_STD = "eval/latent/std"
"""Name of a trial's latent spread."""
LAST = 99


def judged_by(role: Role, names: Sequence[str], kind: str) -> list[str]:
    """Names of results by which a role is judged, or the one that is missing.

    `kind`: of the domain. Reconstructions by the paper's own extractor alone, where it is there.
    """
    ranked = judges(role, kind)
    for row in ranked:
        if found := _measured(row, names):
            paper = [name for name in found if name == result_name(row)]
            return paper if paper and role == "reconstruction" else found
    if role == "reconstruction":
        return [result_name(row) for row in ranked if row.logged][-1:]
    return [f"eval/{role}/{row.keys[-1]}" for row in ranked[:1]]


def shown_names(names: Sequence[str], *, trains: bool, kind: str) -> list[str]:
    """Names with a panel in figure and report: of the report's columns, and the latent spread.

    Guidance, which trains nothing, changes no reconstruction and no latent.
    """
    samples = _columns("generation", names, kind)
    if not trains:
        return samples
    shown = [*samples, *_columns("reconstruction", names, kind)]
    logged = [result_name(row) for row in judges("reconstruction", kind) if row.logged]
    return list(dict.fromkeys([*shown, *logged, LATENT_STD]))


def like(name: str, names: Iterable[str]) -> list[str]:
    """Measured names of the metric that the paper calls `name`."""
    row = spec_of(name)
    return _measured(row, names) if row else []


def result_name(row: Spec) -> str:
    """Name of a metric among a trial's results, on the paper's extractor."""
    return f"eval/{row.family}/{row.key}"


def _measured(row: Spec, names: Iterable[str]) -> list[str]:
    start = f"eval/{row.family}/"
    return [
        name for name in dict.fromkeys(names) if name.startswith(start) and spec_of(name) is row
    ]


def _columns(role: Role, names: Sequence[str], kind: str) -> list[str]:
    """Measured columns of a family: those that judge first."""
    rows = [row for row in of_family(role, kind) if row.column == "runs" and row.better]
    rows.sort(key=lambda row: row.judges or LAST)
    return [name for row in rows for name in _measured(row, names)]
