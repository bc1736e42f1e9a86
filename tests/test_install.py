"""What a fresh machine meets: the Makefile, the lock, the project's metadata."""

import os
import re
import shutil
import subprocess
import tomllib

import pytest

LOCKS = ("requirements.lock", "requirements-chem.lock")


@pytest.fixture
def fresh(root, tmp_path):
    """A folder with what make needs before anything is installed."""
    if shutil.which("make") is None:
        pytest.skip("make is absent")
    for name in ("Makefile", *LOCKS, "pyproject.toml"):
        shutil.copy(root / name, tmp_path / name)

    # `make test` itself runs this: what it hands on to a make below it must not count here.
    inherited = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "ARGS", "PYTHON")
    environment = {name: value for name, value in os.environ.items() if name not in inherited}

    def make(*args: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["make", *args], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    return make


@pytest.mark.parametrize(
    ("python", "words"),
    [('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.1\nexit 1\n', "3.9.1"), ("", "missing")],
)
def test_an_old_or_missing_python_is_named_with_the_cure(fresh, tmp_path, python, words):
    if python:
        (tmp_path / "old").write_text(python)
        (tmp_path / "old").chmod(0o755)
    run = fresh(f"PYTHON={tmp_path}/old", "demo")
    assert run.returncode != 0
    assert "needs Python 3.11 or newer" in run.stderr
    assert words in run.stderr
    assert "make PYTHON=" in run.stderr
    assert not (tmp_path / ".venv").exists()


def test_arguments_come_beside_those_of_all_tests(fresh):
    beside, alone = fresh("-n", "test-all", "ARGS=-k flow").stdout.splitlines()[-2:]
    assert '--all -m "not (fault and long)" -k flow' in beside
    assert '--all -m "fault and long" -k flow' in alone


def test_an_installed_environment_is_not_installed_again(fresh, tmp_path):
    """The stamp counts while lock and project are older than it."""
    stamp = tmp_path / ".venv" / ".installed"
    stamp.parent.mkdir()
    stamp.touch()
    (stamp.parent / ".chemistry").touch()
    plan = fresh("--dry-run", "test").stdout
    assert "-m pytest" in plan
    assert "pip sync" not in plan and "pip install" not in plan
    later = stamp.stat().st_mtime + 10
    os.utime(tmp_path / "requirements.lock", (later, later))
    assert "pip sync" in fresh("--dry-run", "test").stdout


def test_chemistry_comes_with_the_tests_and_not_with_the_demo(fresh, tmp_path):
    assert "requirements-chem.lock" in fresh("--dry-run", "test").stdout
    assert "requirements-chem.lock" not in fresh("--dry-run", "demo").stdout


def test_help_names_the_two_commands(fresh):
    lines = fresh("help").stdout.splitlines()
    assert [line.split()[0] for line in lines][1:3] == ["demo", "test"]


def test_ci_runs_what_a_user_runs_and_brings_nothing_but_a_browser(root):
    lines = (root / ".ci" / "run").read_text().splitlines()
    commands = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    assert commands[:2] == ["set -euo pipefail", 'cd "$(dirname "$0")/.."']
    assert commands[-2:] == ["export UNITE_REQUIRE_BROWSER=1", "exec make test"]
    installing = [line for line in commands if re.search(r"\b(install|pip|curl|wget)\b", line)]
    assert len(installing) == 1 and "--no-install-recommends chromium >" in installing[0]
    assert os.access(root / ".ci" / "run", os.X_OK)


def locked(root, name: str = "requirements.lock") -> dict[str, str]:
    text = (root / name).read_text()
    return dict(re.findall(r"^([\w.-]+)==([\w.+!-]+)", text, flags=re.MULTILINE))


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_hashes_and_no_address(root, name):
    text = (root / name).read_text()
    entries = re.split(r"\n(?=[a-z0-9])", text)
    assert len(entries) == len(locked(root, name))
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
    assert not re.search(r"--(find-links|index-url|extra-index-url)", text)


def test_the_lock_holds_what_the_project_asks_for(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + project["optional-dependencies"]["test"]
    names = {re.match(r"[\w.-]+", item)[0].lower() for item in asked}
    assert names <= set(locked(root)), "run `make lock`"
    assert locked(root)["ray"] == "2.60.0"


def test_the_second_lock_adds_chemistry_to_the_first(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    more = locked(root, "requirements-chem.lock")
    assert locked(root).items() <= more.items(), "run `make lock`"
    assert {*extras["chem"], *extras["chem-parity"]} <= set(more)
    assert not {*extras["chem"], *extras["qm9"]} & set(locked(root))
