"""The first signal is recorded or interrupts an interruptible section; the second kills the process."""

import os
import signal

import pytest

from engine.signals import Stopped, StopSignals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_the_first_signal_is_recorded_and_the_second_kills_the_process(number, monkeypatch):
    before, killed = signal.getsignal(number), []
    monkeypatch.setattr(os, "kill", lambda *arguments: killed.append(arguments))
    with StopSignals() as stop:
        assert stop.name is None
        signal.raise_signal(number)
        assert stop.name == number.name and not killed
        signal.raise_signal(number)
        assert killed == [(os.getpid(), number)] and signal.getsignal(number) == signal.SIG_DFL
    assert signal.getsignal(number) == before


def test_a_signal_interrupts_an_interruptible_section():
    with StopSignals() as stop:
        with stop.interruptible():
            pass
        with pytest.raises(Stopped, match="SIGTERM"), stop.interruptible():
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Stopped), stop.interruptible():  # a signal that came before
            raise AssertionError
