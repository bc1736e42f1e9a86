"""Groups of a batch: in order where all samples are alike, else by size and without padding."""

from __future__ import annotations

import numpy as np
import pytest

from unite.config.recipes import recipe
from unite.domains import build_domain
from unite.training.groups import groups

IMAGES = build_domain(recipe("smoke").domain)
SIZES = np.array([3, 1, 6, 3, 2, 5, 1, 4])


class Sets:
    """The part of a domain that groups ask."""

    def sizes(self, fields):
        return fields["size"]

    def trim(self, fields, length):
        return {k: v[:, :length] if v.ndim > 1 else v for k, v in fields.items()}


FIELDS = {"size": SIZES, "row": np.arange(8), "points": np.arange(8 * 6).reshape(8, 6)}


def test_samples_of_one_size_stay_in_order_and_are_not_copied():
    fields = {"image": np.zeros((7, 8, 8, 1), np.uint8), "label": np.arange(7)}
    cut = list(groups(IMAGES, fields, 7, 3))
    assert [part["label"].tolist() for _, part in cut] == [[0, 1], [2, 3], [4, 5]]
    assert all(np.shares_memory(part["image"], fields["image"]) for _, part in cut)


def test_samples_of_many_sizes_are_sorted_and_cut_to_the_longest():
    cut = list(groups(Sets(), FIELDS, 8, 4))
    assert [part["row"].tolist() for _, part in cut] == [[1, 6], [4, 0], [3, 7], [5, 2]]
    assert [part["points"].shape[1] for _, part in cut] == [1, 3, 4, 6]
    for rows, part in cut:
        assert np.array_equal(FIELDS["row"][rows], part["row"])
        assert np.array_equal(part["points"], FIELDS["points"][rows][:, : part["points"].shape[1]])


@pytest.mark.parametrize(("multiple", "lengths"), [(1, [3, 6]), (4, [4, 6]), (2, [4, 6])])
def test_lengths_are_rounded_up_for_compiled_blocks(multiple, lengths):
    cut = groups(Sets(), FIELDS, 8, 2, multiple=multiple)
    assert [part["points"].shape[1] for _, part in cut] == lengths
