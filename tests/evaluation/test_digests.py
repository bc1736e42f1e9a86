"""Digests of tasks that earlier versions left behind: the same request finds its finished work."""

from dataclasses import replace

import pytest

from unite.config.recipes import recipe
from unite.evaluation import suite
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.dataset import Dataset
from unite.evaluation.images.fitting import FitTask
from unite.evaluation.images.sources import ExtractorSource
from unite.evaluation.images.statistics import ReferenceTask
from unite.evaluation.request import open_suites
from unite.evaluation.suites import images_generation, probe
from unite.evaluation.target import Subject, Target
from unite.scheduling.requests import EvaluationRequest, Measurement

SUITES = {
    "generation": "8b7e1687578f670d",
    "reconstruction": "28f0b6b9fca29e31",
    "alignment": "8687e89eecc62a7d",
    "trajectory": "7158e68a4d0b39b7",
    "entropy": "09b0abf22685abe5",
    "probe": "dcda868f1fa5e9d6",
    "compute": "53bf4c458c38c93b",
}
"""Of 2026-11-27, version 2 of the noise, on one made-up version of the libraries; those of the
suites that draw nothing are of 2026-11-26."""
ASKED = EvaluateArguments(num_samples=100, extractor=("pixels",), seed=3)


@pytest.fixture(autouse=True)
def _versions(monkeypatch):
    monkeypatch.setattr(suite, "library_versions", lambda: {"library": "1"})


@pytest.fixture
def target(monkeypatch):
    for name in ("check_labels", "class_counts"):
        monkeypatch.setattr(images_generation, name, lambda *_: None)
    monkeypatch.setattr(probe, "check_labels", lambda _: None)
    place = {"uri": "/runs/a/checkpoints/1", "home": "/runs/a/evaluations/c"}
    train = Dataset(split="train", digest="d" * 16, num_rows=1500, uri="/data")
    held_out = Dataset(split="eval", digest="d" * 16, num_rows=297, uri="/data")
    subject = Subject(digest="c" * 16, config=recipe("smoke"), **place)
    return Target(subject=subject, run=None, storage="/runs", train=train, held_out=held_out)


@pytest.fixture
def source(target):
    return ExtractorSource.open("pixels", target.subject.config.domain)


def test_suites_keep_their_digests(target, source):
    suites = open_suites(ASKED, target)
    found = {each.suite: each for each in suites}
    for name in ("generation", "reconstruction"):
        found[name] = replace(found[name], sources=(source,))
    assert {name: each.digest for name, each in found.items()} == SUITES


def test_preparations_keep_their_digests(target, source):
    images = target.subject.config.domain
    reference = ReferenceTask(
        total=1500, home="/runs/x", data=target.train, images=images, source=source
    )
    assert reference.digest == "f482786bcfe5f71f"
    assert FitTask.of(target.train, images, "/runs").digest == "f29e5e4f65f9678a"


@pytest.mark.parametrize(
    ("suite", "asked", "digest"),
    [
        ("generation", ASKED, "a70b09fa81864d86"),
        ("probe", ASKED, "77a769060bffe0f7"),
        (
            "generation",
            EvaluateArguments(num_samples=100, extractor=("pixels",), cfg_adaptive=True),
            "39e903624066c18d",
        ),
    ],
)
def test_scheduled_work_keeps_its_digest(target, suite, asked, digest):
    (measured,) = [each for each in open_suites(asked, target) if each.suite == suite]
    measurement = Measurement.of(measured, target, asked)
    request = EvaluationRequest(subject=target.subject, committed=0, measurement=measurement)
    assert request.digest == digest
