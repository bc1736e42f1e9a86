import json
from dataclasses import fields, replace

import pytest

from unite.evaluation.card import (
    LATER,
    OUTCOMES,
    MetricCard,
    comparable,
    differences,
)
from unite.metrics.errors import MetricError
from unite.metrics.versions import library_versions

CARD = MetricCard(
    metric="fd-small-digits",
    value=3.5,
    step=96_000,
    suite="generation",
    checkpoint="c0ffee",
    reference="beef",
    reference_encoding="jpeg-95",
    extractor="small-digits",
    extractor_digest="0" * 64,
    label_sampling="balanced",
    num_samples=1000,
    solver="heun",
    num_steps=25,
    nfe=50.0,
    cfg_scale=1.5,
    cfg_interval=(0.1, 1.0),
    seed=7,
    versions={"torch": "2.15.0", "numpy": "2.4.6"},
    details={"levels": (0.1, 0.5), "k": 3},
)
# One other value for each field; a card with any of them is another protocol, or outcome.
CHANGES = {
    "metric": "fid",
    "value": 4.0,
    "step": 128_000,
    "suite": "reconstruction",
    "checkpoint": "decaf",
    "weights": "raw",
    "data": "d1",
    "reference": "r2",
    "reference_made": "by hand",
    "reference_encoding": "webp-lossless",
    "extractor": "inception-v3-compat",
    "extractor_digest": "1" * 64,
    "resize": "none",
    "uint8_rule": "rounded",
    "label_sampling": "uniform",
    "num_samples": 500,
    "solver": "euler",
    "num_steps": 50,
    "atol": 1e-6,
    "rtol": 1e-3,
    "step_control": "per batch",
    "nfe": 108.2,
    "cfg_scale": 2.0,
    "cfg_interval": (0.0, 1.0),
    "cfg_order": "before the norm",
    "seed": 8,
    "precision": "bfloat16",
    "versions": {"torch": "2.16.0", "numpy": "2.4.6"},
    "details": {"levels": (0.1, 0.5), "k": 5},
}


def test_every_field_is_tried():
    assert set(CHANGES) == {item.name for item in fields(MetricCard)}


@pytest.mark.parametrize("name", CHANGES)
def test_each_field_is_protocol_or_outcome(name):
    other = replace(CARD, **{name: CHANGES[name]})
    assert other.digest() != CARD.digest()
    same_protocol = name in OUTCOMES
    assert comparable(CARD, other) == same_protocol
    # What only words a digest is compared, and is no part of the protocol's identity.
    same_identity = same_protocol or name in LATER
    assert (other.protocol_digest() == CARD.protocol_digest()) == same_identity
    if not same_protocol:
        assert [found.partition(".")[0] for found in differences(CARD, other)] == [name]


def test_a_card_from_before_a_field_is_compared_without_it():
    """Nothing is known of its encoding; whether the images are the same, `reference` says."""
    older = CARD.to_dict()
    del older["reference_encoding"]
    old = MetricCard.from_dict(older)
    assert comparable(old, CARD) and comparable(CARD, old)
    foreign = replace(CARD, reference_encoding="unknown")
    assert differences(CARD, foreign) == {"reference_encoding": ("jpeg-95", "unknown")}


def test_differences_name_both_values():
    other = replace(CARD, cfg_scale=2.0, versions={"torch": "2.16.0"}, value=9.0)
    assert differences(CARD, other) == {
        "cfg_scale": (1.5, 2.0),
        "versions.torch": ("2.15.0", "2.16.0"),
        "versions.numpy": ("2.4.6", None),
    }


def test_json_round_trip():
    again = MetricCard.from_json(CARD.to_json())
    assert again == CARD
    assert again.digest() == CARD.digest()
    assert json.loads(CARD.to_json())["details"] == {"k": 3, "levels": [0.1, 0.5]}
    with pytest.raises(MetricError, match="no metric card .*'colour'"):
        MetricCard.from_dict({**CARD.to_dict(), "colour": "red"})
    with pytest.raises(MetricError, match="no metric card .*'metric'"):
        MetricCard.from_dict({"value": 1.0})


def test_many_numbers_share_all_but_a_name_and_a_value():
    shared = CARD.of_many()
    assert shared == {k: v for k, v in CARD.to_dict().items() if k not in ("metric", "value")}
    assert len(shared) == len(CARD.to_dict()) - 2


def test_what_could_not_be_computed_is_no_number():
    with pytest.raises(MetricError, match="fd-small-digits = nan"):
        replace(CARD, value=float("nan"))


def test_library_versions():
    versions = library_versions()
    assert {"python", "torch", "numpy", "scipy", "torch-fidelity", "scikit-learn"} == set(versions)
    assert "not installed" not in versions.values()
