"""The command: what it says of bad input, and that its page needs nothing."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys

import pytest

from unite import tracking
from unite.config.schema import TrackingConfig
from unite.reporting.build import build
from unite.reporting.options import ReportOptions
from unite.reporting.page import _protocol


def test_the_page_holds_every_run_and_names_nothing_outside(report, collected, rich):
    text = report.read_text()
    for run in collected.runs:
        assert run.name in text or run.name == rich.hostile
    assert rich.hostile not in text
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?(https?:)?//""", text)


def test_guidance_is_part_of_the_card_of_samples_also_of_a_part_of_a_joint_model():
    protocol = {"cfg_scale": 1.0, "num_samples": 64}
    for suite in ("generation", "generation-molecules"):
        assert _protocol(suite, protocol) == {"cfg_scale": "1", "num_samples": "64"}
    assert _protocol("reconstruction-molecules", protocol) == {"num_samples": "64"}


def test_the_page_lets_no_script_run_but_its_own(report):
    text = report.read_text()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    own = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert rules["script-src"] == f"'sha256-{own}'"
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"


def test_the_command_says_what_is_on_the_page_and_what_is_not(rich, seen, root, tmp_path):
    options = ReportOptions(experiment="rich", out=str(tmp_path / "page.html"), uri=rich.uri)
    *problems, last = build(options, str(rich.storage), root / "dashboards")
    assert problems == [str(problem) for problem in seen.problems]
    assert f"{len(seen.data.runs)} runs, 3 sweeps" in last


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A storage whose MLflow has one experiment, without a run."""
    from unite.tracking.server import connect

    storage = tmp_path_factory.mktemp("empty")
    uri = tracking.resolve_uri(TrackingConfig(uri=f"sqlite:///{storage}/mlflow.db"), str(storage))
    connect(uri, create=True).create_experiment("bare")
    return storage, uri


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"experiment": "nowhere"}, ["no experiment 'nowhere'", "it has: Default, bare"]),
        ({"experiment": "bare"}, ["experiment 'bare'", "has no runs", "Default, bare"]),
        ({"experiment": "bare", "out": "."}, ["--out . is a folder"]),
        ({"experiment": "bare", "uri": "http://127.0.0.1:9"}, ["127.0.0.1:9", "Start the server"]),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(
    empty, root, options, words, tmp_path, monkeypatch
):
    storage, uri = empty
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as caught:
        build(ReportOptions(**{"uri": uri} | options), str(storage), root / "dashboards")
    assert [each for each in words if each not in str(caught.value)] == []
    assert list(tmp_path.iterdir()) == []


def test_the_command_ends_with_2_and_one_line(empty, root, tmp_path):
    storage, uri = empty
    command = [sys.executable, root / "dashboards" / "build.py", "--storage", storage]
    command += ["--uri", uri, "--experiment", "bare"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "has no runs" in said
    assert list(tmp_path.iterdir()) == []
