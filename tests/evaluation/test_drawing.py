"""Samples of a suite: their number."""

from unite.evaluation.drawing import num_samples


def test_the_default_number_of_samples_follows_the_data(request_of):
    evaluation = request_of(num_samples=0)
    assert num_samples(evaluation.arguments, evaluation.target) == 3000


def test_fixed_steps_stand_on_the_card_without_what_adaptive_ones_need(run_suites):
    (outcome,) = run_suites("generation", num_samples=50)
    card = outcome.rows[0].card
    assert (card.solver, card.num_steps, card.step_control) == ("euler", 4, "")
    assert (card.atol, card.rtol) == (0.0, 0.0)
