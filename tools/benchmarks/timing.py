"""Measures steps against each other, each in its own process, taking turns.

A fresh process shares neither memory nor caches with the others. Taking turns spreads changes in the machine's speed
over all of them, so ratios compare neighbors in time, not medians over all times. With one thread on a CPU, times are
CPU time, which other programs affect less than wall time.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import torch

from engine.progress import counted, terminal_bar
from tools.common.arguments import positive

START_METHOD = "spawn"  # a forked process would share our memory


@dataclass(frozen=True)
class Contestant:
    """Something to measure."""

    name: str
    make_step: Callable[[], Callable[[], Any]]
    """Called in the contestant's process, so it must be picklable; returns a function that runs one step."""
    num_threads: int = 1
    device: str = "cpu"


@dataclass(frozen=True)
class Measured:
    """The results of one contestant."""

    seconds: list[float]
    """One for each step."""
    memory: int | None
    """Peak bytes that building and running it added; None where the system does not report them."""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def times_faster_than(self, other: "Measured") -> float:
        return statistics.median(a / b for a, b in zip(other.seconds, self.seconds, strict=True))

    @property
    def mebibytes(self) -> str:
        return "-" if self.memory is None else f"{self.memory / 2**20:.0f}"


def add_timing_arguments(parser: argparse.ArgumentParser, num_repeats: int) -> None:
    """Adds --threads, and --repeats with a default of `num_repeats`."""
    parser.add_argument("--threads", type=positive, default=1, help="CPU threads; other programs affect one the least")
    parser.add_argument("--repeats", type=positive, default=num_repeats, help="measured steps of each")


def measure(contestants: list[Contestant], num_repeats: int, what: str) -> list[Measured]:
    """`num_repeats` steps of each, in turns, after two to warm up; `what` labels the progress bar."""
    context = multiprocessing.get_context(START_METHOD)
    workers: list[_Worker] = []
    try:
        for contestant in contestants:
            workers.append(_Worker(context, contestant))
            workers[-1].receive()  # warmed up one at a time, so that none disturbs another's memory
        seconds = [[] for _ in workers]
        with terminal_bar(num_repeats, what, "step", leave=False) as bar:
            for _ in counted(range(num_repeats), bar):
                for worker, times in zip(workers, seconds, strict=True):
                    worker.pipe.send("step")
                    times.append(worker.receive())
        for worker in workers:
            worker.pipe.send("stop")
        return [Measured(times, worker.receive()) for worker, times in zip(workers, seconds, strict=True)]
    finally:
        for worker in workers:
            worker.pipe.close()
            worker.process.join()


class _Worker:
    """The process of one contestant, and our end of the pipe to it."""

    def __init__(self, context: BaseContext, contestant: Contestant):
        self.name = contestant.name
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(contestant, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def receive(self) -> Any:
        """What it sends next. Raises the ValueError that ended its first steps."""
        try:
            received = self.pipe.recv()
        except EOFError:
            raise RuntimeError(f"the process that measured {self.name} ended early; its own error is above") from None
        if isinstance(received, ValueError):
            raise received
        return received


def _work(contestant: Contestant, pipe: Connection) -> None:
    torch.set_num_threads(contestant.num_threads)
    memory = _Memory(contestant.device)
    clock = time.process_time if contestant.device == "cpu" and contestant.num_threads == 1 else time.perf_counter
    try:
        step = contestant.make_step()
        for _ in range(2):
            step()
    except ValueError as error:  # a name or size that the network does not accept
        pipe.send(ValueError(str(error)))
        return
    pipe.send("ready")
    while pipe.recv() == "step":
        memory.synchronize()
        start = clock()
        step()
        memory.synchronize()
        pipe.send(clock() - start)
    pipe.send(memory.peak())


class _Memory:
    """Peak memory since construction: of the process on a CPU, of PyTorch's allocator on a GPU."""

    def __init__(self, device: str):
        self.on_gpu = device.startswith("cuda")
        self.status = Path("/proc/self/status")
        if not self.on_gpu and self.status.exists():
            Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the present size
            self.start = self._resident_peak()

    def peak(self) -> int | None:
        if self.on_gpu:
            return torch.cuda.max_memory_allocated()
        return self._resident_peak() - self.start if self.status.exists() else None

    def synchronize(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()

    def _resident_peak(self) -> int:
        lines = dict(line.split(":", 1) for line in self.status.read_text().splitlines())
        return 1024 * int(lines["VmHWM"].split()[0])
