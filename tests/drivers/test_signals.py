"""The first signal asks, the second ends at once, and the handlers of before come back."""

import signal
import threading

import pytest

from unite.drivers import signals
from unite.drivers.signals import stop_on_signals
from unite.storage import StorageError

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


def test_a_storage_that_is_away_hears_it_later_and_ends_nothing(caplog, monkeypatch):
    monkeypatch.setattr(signals, "AGAIN_S", 0.001)
    tries, heard = [], threading.Event()

    def ask() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise StorageError("the store is away")
        heard.set()

    with stop_on_signals(ask, "it saves"):
        signal.raise_signal(signal.SIGTERM)
        assert heard.wait(30)
    assert len(tries) == 3
    assert caplog.text.count("cannot be asked yet, which is tried again: the store is away") == 1


@pytest.mark.parametrize("number", SIGNALS)
def test_without_anything_to_ask_the_first_ends_at_once(number):
    with pytest.raises(KeyboardInterrupt), stop_on_signals():
        signal.raise_signal(number)


def test_the_handlers_of_before_come_back():
    before = [signal.getsignal(number) for number in SIGNALS]
    with stop_on_signals():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before
