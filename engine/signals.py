"""Signals that ask a run to leave: it saves first, and the same command goes on from there.

SIGTERM is what torchrun, SLURM and containers send before they kill; SIGUSR1 is what a SLURM job can ask for some time
before its limit. The processes that read files ignore both, as they may be sent to a whole group (see
datasets/dataloader.py).
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

ASK_TO_STOP = (signal.SIGTERM, signal.SIGUSR1)
EXIT_AGAIN = 75
"""Exit status of a run that was asked to stop and saved: EX_TEMPFAIL, start it again."""


class Stopped(Exception):
    """The run was asked to stop; what it needs to go on is saved."""


class StopSignals:
    """As a context, takes the signals: `name` is that of the first one; a second one ends the process at once."""

    def __init__(self):
        self.name: str | None = None
        self._raises = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():  # others may not
            self._before = {number: signal.signal(number, self._take) for number in ASK_TO_STOP}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, _: FrameType | None) -> None:
        if self.name is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.name = signal.Signals(number).name
        if self._raises:
            raise Stopped(self.name)

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """For what may be broken off at any point: a signal raises Stopped in here."""
        if self.name is not None:
            raise Stopped(self.name)
        self._raises = True
        try:
            yield
        finally:
            self._raises = False
