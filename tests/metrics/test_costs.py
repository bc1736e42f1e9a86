"""The compute table: units and derived figures."""

import pytest

from unite.metrics.costs import compute_table
from unite.paper import counterpart

TABLE = compute_table(
    parameters={"encoder": 130_600_000, "decoder": 87_000_000},
    flop_per_sample={"denoise": 2.5e12, "decode": 1.0e12},
    samples_seen=120 * 1_281_167,
    epochs=120,
    images_per_s=1000.0,
    num_devices=8,
    mfu=0.35,
)


def test_table():
    assert TABLE["params_m"] == pytest.approx(217.6)
    assert TABLE["params_decoder_m"] == pytest.approx(87.0)
    assert TABLE["tflop_per_sample"] == pytest.approx(3.5)
    assert TABLE["total_flop"] == pytest.approx(5.38e20, rel=1e-3)
    assert TABLE["device_hours"] == pytest.approx(153_740.04 * 8 / 3600)
    assert TABLE["mfu"] == pytest.approx(0.35)


def test_names_meet_the_papers():
    for name in ("tflop_per_sample", "total_flop", "epochs"):
        assert name in TABLE
        assert counterpart(name, suite="compute") is not None


def test_rows_without_a_measurement_are_absent():
    table = compute_table(
        parameters={"encoder": 1},
        flop_per_sample={"decode": 1.0},
        samples_seen=0,
        epochs=0.0,
    )
    assert not {"images_per_s", "device_hours", "mfu"} & set(table)
    assert table["total_flop"] == 0


def test_device_hours_of_a_number_that_varied_are_absent():
    table = compute_table(
        parameters={"encoder": 1},
        flop_per_sample={"decode": 1.0},
        samples_seen=100,
        epochs=1.0,
        images_per_s=10.0,
        num_devices=None,
    )
    assert table["images_per_s"] == 10.0 and "device_hours" not in table
