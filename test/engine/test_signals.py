"""The first signal is noted, or breaks off what may be; the second ends the process."""

import os
import signal

import pytest

from engine.signals import Stopped, StopSignals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_the_first_signal_is_noted_and_the_second_ends_the_process(number, monkeypatch):
    before, killed = signal.getsignal(number), []
    monkeypatch.setattr(os, "kill", lambda *arguments: killed.append(arguments))
    with StopSignals() as stop:
        assert stop.name is None
        signal.raise_signal(number)
        assert stop.name == number.name and not killed
        signal.raise_signal(number)
        assert killed == [(os.getpid(), number)] and signal.getsignal(number) == signal.SIG_DFL
    assert signal.getsignal(number) == before


def test_what_may_be_broken_off_is():
    with StopSignals() as stop:
        with stop.raising():
            pass
        with pytest.raises(Stopped, match="SIGTERM"), stop.raising():
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Stopped), stop.raising():  # it came before
            raise AssertionError
