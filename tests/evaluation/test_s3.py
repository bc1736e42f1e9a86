"""The same evaluation on an object store."""

import pytest
from rich.console import Console

from unite.cluster.evaluate import evaluate, prepare
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.results import read_outcomes
from unite.storage import Store

SUITES = ("reconstruction", "generation")


@pytest.mark.slow
def test_a_run_on_s3_is_evaluated_like_a_local_one(storage, s3, run_suites):
    bucket, run = Store.open(s3), Store.open(storage / "tiny")
    for name in run.list(recursive=True):
        if run.is_file(name) and not name.startswith("evaluations"):
            bucket.write(f"tiny/{name}", run.read(name))
    arguments = EvaluateArguments(
        run="tiny", suite=SUITES, num_workers=0, num_samples=100, extractor=("pixels",)
    )
    evaluation = prepare(arguments, s3)
    there = evaluate(evaluation, Console(quiet=True))
    here = run_suites(*SUITES)
    timed = "images_per_s"
    assert values(there, timed) == values(here, timed)
    assert evaluation.home.uri.startswith(f"{s3}/tiny/evaluations/")
    assert read_outcomes(evaluation.home) == there
    assert len(bucket.list("references")) >= 1


def values(outcomes, without):
    return {
        (row.card.suite, row.card.metric): row.card.value
        for outcome in outcomes
        for row in outcome.rows
        if row.card.metric != without
    }
