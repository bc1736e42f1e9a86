"""Sentences that quote the paper or compare with it say what `unite.paper` says.

Three rules over every Markdown file and every docstring and message of the code:

1. A figure beside its place, such as 2.12 (Table 1), or beside a metric's name in a sentence that
   names the paper or a place in it, is one that the paper has there.
2. A paragraph of Markdown that compares with the paper carries what it rests on as a comment,
   <!-- paper: TABLE METRIC: ROW < ROW = ROW -->, with a key of `TABLES` and its rows in the order
   of their figures. The comment is tested, so a comparison without ground cannot be written.
3. The table of findings in docs/ablations.md is what `findings` makes of the paper's figures, and
   its verdicts are what its numbers say.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from unite.ablation.verdict import findings
from unite.config.axes import AXES
from unite.metrics.specs import number
from unite.paper import TABLES

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]
CODE = [
    str(path.relative_to(ROOT))
    for room in ("platform", "jobs", "ablations", "dashboards")
    for path in sorted((ROOT / room).rglob("*.py"))
    if path.name != "paper.py"
]

PLACE = r"(?:Table|Figure|Section) \d(?:\.\d)?"
FIGURE = r"\d+(?:\.\d+)?(?:e\d+)?"
BESIDE_ITS_PLACE = re.compile(rf"({FIGURE}) \(({PLACE})")
BEHIND_ITS_PLACE = re.compile(rf"({PLACE}): (?:\w+ )?({FIGURE})\b")
NAMED = re.compile(
    rf"\b(gFID|FID|rFID|IS)(?: (?:is|of|from))? ({FIGURE})(?: (?:to|against|and) ({FIGURE}))?"
)
SAID = re.compile(rf"[Pp]aper(?:'s)?(?: says| reports| gives)?[:,]?(?: about| around)? ({FIGURE})")
GROUND = re.compile(r"<!-- paper: (\w+) (\w+): (.+?) -->", re.DOTALL)
COMPARES = re.compile(
    rf"\b(?:[Aa]s|[Uu]nlike|[Ll]ike|than)(?: in)? (?:the paper(?!'s| does| reports)|{PLACE})"
    r"|[Tt]he paper (?:finds|found|shows|sees|has)\b"
    r"|[Tt]he paper's (?:trend|ranking|order)\b"
)
FINDINGS = {line for axis in AXES.values() for line in findings(axis)}


def plain(text: str) -> str:
    """One line, without marks of Markdown and comments."""
    return " ".join(re.sub(r"<!--.*?-->|[*`]", "", text, flags=re.DOTALL).split())


def paragraphs(text: str) -> Iterator[str]:
    """Blank lines, list items and table rows separate."""
    yield from (p for p in re.split(r"\n\s*\n|\n(?=\s*(?:[-|]|\d+\.) )", text) if p.strip())


def strings(path: str) -> Iterator[str]:
    """Docstrings, messages and other texts of a module."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.value


@cache
def figures(place: str = "", metric: str = "") -> frozenset[str]:
    """The paper's figures, of one place (Table 1) and of one metric (gFID is FID) where named."""
    return frozenset(
        number(float(value))
        for table in TABLES.values()
        for row in table.rows.values()
        for name, value in row.items()
        if place in table.source
        and metric.lower().removeprefix("g") in ("", name.removeprefix("g"))
    )


def misquotes(text: str) -> list[str]:
    """Figures of a text that the paper does not have where the text says so."""
    wrong = []
    for sentence in re.split(r"(?<=[.;!?]) (?=[A-Z])", plain(text)):
        quotes = [(value, place, "") for value, place in BESIDE_ITS_PLACE.findall(sentence)]
        quotes += [(value, place, "") for place, value in BEHIND_ITS_PLACE.findall(sentence)]
        quotes += [(value, "", "") for value in SAID.findall(sentence)]
        if re.search(rf"\bpaper\b|{PLACE}", sentence):
            for metric, *values in NAMED.findall(sentence):
                quotes += [(value, "", metric) for value in values if value]
        for value, place, metric in quotes:
            if number(float(value)) not in figures(place, metric):
                wrong.append(f"{metric or place} {value}: {sentence}")
    return wrong


