"""The same evaluation on an object store."""

import pytest

from unite.drivers.evaluate import evaluate
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.chunks import partition
from unite.evaluation.request import open_evaluation
from unite.evaluation.results import read_outcomes
from unite.evaluation.suites.images_generation import Generation
from unite.storage import Store

SUITES = ("reconstruction", "generation")


@pytest.mark.slow
def test_a_run_on_s3_is_evaluated_like_a_local_one(storage, s3, run_suites, monkeypatch):
    bucket, run = Store.open(s3), Store.open(storage / "tiny")
    for name in run.list(recursive=True):
        if run.is_file(name) and not name.startswith("evaluations"):
            bucket.write(f"tiny/{name}", run.read(name))
    arguments = EvaluateArguments(
        run="tiny", suite=SUITES, num_workers=0, num_samples=100, extractor=("pixels",)
    )
    evaluation = open_evaluation(arguments, s3)
    lost, begun = killed_at_the_third_chunk(evaluation, monkeypatch), []
    monkeypatch.setattr(Generation, "measure", noting(Generation.measure, begun))
    there = evaluate(evaluation)
    assert begun[0] == lost, "what was finished on S3 is not computed again"
    assert len(begun) == len(partition("generation", 100)) - 2
    here = run_suites(*SUITES)
    timed = "images_per_s"
    assert values(there, timed) == values(here, timed)
    assert evaluation.home.uri.startswith(f"{s3}/tiny/evaluations/")
    assert read_outcomes(evaluation.home) == there
    assert len(bucket.list("references")) >= 1


class KilledError(BaseException):
    """The process ends here."""


def killed_at_the_third_chunk(evaluation, monkeypatch):
    """Evaluate until generation has two chunks; the chunk that was lost."""
    begun = []

    def measured(self, instruments, chunk):
        begun.append(chunk)
        if len(begun) == 3:
            raise KilledError
        return measure(self, instruments, chunk)

    with monkeypatch.context() as patch:
        measure = Generation.measure
        patch.setattr(Generation, "measure", measured)
        with pytest.raises(KilledError):
            evaluate(evaluation)
    return begun[-1]


def noting(measure, begun):
    def measured(self, instruments, chunk):
        begun.append(chunk)
        return measure(self, instruments, chunk)

    return measured


def values(outcomes, without):
    return {
        (row.card.suite, row.card.metric): row.card.value
        for outcome in outcomes
        for row in outcome.rows
        if row.card.metric != without
    }
