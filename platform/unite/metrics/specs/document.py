"""docs/METRICS.md, made of the rows."""

from __future__ import annotations

from unite.metrics.specs import SPECS
from unite.metrics.specs.spec import Spec

HEAD = """# Metrics

Every number has one row here, made of `platform/unite/metrics/specs/`; CONTRIBUTING.md says how to
add one. In files and in MLflow a result is `eval/FAMILY/KEY`; the column "elsewhere" is the name
on another extractor than the paper's, whose own name follows it (`fd-digits-cnn`). `*` and `?` in a
key stand for what varies, such as a noise level. The family `training` is logged as it stands here.
"""
COLUMNS = ("key", "shown", "unit", "better", "paper", "elsewhere", "domains", "meaning")


def document() -> str:
    """The page as Markdown."""
    families = dict.fromkeys(row.family for row in SPECS.values())
    return "\n".join([HEAD, *(_table(family) for family in families)])


def _table(family: str) -> str:
    rows = [row for row in SPECS.values() if row.family == family]
    head = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    return "\n".join([f"## {family}", "", *head, *map(_line, rows), ""])


def _line(row: Spec) -> str:
    logged = f"; training logs it as `{row.logged_name}`" if row.logged else ""
    cells = (
        f"`{row.key}`", row.name, row.unit, row.better or "", row.paper, row.elsewhere,
        ", ".join(row.domains), row.meaning + logged,
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"
