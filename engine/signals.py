"""Signals that ask a run to stop. The run saves first, and the same command resumes it.

torchrun, SLURM and containers send SIGTERM before they kill a process. A SLURM job can request SIGUSR1 some time before
its time limit. Dataloader workers ignore both, because a signal may go to the whole process group (see
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
"""Exit status of a run that saved and stopped on request (EX_TEMPFAIL): start it again to resume."""


class Stopped(BaseException):
    """The run was asked to stop and can be resumed. Like KeyboardInterrupt, `except Exception` does not catch it."""


class StopSignals:
    """A context that handles the signals. `name` is the first one received; a second one kills the process."""

    def __init__(self):
        self.name: str | None = None
        self._raises = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():  # only the main thread may set handlers
            self._before = {number: signal.signal(number, self._handle) for number in ASK_TO_STOP}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.name is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.name = signal.Signals(number).name
        if self._raises:
            raise Stopped(self.name)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Context for work that may be interrupted at any point: a signal raises Stopped immediately."""
        if self.name is not None:
            raise Stopped(self.name)
        self._raises = True
        try:
            yield
        finally:
            self._raises = False
