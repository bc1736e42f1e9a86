"""The report page: what it holds, what it refuses, and how a browser shows it."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from unite import tracking
from unite.config.schema import TrackingConfig
from unite.reporting.build import build
from unite.reporting.options import ReportOptions
from unite.training.runs import RUN_FILE

HOSTILE = "<img src=x onerror=\"console.error('ran')\"></script><b>bold</b>"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture
def storage(tmp_path, untrained_run):
    """Two tracked runs, one of them with a name that is HTML."""
    for name, shown, psnr in (("tiny", HOSTILE, 20.5), ("other", "plain", 31.25)):
        folder = untrained_run(tmp_path, name=name)
        handle = tracking.start_run(
            TrackingConfig(experiment="exp"),
            storage=str(tmp_path),
            name=shown,
            params={"recipe": "smoke"},
            config_dict={},
            tags=tracking.run_tags("smoke", "0" * 64, {}, run_uri=folder.uri),
        )
        folder.write_json(RUN_FILE, {"mlflow_run_id": handle.run_id, "mlflow_uri": handle.uri})
        tracking.log_results(
            handle, {"eval/reconstruction/psnr": psnr}, 256, spool=tmp_path / "spool" / name
        )
        tracking.finish_run(handle, "FINISHED")
    return tmp_path


def page_of(storage, root):
    out = storage / "report.html"
    lines = build(ReportOptions(experiment="exp", out=str(out)), str(storage), root / "dashboards")
    assert "2 runs" in lines[-1]
    return out


def test_the_page_holds_every_run_and_asks_the_network_for_nothing(storage, root):
    text = page_of(storage, root).read_text()
    assert "plain" in text
    assert HOSTILE not in text
    assert not re.search(r'(src|href)="(https?:)?//', text.replace("https://arxiv.org", ""))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--experiment", "none"], "exp"),
        (["--experiment", "exp", "--out", "."], "is a folder"),
        (["--experiment", "exp", "--uri", "http://127.0.0.1:9"], "127.0.0.1:9"),
    ],
)
def test_bad_input_is_named(storage, root, flags, words):
    command = [sys.executable, root / "dashboards" / "build.py", "--storage", storage, *flags]
    done = subprocess.run(command, cwd=storage, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") or "error: " in done.stderr
    assert words in done.stderr


@pytest.mark.browser
def test_a_browser_shows_it_without_an_error(storage, root):
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        pytest.skip(f"needs a browser: none of {', '.join(BROWSERS)} is installed")
    from playwright.sync_api import sync_playwright

    out, errors = page_of(storage, root), []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(out.as_uri())
        facts = page.evaluate(
            "() => ({wide: document.documentElement.scrollWidth, text: document.body.innerText,"
            " injected: document.querySelectorAll('img[src=x]').length})"
        )
        browser.close()
    assert errors == []
    assert facts["injected"] == 0
    assert "<b>bold</b>" in facts["text"]
    assert facts["wide"] <= 390, json.dumps(facts["wide"])
