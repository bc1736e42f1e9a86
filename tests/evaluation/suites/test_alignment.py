"""The alignment suite on the tiny run: its chunks give what the whole gives."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tiny_run import value
from unite.config.recipes import recipe
from unite.evaluation.chunks import partition
from unite.evaluation.instruments import Instruments
from unite.evaluation.suites.alignment import both_passes
from unite.metrics.pathways import AlignmentSums


def test_alignment_of_chunks_is_alignment_of_the_whole(run_suites, request_of, tiny, data):
    (outcome,) = run_suites("alignment")
    target = request_of().target
    (suite,) = request_of(suite=("alignment",)).suites
    sums = AlignmentSums(suite.config)
    domain = target.subject.config.domain
    (whole,) = partition("alignment", 297, 1)
    for rows in Instruments().rows(target.held_out, domain, whole):
        sums.update(rows.rows_B, *both_passes(sums.config, tiny, rows))
    for name, expected in sums.result().summary().items():
        assert value(outcome, name) == pytest.approx(expected, rel=1e-6)
    found = json.loads(outcome.files["alignment.json"])
    assert found["card"]["suite"] == "alignment" and "value" not in found["card"]
    for name in ("cka", "cknna", "cosine", "latent_cosine"):
        expected = getattr(sums.result(), name)
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, err_msg=name)
    assert np.shape(found["cka"]) == (5, 2), "levels, blocks"
    assert len(suite.chunks()) == 10, "two parts of each level"
    assert {"alignment.png", "alignment.svg", "alignment.json"} <= set(outcome.files)


def test_large_models_share_their_alignment_between_workers(request_of):
    (suite,) = request_of(suite=("alignment",)).suites
    suite = replace(suite, total=1024, subject=replace(suite.subject, config=recipe("unite-xl")))
    chunks = suite.chunks()
    assert len(chunks) == 5
    assert {len(chunk) for chunk in chunks} == {1024}
