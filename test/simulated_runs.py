"""Runs as tests need them: broken off in a step, and evaluated on two ranks in one process."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar
from unittest import mock

from engine.distributed import Ranks


class TwoRanks(Ranks):
    """Simulates two ranks: rank 1 runs first and leaves its value for rank 0, which gathers."""

    values: ClassVar[list] = []

    def gather(self, value):
        self.values.append(value)
        return [self.values.pop(), self.values.pop()] if self.is_main else None

    def on_main(self, function):
        return function()

    def barrier(self):
        pass


@contextlib.contextmanager
def broken_off(task_class: type, step: int, checkpoint: Path) -> Iterator[None]:
    """Inside, training is interrupted in this step, counted from 1, when the checkpoint before it is written."""
    real, calls = task_class.training_step, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == step:
            deadline = time.monotonic() + 60
            while not checkpoint.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            raise KeyboardInterrupt
        return real(*arguments)

    with mock.patch.object(task_class, "training_step", interrupted):
        yield
