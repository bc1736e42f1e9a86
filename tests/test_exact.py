"""docs/exact.md: the figures that it shows are those that its commands print today."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from unite.commands.recipes import list_recipes
from unite.config.recipes import recipe
from unite.metrics.specs import number
from unite.training.flops import training_flops

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "exact.md").read_text()


def shown(command: str) -> list[str]:
    """The output that the page shows below a command, without lines that are left out."""
    (block,) = re.findall(rf"```\n\$ {re.escape(command)}\n(.*?)```", PAGE, re.DOTALL)
    return [line.rstrip() for line in block.splitlines() if line.strip() not in ("", "...")]


def test_parameters(capsys):
    list_recipes("unite-b")
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert set(shown("unite recipes unite-b")) <= set(printed)


@pytest.mark.parametrize("name", ["unite-b", "unite-l", "unite-xl"])
def test_every_size_in_the_table(name, capsys):
    (row,) = [line for line in PAGE.splitlines() if f"`unite recipes {name}`" in line]
    _, _, ours, theirs, *_ = row.split("|")
    list_recipes(name)
    (last,) = re.findall(r"authors' checkpoint +([\d,]+)", capsys.readouterr().out)
    assert ours.strip() == last == theirs.split()[0]


def test_compute():
    flops = training_flops(recipe("unite-b"))
    figures = {"tflop_per_sample": flops.total}
    figures |= {f"tflop_{name}": term.total for name, term in flops.terms.items()}
    lines = shown("python jobs/evaluate.py --recipe unite-b --suite entropy compute")
    table = {words[0]: words[1] for line in lines if len(words := line.split()) > 1}
    for name, value in figures.items():
        assert table[name] == number(value / 1e12)
