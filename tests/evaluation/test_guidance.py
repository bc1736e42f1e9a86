"""The guidance sweep end to end: what it finds, what it draws, what its cards say."""

import json

import pytest

from unite.evaluation.guidance import SCALES, too_few_to_search


def value(outcome, metric):
    (row,) = [row for row in outcome.rows if row.card.metric == metric]
    return row.card.value


def test_few_samples_are_swept_in_full(run_suites):
    """A prefix is whole chunks: a sixteenth of 100 samples would be a third of them."""
    adaptive, _ = run_suites("generation", cfg_adaptive=True, seed=1)
    full, _ = run_suites("generation", cfg_sweep=True, seed=1)  # the same chunks: nothing is drawn
    assert value(adaptive, "best_cfg_scale") == value(full, "best_cfg_scale")
    assert value(adaptive, "samples_drawn") == len(SCALES) * 100
    assert "--cfg-adaptive needs 512 samples" in adaptive.remarks[0]
    assert not full.remarks
    assert (too_few_to_search(511) == "", too_few_to_search(512) == "") == (False, True)


@pytest.mark.slow
def test_the_search_finds_what_the_full_sweep_finds_for_a_quarter(
    run_suites, random_export, storage
):
    data = str(storage / "data" / "digits")
    settings = {"num_samples": 640, "num_steps": 2, "run": random_export, "data": data}
    adaptive, generation = run_suites("generation", cfg_adaptive=True, **settings)
    full, _ = run_suites("generation", cfg_sweep=True, **settings)
    assert value(adaptive, "best_cfg_scale") == value(full, "best_cfg_scale")
    assert value(full, "samples_drawn") == len(SCALES) * 640
    assert value(adaptive, "samples_drawn") <= len(SCALES) * 640 / 4
    distances = json.loads(full.files["cfg_sweep.json"])["distances"]
    assert value(generation, "fd-pixels") == pytest.approx(min(distances.values()), rel=1e-9)


def test_its_cards_hold_the_protocol(run_suites):
    sweep, generation = run_suites("generation", cfg_sweep=True, seed=1)
    beside = generation.rows[0].card
    for row in sweep.rows:
        card = row.card
        assert (card.solver, card.num_steps, card.label_sampling) == ("euler", 4, "balanced")
        for name in ("reference", "extractor", "extractor_digest", "seed", "cfg_interval"):
            assert getattr(card, name) == getattr(beside, name), name
    assert sweep.rows[0].card.details["scales"] == list(SCALES)
    content = json.loads(sweep.files["cfg_sweep.json"])
    assert content["card"]["reference"] == beside.reference
