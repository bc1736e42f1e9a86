"""Samples of a suite: their number."""

from unite.evaluation.drawing import num_samples


def test_the_default_number_of_samples_follows_the_data(request_of):
    evaluation = request_of(num_samples=0)
    assert num_samples(evaluation.arguments, evaluation.target) == 3000