def untrue(table: str, metric: str, order: str) -> str:
    """Empty when the rows' figures stand in this order, else what is wrong."""
    if table not in TABLES:
        return f"{table} is no key of TABLES"
    rows, signs = re.split(r" [<=] ", order), re.findall(r" ([<=]) ", order)
    missing = [row for row in rows if metric not in TABLES[table].rows.get(row, {})]
    if missing or not signs:
        return f"{table} has no {metric} of {missing}, or there is nothing to compare"
    values = [TABLES[table].rows[row][metric] for row in rows]
    holds = [
        a < b if sign == "<" else a == b
        for (a, b), sign in zip(pairwise(values), signs, strict=True)
    ]
    return "" if all(holds) else f"{order}: the paper has {values}"


def ungrounded(text: str) -> list[str]:
    """Paragraphs that compare with the paper without a comment, or against it."""
    wrong = []
    for paragraph in paragraphs(re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)):
        grounds = GROUND.findall(re.sub(r"`.*?`", "", paragraph))
        wrong += filter(None, (untrue(*(" ".join(part.split()) for part in g)) for g in grounds))
        said = COMPARES.search(plain(paragraph))
        is_finding = paragraph.lstrip().startswith("|")  # rule 3
        if said and not grounds and not is_finding:
            wrong.append(f"{said[0]!r} without a comment: {plain(paragraph)}")
    return wrong


@pytest.mark.parametrize("path", DOCUMENTS)
def test_documents_quote_the_paper_rightly(path):
    assert not [line for p in paragraphs((ROOT / path).read_text()) for line in misquotes(p)]


@pytest.mark.parametrize("path", DOCUMENTS)
def test_documents_compare_with_the_paper_on_its_figures(path):
    assert not ungrounded((ROOT / path).read_text())


def test_docstrings_and_messages_quote_the_paper_rightly():
    wrong = {path: found for path in CODE if (found := sum(map(misquotes, strings(path)), []))}
    assert not wrong


def test_the_table_of_findings_is_the_papers():
    """Each row is a finding, and its verdicts are what its numbers say (lower is better)."""
    text = (ROOT / "docs" / "ablations.md").read_text()
    head, *rows = re.search(r"^\| the paper finds.*?(?=\n\n)", text, re.DOTALL | re.MULTILINE)[
        0
    ].split("\n")
    assert len(rows) > 3
    for row in rows[1:]:
        finding, *verdicts = (cell.strip() for cell in row.strip("|").split("|"))
        assert finding in FINDINGS
        for verdict in verdicts:
            word, ours, other = re.match(r"(\w+): ([\d.]+) and ([\d.]+)", verdict).groups()
            gain = float(other) - float(ours)
            assert word == "undecided" or word == ("agrees" if gain > 0 else "disagrees"), row


def test_the_false_sentence_that_was_there():
    """README said so for a month; Table 6 has 2.87 at 0.0 and 6.58 at 1.0."""
    said = "- **Noise** costs reconstruction; full noise (sigma = 0) is worst, as in Table 6."
    assert ungrounded(said)
    assert ungrounded(f"{said} <!-- paper: ablation_reconstruction_noise fid: 1.0 < 0.0 -->")
    assert not ungrounded(f"{said} <!-- paper: ablation_reconstruction_noise fid: 0.0 < 1.0 -->")


@pytest.mark.parametrize(
    "said",
    [
        "FD-digits-cnn  6.603  3,000  2.21 (Table 1)",
        "UNITE-B (Table 1: FID 2.21)",
        "The paper finds gFID 3.33 to 2.21.",
        "Table 6 has FID 6.85 without noise.",
        "3.47 TFLOP per image, the paper says about 3.6.",
    ],
)
def test_a_wrong_figure_is_seen(said):
    assert misquotes(said)


@pytest.mark.parametrize(
    "ground",
    [
        "no_such_table fid: 0.0 < 1.0",
        "ablation_noise_shift fid: 0.5 < 0.6",
        "ablation_noise_shift fid: 0.5",
    ],
)
def test_a_ground_that_is_none_is_seen(ground):
    assert ungrounded(f"It helps, as in the paper. <!-- paper: {ground} -->")
