"""The batch size changes no image, and numbers by rounding alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unite.drivers.session import session
from unite.evaluation.chunks import MOST_SAMPLES
from unite.evaluation.instruments import LEAST_ROWS, Instruments

SUITES = ("generation", "reconstruction", "trajectory")
SIZES = (1, 5, 250)


@pytest.fixture
def one_thread():
    """As workers compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@given(st.integers(1, 12_000), st.integers(1, 300))
def test_no_batch_is_smaller_than_rounding_allows(num, cap):
    size = Instruments(batch_size=cap).batch(num)
    last = num % size or size
    assert last >= min(num, LEAST_ROWS)
    if num <= MOST_SAMPLES:
        assert size <= max(cap, 2 * LEAST_ROWS)


@pytest.fixture
def suites(request_of):
    """On pixel features, so that equal features are equal images."""
    evaluation = request_of(suite=SUITES, num_samples=200)
    with session(evaluation.arguments) as run:
        return [suite.prepared(run) for suite in evaluation.suites]


def test_any_batch_size_gives_the_same_numbers(suites, one_thread):
    for suite in suites:
        found = [everything(suite, Instruments(batch_size=size)) for size in SIZES]
        numbers = [{r.card.metric: r.card.value for r in suite.combine(c).rows} for c in found]
        for name in set(numbers[0]) - {"images_per_s"}:
            values = [each[name] for each in numbers]
            # Some CPUs round the rows of another batch otherwise, by a few units of float32.
            assert values == pytest.approx([values[0]] * len(SIZES), rel=1e-6), name


def everything(suite, instruments):
    return [suite.measure(instruments, chunk) for chunk in suite.chunks()]


def test_any_batch_size_gives_the_same_images(suites, one_thread):
    """Features are pixels, so equal features are equal images; sums differ by their order alone."""
    chunk = suites[0].chunks()[0]
    found = [suites[0].measure(Instruments(batch_size=size), chunk) for size in SIZES]
    for ours in found[1:]:
        for name in ("shown", "fake/0/kept/features", "fake/0/indices", "cost"):
            np.testing.assert_array_equal(ours[name], found[0][name], err_msg=name)
