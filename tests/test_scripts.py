"""Imports that scripts make inside their functions are there, and flags that the manual names."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path for folder in ("jobs", "ablations") for path in (ROOT / folder).glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_import_of_a_script_is_there(script):
    nodes = ast.walk(ast.parse(script.read_text()))
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    wanted = [each for each in imports if each.module.startswith("unite")]
    assert wanted
    for node in wanted:
        module = importlib.import_module(node.module)
        for name in node.names:
            if not hasattr(module, name.name):
                importlib.import_module(f"{node.module}.{name.name}")


def commands_of(document: Path) -> dict[str, set[str]]:
    """Flags by script, of the command lines in a document's blocks of code."""
    flags = defaultdict(set)
    for block in re.findall(r"```\n(.*?)```", document.read_text(), flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if found := re.search(r"python (?:(\S+\.py)|-m (unite\.cli \w+))(.*?)(?:#|$)", line):
                flags[found[1] or f"-m {found[2]}"] |= set(
                    re.findall(r" (--[a-z][\w.-]*)", found[3])
                )
    return flags


MANUAL = commands_of(ROOT / "docs" / "OPERATIONS.md")


@pytest.mark.slow
@pytest.mark.parametrize("script", MANUAL)
def test_the_flags_of_the_manual_are_there(script, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "platform"))
    recipe = ["smoke"] if script == "jobs/train.py" else []
    words = [sys.executable, *script.split(), *recipe, "--help"]
    text = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert MANUAL[script] <= set(re.findall(r"--[a-z][\w.-]*", text))


def test_the_manual_has_commands():
    assert {"jobs/train.py", "jobs/schedule_evals.py", "-m unite.cli doctor"} <= set(MANUAL)
