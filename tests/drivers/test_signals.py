"""The first signal asks, the second ends at once, and the handlers of before come back."""

import signal

import pytest

from unite.drivers.signals import stop_on_signals

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_asks_and_the_second_ends_at_once(number, caplog):
    asked = []
    with pytest.raises(KeyboardInterrupt), stop_on_signals(lambda: asked.append(1), "it saves"):
        signal.raise_signal(number)
        assert asked == [1]
        assert "it saves (Ctrl-C once more ends it at once)" in caplog.text
        signal.raise_signal(number)
    assert asked == [1]


@pytest.mark.parametrize("number", SIGNALS)
def test_without_anything_to_ask_the_first_ends_at_once(number):
    with pytest.raises(KeyboardInterrupt), stop_on_signals():
        signal.raise_signal(number)


def test_the_handlers_of_before_come_back():
    before = [signal.getsignal(number) for number in SIGNALS]
    with stop_on_signals():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before
