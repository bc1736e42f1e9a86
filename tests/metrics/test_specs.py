"""The rows of metrics: one name, one direction; every table of the house is made of them."""

from __future__ import annotations

import ast
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from unite.metrics.specs import (
    SPECS,
    Spec,
    better_words,
    direction,
    directions,
    higher_is_better,
    judges,
    logged,
    number,
    register,
    shown_name,
    shown_value,
    spec_of,
)
from unite.metrics.specs.document import document

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "METRICS.md"


@pytest.fixture
def specs(monkeypatch):
    """The rows, which forget at the end what a test adds."""
    kept = dict(SPECS)
    yield SPECS
    SPECS.clear()
    SPECS.update(kept)


def row(**fields) -> Spec:
    return Spec(**{"family": "reconstruction", "key": "toy", "meaning": "a toy"} | fields)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("fid", "fid"),
        ("fd-digits-cnn", "fid"),
        ("FD-digits-cnn", "fid"),
        ("gFID", "fid"),
        ("eval/reconstruction/rfd-pixels", "rfid"),
        ("eval/psnr", "psnr"),
        ("eval/reconstruction/psnr", "psnr"),
        ("loss/l1", "loss/l1"),
        ("eval/latent/std", "latent/std"),
        ("denoiser_random_norm_mb", "*norm_mb"),
        ("eval/trajectory/psnr_t0.30", "*_[tz][0-9]*"),
        ("params_decoder_m", "params_*_m"),
        ("params_m", "params_m"),
    ],
)
def test_a_metric_is_found_by_every_name_that_it_has(name, key):
    assert spec_of(name).key == key


def test_one_key_in_two_families_is_told_apart_by_the_family():
    assert spec_of("images_per_s", "compute").meaning != spec_of("images_per_s").meaning
    assert spec_of("eval/compute/images_per_s") is spec_of("images_per_s", "compute")
    assert spec_of("eval/table4-heun-balanced/fid") is spec_of("fid"), "a suite of another name"


def test_what_is_no_metric_has_no_row():
    assert spec_of("beauty") is None and direction("beauty") is None
    assert shown_name("beauty-digits-cnn") == "beauty-digits-cnn"


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("fid", "FID"),
        ("fd-digits-cnn", "FD-digits-cnn"),
        ("rfd-pixels", "rFD-pixels"),
        ("cs-digits-cnn", "CS-digits-cnn"),
        ("precision-pixels", "precision-pixels"),
        ("psnr_8bit", "psnr_8bit"),
        ("psnr_t0.50", "psnr_t0.50"),
        ("random_norm_mb", "random_norm_mb"),
    ],
)
def test_names_are_shown_as_the_literature_writes_them(metric, name):
    assert shown_name(metric) == name


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.0, "3"),
        (12345.0, "12,345"),
        (0.123456, "0.1235"),
        (1e12, "1e+12"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
    ],
)
def test_numbers_have_four_digits_and_whole_ones_all(value, text):
    assert number(value) == text


def test_a_row_says_how_many_digits_its_value_has(specs):
    register(row(digits=6))
    assert shown_value("eval/reconstruction/toy", 0.1234567) == "0.123457"


def test_training_metrics_have_no_direction_and_results_theirs():
    assert direction("loss/l1") is None and direction("l1") == "lower"
    assert higher_is_better("eval/psnr") and not higher_is_better("fd-pixels")
    assert better_words("total_mb") == ""


def test_who_speaks_for_a_family_is_ranked():
    assert [each.key for each in judges("reconstruction")] == ["rfid", "psnr", "match_pct"]
    ranked = ["fid", "w1_bonds", "valid_strict_pct", "valid_pct"]
    assert [each.key for each in judges("generation")] == ranked


def test_a_domain_registers_rows_and_every_table_has_them(specs):
    register(row(key="toy_pct", unit="%", better="higher", logged=True))
    assert logged()["eval/toy_pct"] == "held-out a toy, %"
    assert directions()["toy_pct"] == "higher"
    assert "| `toy_pct` |" in document()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"key": "psnr", "better": "higher"}, "registered already"),
        ({"family": "other", "key": "psnr", "better": "lower"}, "one name has one direction"),
        ({"key": "fd", "better": "higher"}, "one name has one direction"),
        ({"family": "other", "key": "psnr", "better": "higher", "logged": True}, "is logged by"),
    ],
)
def test_rows_that_contradict_others_are_refused(specs, fields, message):
    with pytest.raises(ValueError, match=message):
        register(row(**fields))


def test_the_page_is_made_of_the_rows():
    if os.environ.get("UNITE_UPDATE_GOLDEN"):
        PAGE.write_text(document())
    assert PAGE.read_text() == document(), "UNITE_UPDATE_GOLDEN=1 and this test write it anew"


def test_everybody_can_ask_for_rows():
    """Tracking and the driver read them: no torch, no numpy, nothing else of the house."""
    script = "import sys, unite.metrics.specs.document; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    found = {name for name in run.stdout.split() if name.startswith("unite.")}
    assert found <= {"unite.metrics"} | {n for n in found if n.startswith("unite.metrics.specs")}
    assert not {"numpy", "torch"} & set(run.stdout.split())


def test_no_second_list_names_directions():
    """A dictionary of metrics to higher or lower would be one."""
    lists = []
    for path in sorted((ROOT / "platform" / "unite").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            values = node.values if isinstance(node, ast.Dict) else []
            words = [each.value for each in values if isinstance(each, ast.Constant)]
            lists += [f"{path}:{node.lineno}"] if {"higher", "lower"} & set(words) else []
    assert not lists


def toy_metric() -> list[str]:
    """The blocks of code in CONTRIBUTING.md's walk through a new metric."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.partition("### A metric, step by step")[2].partition("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section.partition("\n### ")[0], re.DOTALL)


def test_the_walk_through_a_new_metric_works_as_it_is_written(specs, monkeypatch):
    """Its row joins the rows, its function and its test run."""
    row_text, function, test = toy_metric()
    found = {"specs": SPECS}
    exec(
        "from unite.metrics.specs.images import reconstruction\nROWS = (\n" + row_text + ")", found
    )
    register(*found["ROWS"])
    exec(function, found)
    exec(test.replace("from unite.metrics.contrast import contrast\n", ""), found)
    tests = [value for name, value in found.items() if name.startswith("test_")]
    assert tests
    for each in tests:
        each()
    assert "`contrast_gap`" in document() and direction("contrast_gap") == "lower"
