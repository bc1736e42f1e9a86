"""Shards that tasks of Ray Data write, without a cluster; with one: drivers/test_prepare.py."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import pyarrow as pa
import pytest

from unite import network
from unite.cluster import shards
from unite.storage import StorageError

JOB = pa.table({"job": [pickle.dumps(SimpleNamespace(name="train-00007.parquet"))]})


@pytest.fixture
def tries(monkeypatch, turned_clock):
    """Errors of the next tries to write a shard; the time that is waited between them passes."""
    turned_clock(network, sleep=lambda seconds: None)
    errors: list[str] = []

    def run_job(job):
        if errors:
            raise StorageError(errors.pop(0))
        return job.name

    monkeypatch.setattr(shards, "run_job", run_job)
    return errors


def test_a_store_that_is_overloaded_ends_no_preparation(tries):
    tries += ["cannot write s3://b/x: An error occurred (SlowDown) when calling PutObject"] * 3
    (written,) = shards._run_jobs(JOB)
    assert pickle.loads(written["shard"][0].as_py()) == "train-00007.parquet" and not tries


def test_a_store_that_refuses_ends_it_at_once(tries):
    tries += ["cannot write s3://b/x: An error occurred (AccessDenied)"] * 2
    with pytest.raises(StorageError, match="AccessDenied"):
        list(shards._run_jobs(JOB))
    assert len(tries) == 1
