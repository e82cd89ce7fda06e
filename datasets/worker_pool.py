"""Runs a function over many items in processes that may die: a hang or a crash costs one item, not the run.

Broken videos make decoders hang, crash or run out of memory, and Python's own process pools then hang, too. Here each
process has one item at a time and a deadline; a late process is killed with all its children and replaced.
"""

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import wait
from typing import Any


@dataclass(frozen=True)
class Lost:
    """Returned instead of a result if the process died, or was killed, while it had the item."""

    reason: str


def default_num_workers(num_ranks_here: int) -> int:
    """Workers for each of the machine's `num_ranks_here` processes: its cores divided among them, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores // max(1, num_ranks_here)))


def run_each(
    function: Callable[[Any], Any], items: Iterable[Any], num_workers: int, timeout_seconds: float
) -> Iterator[tuple[Any, Any]]:
    """Yields (item, result of `function` or `Lost`) for each item, in order of completion.

    Args:
        function: picklable, with picklable items and results; its exceptions are raised here and end the run.
        num_workers: processes, 1 or more.
        timeout_seconds: time limit for one item.
    """
    items = iter(items)
    workers: dict[Any, _Worker] = {}  # by our end of the pipe
    try:
        for item in islice(items, num_workers):
            worker = _Worker(function)
            workers[worker.connection] = worker
            worker.give(item, timeout_seconds)
        while workers:
            seconds_left = min(worker.deadline for worker in workers.values()) - time.monotonic()
            ready = wait(list(workers), max(0.0, seconds_left))
            late = [c for c, worker in workers.items() if c not in ready and worker.deadline <= time.monotonic()]
            for connection in [*ready, *late]:
                worker = workers.pop(connection)
                if connection in ready:
                    result = worker.take()
                else:
                    result = Lost(f"took longer than {timeout_seconds:g} s")
                yield worker.item, result
                for item in islice(items, 1):
                    if isinstance(result, Lost):
                        worker.end()
                        worker = _Worker(function)
                    workers[worker.connection] = worker
                    worker.give(item, timeout_seconds)
                    break
                else:
                    worker.end()
    finally:
        for worker in workers.values():
            worker.end()


class _Worker:
    """A process, the pipe to it, and its current item."""

    def __init__(self, function: Callable[[Any], Any]):
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        self.connection, theirs = context.Pipe()
        arguments = (function, theirs, self.connection)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()

    def give(self, item: Any, timeout_seconds: float) -> None:
        self.item, self.deadline = item, time.monotonic() + timeout_seconds
        with suppress(BrokenPipeError):  # it died meanwhile; `take` reports that
            self.connection.send(item)

    def take(self) -> Any:
        try:
            result, error = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            code = self._process.exitcode
            how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
            return Lost(f"crashed its worker process ({how})")
        if error is not None:
            raise error
        return result

    def end(self) -> None:
        """Kills the process and its children; one that is stuck in the kernel is left behind."""
        self.connection.close()
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (
            AttributeError,
            ProcessLookupError,
            PermissionError,
        ):  # no process groups here, or it has not made its own yet
            self._process.kill()
        self._process.join(timeout=1)


def _serve(function, connection, parents_end):
    parents_end.close()  # so that the pipe breaks when the parent dies
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # its own process group, so that its children can be killed with it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        try:
            result = function(item), None
        except Exception as error:  # the parent raises it
            error.add_note(traceback.format_exc())
            result = None, error
        connection.send(result)
