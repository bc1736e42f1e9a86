"""A missing browser: a reason to skip for a developer, a failure where one is required. The number
of threads that was asked for."""

import os
import subprocess
import sys

import pytest


def test_a_missing_browser_fails_where_it_is_required(root, tmp_path):
    environment = {**os.environ, "PATH": str(tmp_path), "UNITE_REQUIRE_BROWSER": "1"}
    test = "tests/reporting/test_browser.py::test_problems_unfold"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", test, "-q", "-n", "0", "-p", "no:cacheprovider"],
        cwd=root, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 1 and "1 error" in run.stdout, run.stdout
    assert "was skipped: Skipped: needs a browser: none of chromium" in run.stdout


@pytest.mark.parametrize(("given", "threads"), [({"OMP_NUM_THREADS": "2"}, "2"), ({}, "1")])
def test_numbers_are_computed_with_the_threads_that_were_asked_for(root, given, threads):
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | given
    run = subprocess.run(
        [sys.executable, "-c", "import conftest, torch; print(torch.get_num_threads())"],
        cwd=root / "tests", env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert run.stdout.split() == [threads], run.stderr
