"""The suite that CONTRIBUTING.md adds step by step, as it stands there."""

import importlib.util
import re
import sys

import numpy as np
import pytest

from unite.config.schema import ImagesConfig
from unite.data.loader import sequential_batches
from unite.data.shards import ShardSet
from unite.domains import build_domain
from unite.evaluation.arguments import EvaluateArguments, check
from unite.evaluation.suites import Entry, suites_for

MODULE = "unite.evaluation.suites.brightness"


@pytest.fixture
def blocks(root):
    """Code of the section, block by block."""
    text = (root / "CONTRIBUTING.md").read_text()
    section = text.partition("### A suite, step by step")[2].partition("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


@pytest.fixture
def added(blocks, tmp_path, monkeypatch):
    """The package with the suite's file, and images with its entry."""
    code, entry = blocks
    file = tmp_path / "brightness.py"
    file.write_text(code)
    spec = importlib.util.spec_from_file_location(MODULE, file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, MODULE, module)
    spec.loader.exec_module(module)
    entries = eval("{" + entry + "}", {"Entry": Entry})
    before = suites_for.dispatch(ImagesConfig)
    suites_for.register(ImagesConfig, lambda domain: {**before(domain), **entries})
    yield
    suites_for.register(ImagesConfig, before)


def test_it_measures_what_it_says(added, run_suites, storage):
    (outcome,) = run_suites("brightness")
    (row,) = outcome.rows
    domain = build_domain(ImagesConfig(size=8, patch=2, channels=1))
    shards = ShardSet.open(str(storage / "data" / "digits"), "eval", domain.columns)
    images = [b.fields["image"] for b in sequential_batches(shards, domain, batch_size=500)]
    expected = np.concatenate(images).mean() / 255
    assert row.card.value == pytest.approx(expected, rel=1e-12)
    assert (row.card.num_samples, row.card.suite) == (297, "brightness")


def test_it_reads_the_flags_of_its_entry(added):
    check(EvaluateArguments(suite=("brightness",), analysis_images=5))
    with pytest.raises(ValueError, match="--probe-images 5 has no effect on brightness"):
        check(EvaluateArguments(suite=("brightness",), probe_images=5))


def test_without_it_the_suite_is_unknown():
    with pytest.raises(ValueError, match="'brightness' is unknown"):
        check(EvaluateArguments(suite=("brightness",)))
