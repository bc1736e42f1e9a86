"""Imports that scripts make inside their functions are there: none ends late for a missing one."""

from __future__ import annotations

import ast
import importlib
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
