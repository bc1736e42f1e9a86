"""The generation suite of images on the tiny run, against samples drawn and measured apart."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tiny_run import the_suite, value
from unite.checkpoints.load import load
from unite.data.loader import sequential_batches
from unite.data.shards import ShardSet
from unite.domains.columns import IMAGES
from unite.evaluation.instruments import Instruments
from unite.metrics.errors import MetricError
from unite.metrics.frechet import Gaussian
from unite.sampling.generator import draw
from unite.sampling.seeds import sample_seeds


@pytest.fixture(scope="session")
def pixels(storage):
    """All training digits, float64 (N, 64) in [0, 1]."""
    domain = load(str(storage / "tiny")).domain
    shards = ShardSet.open(str(storage / "data" / "digits"), "train", IMAGES)
    batches = list(sequential_batches(shards, domain, batch_size=500))
    return np.concatenate([b.fields["image"] for b in batches]).reshape(-1, 64) / 255


def test_generation_measures_the_samples_that_its_seeds_make(run_suites, request_of, tiny, pixels):
    (outcome,) = run_suites("generation")
    settings = request_of().target.subject.config.sampling
    indices = torch.arange(100)
    samples = draw(tiny, indices % 10, settings, seeds_B=sample_seeds(0, indices))
    drawn = tiny.domain.render(samples.reconstruction).reshape(100, -1).numpy() / 255
    ours, theirs = (Gaussian(each.mean(axis=0), np.cov(each.T)) for each in (drawn, pixels))
    expected = ours.distance(theirs)
    assert value(outcome, "fd-pixels") == pytest.approx(expected, rel=1e-6)
    assert value(outcome, "nfe") == samples.nfe_B.double().mean()
    assert value(outcome, "passes") == samples.network_rows_B.double().mean()
    card = next(row.card for row in outcome.rows if row.card.metric == "fd-pixels")
    assert (card.solver, card.num_steps, card.cfg_scale) == ("euler", 4, 1.5)
    assert (card.label_sampling, card.num_samples, card.step) == ("balanced", 100, 256)
    assert card.reference
    assert "1,500 images" in card.reference_made
    recall = next(row.card for row in outcome.rows if row.card.metric == "recall-pixels")
    assert recall.details == {"neighbours": 3, "kept": 100, "reference_kept": 1500}


def test_uniform_labels_depend_on_the_index_alone(request_of, run_suites):
    run_suites("generation")
    suite = replace(the_suite(request_of()), labels="uniform")
    whole = suite._labels(torch.arange(100), 10)
    assert torch.equal(suite._labels(torch.arange(40, 60), 10), whole[40:60])
    assert len(whole.unique()) > 5


def test_cards_say_how_the_real_images_were_stored(run_suites):
    """The built-in digits are PNG; statistics of somebody else's images are of unknown ones."""
    cards = [row.card for o in run_suites("generation", "reconstruction") for row in o.rows]
    by_name = {card.metric: card for card in cards}
    assert by_name["fd-pixels"].reference_encoding == "png"
    assert by_name["rfd-pixels"].reference_encoding == "png"
    assert by_name["nfe"].reference_encoding == ""


def test_adaptive_steps_are_per_sample_and_the_card_says_so(run_suites):
    (outcome,) = run_suites("generation", solver="dopri5", num_samples=20)
    card = outcome.rows[0].card
    assert (card.solver, card.num_steps, card.step_control) == ("dopri5", 0, "per sample")
    assert (card.atol, card.rtol) == (1e-6, 1e-3)
    assert card.nfe > 4


def test_nan_samples_are_refused_with_their_index(request_of, run_suites, monkeypatch):
    run_suites("generation")
    suite = the_suite(request_of())
    instruments = Instruments()
    model = suite.model(instruments)
    monkeypatch.setattr(model, "decode", lambda z, mask=None: torch.full((len(z), 1, 8, 8), np.nan))
    with pytest.raises(MetricError, match="NaN or infinite values, first sample 0"):
        suite.measure(instruments, suite.chunks()[0])


def test_uniform_labels_stand_on_the_card(run_suites, random_export, data):
    settings = {"num_samples": 50, "run": random_export, "data": data}
    (balanced,) = run_suites("generation", **settings)
    (uniform,) = run_suites("generation", **settings, labels="uniform")
    assert {row.card.label_sampling for row in uniform.rows} == {"uniform"}
    assert value(uniform, "fd-pixels") != value(balanced, "fd-pixels")


def test_rates_say_what_they_were_measured_on(run_suites):
    (outcome,) = run_suites("generation", num_samples=50)
    card = next(row.card for row in outcome.rows if row.card.metric == "images_per_s")
    assert card.details.keys() == {"device", "threads", "batch", "workers"}
    assert "CPU" in card.details["device"]


def test_numbers_against_other_real_images_are_not_those_that_were_asked_for(
    request_of, run_suites, tmp_path
):
    """A schedule with another --reference found the numbers of the one before, and was content."""
    pixels = {"extractor": ("pixels",), "seed": 5}
    run_suites("generation", **pixels)

    def is_kept(**changes) -> bool:
        evaluation = request_of(suite=("generation",), **pixels, **changes)
        return the_suite(evaluation).resolved().is_kept()

    others = str(tmp_path / "others.npz")
    np.savez(others, mu=np.full(64, 0.5), sigma=np.eye(64))
    assert is_kept() and not is_kept(reference=others)
    run_suites("generation", reference=others, **pixels)
    assert is_kept(reference=others) and not is_kept()
    np.savez(others, mu=np.full(64, 0.4), sigma=np.eye(64))
    assert not is_kept(reference=others)  # the same file, written again
