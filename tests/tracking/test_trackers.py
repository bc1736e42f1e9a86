"""Many trackers on one server: every point arrives once, on sqlite and on PostgreSQL."""

from __future__ import annotations

import importlib

import pytest


@pytest.fixture
def script(root, monkeypatch):
    monkeypatch.syspath_prepend(root / "benchmarks")
    return importlib.import_module("trackers")


def require(script, database: str) -> None:
    why = script.lacks_postgresql() if database == "postgresql" else ""
    if why:
        pytest.skip(f"needs a PostgreSQL: {why}")


@pytest.mark.mlflow_server
@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_every_point_arrives_once(script, database):
    require(script, database)
    options = script.Options(trackers=8, points=3, metrics=4, pause_s=0.1, database=database)
    (seen,) = script.main(options)
    assert seen.failed_starts == 0
    assert seen.logged == seen.arrived == seen.distinct == 8 * 3 * 4


@pytest.mark.mlflow_server
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_every_one_of_72_000_points_arrives_once(script, database):
    require(script, database)
    (seen,) = script.main(script.Options(trackers=200, points=30, database=database))
    assert seen.failed_starts == 0
    assert seen.logged == seen.arrived == seen.distinct == 72_000
