"""Numbers and their protocols: what may be compared, and in what it differs."""

from __future__ import annotations

import pytest

from unite.reporting.catalogue import differing, in_words, letter, shown

FD = ("generation", "fd-digits-cnn")


def test_numbers_of_one_protocol_share_a_letter(seen, index, rich):
    good, other = (seen.catalogue.newest(index[name], FD) for name in (rich.good, rich.other))
    assert good.letter != other.letter
    letters = [good.letter, other.letter]
    assert seen.catalogue.differing(FD, letters) == {"num_samples": ["3,000", "1,000"]}
    psnr = ("reconstruction", "psnr")
    assert {seen.catalogue.newest(index[n], psnr).letter for n in (rich.good, rich.other)} == {"B"}


def test_every_entry_is_found_by_run_metric_and_value(seen):
    for number, entry in enumerate(seen.catalogue.entries):
        assert entry.id == number and entry in seen.catalogue.of_run(entry.run)
        found = seen.catalogue.of_card(entry.run, entry.card)
        assert found is not None and found.card.value == entry.card.value
    assert seen.catalogue.of_value(0, FD, -1.0) is None
    assert seen.catalogue.newest(0, ("generation", "nothing")) is None


@pytest.mark.parametrize(
    ("place", "name"), [(0, "A"), (25, "Z"), (26, "AA"), (52, "BA"), (701, "ZZ")]
)
def test_letters_go_on_after_z(place, name):
    assert letter(place) == name


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", "none"), (None, "none"), (0, "0"), (True, "True"), (3_000, "3,000"), (1e-05, "1e-05"),
        ("0123456789abcdef" * 2, "0123456789ab"), ("x" * 99, "x" * 57 + "..."),
        ((0.1, 1), "(0.1, 1)"),
    ],
)  # fmt: skip
def test_fields_are_shown_short(value, text):
    assert shown(value) == text


def test_only_fields_that_differ_are_named_also_where_one_is_missing():
    found = differing([{"a": 1, "b": 2}, {"a": 1, "c": 3}])
    assert found == {"b": ["2", "none"], "c": ["none", "3"]}
    assert in_words(found, ["A", "B"]) == "b 2 (A), none (B); c none (A), 3 (B)"
