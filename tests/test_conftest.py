"""A missing browser: a reason to skip for a developer, a failure where one is required."""

import os
import subprocess
import sys


def test_a_missing_browser_fails_where_it_is_required(root, tmp_path):
    environment = {**os.environ, "PATH": str(tmp_path), "UNITE_REQUIRE_BROWSER": "1"}
    test = "tests/reporting/test_browser.py::test_problems_unfold"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", test, "-q", "-n", "0", "-p", "no:cacheprovider"],
        cwd=root, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 1 and "1 error" in run.stdout, run.stdout
    assert "was skipped: Skipped: needs a browser: none of chromium" in run.stdout
