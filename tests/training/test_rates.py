"""Rates of a window, on a clock that the test turns."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from unite.training import rates


@pytest.fixture
def clock(turned_clock) -> SimpleNamespace:
    clock = SimpleNamespace(now=100.0)
    turned_clock(rates, monotonic=lambda: clock.now)
    return clock


@pytest.fixture
def trainer() -> Any:
    """At image 640, waited 1 s for data so far; two devices of 1,000 FLOP/s, 10 FLOPs an image."""

    def refresh() -> None:
        trainer.device_rate.flops = 2000.0

    trainer = SimpleNamespace(
        images=640,
        stream=SimpleNamespace(wait_seconds=1.0),
        world=SimpleNamespace(size=2),
        flops_per_image=10.0,
        device_rate=SimpleNamespace(flops=1000.0, refresh=refresh),
    )
    return trainer


def move(trainer: Any, clock: SimpleNamespace, *, images: int, seconds: float) -> None:
    trainer.images += images
    clock.now += seconds


def test_rates_are_those_since_the_window_began(trainer, clock):
    window = rates.Window(trainer)
    move(trainer, clock, images=320, seconds=4.0)
    trainer.stream.wait_seconds += 1.0
    assert window.rates() == {
        "throughput/images_per_s": 80.0,
        "throughput/mfu": pytest.approx(40.0 * 10.0 / 1000.0),
        "data/wait_fraction": 0.25,
    }


def test_a_new_window_begins_after_some_seconds_and_measures_the_device_again(trainer, clock):
    window = rates.Window(trainer)
    move(trainer, clock, images=320, seconds=rates.WINDOW_SECONDS)
    assert window.rates()["throughput/mfu"] == pytest.approx(0.16)
    assert trainer.device_rate.flops == 1000.0
    move(trainer, clock, images=0, seconds=1.0)
    window.rates()
    move(trainer, clock, images=400, seconds=2.0)
    latest = window.rates()
    assert latest["throughput/images_per_s"] == 200.0
    assert latest["throughput/mfu"] == pytest.approx(100.0 * 10.0 / 2000.0)


def test_measuring_the_device_is_not_time_of_the_steps(trainer, clock):
    class Rate:
        def refresh(self):
            clock.now += 3.0

        @property
        def flops(self):
            self.refresh()
            return 1000.0

    trainer.device_rate = Rate()
    window = rates.Window(trainer)
    move(trainer, clock, images=160, seconds=2.0)
    window.rates()
    move(trainer, clock, images=160, seconds=2.0)
    assert window.rates()["throughput/images_per_s"] == 80.0
    move(trainer, clock, images=0, seconds=rates.WINDOW_SECONDS)
    window.rates()
    move(trainer, clock, images=160, seconds=2.0)
    assert window.rates()["throughput/images_per_s"] == 80.0


def test_an_evaluation_between_steps_is_not_time_of_the_steps(trainer, clock):
    window = rates.Window(trainer)
    move(trainer, clock, images=160, seconds=2.0)
    with window.paused():
        clock.now += 60.0
    assert window.rates()["throughput/images_per_s"] == 80.0
    move(trainer, clock, images=160, seconds=2.0)
    assert window.rates()["throughput/images_per_s"] == 80.0
