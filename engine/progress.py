"""Progress of a run: averages, throughput, time left, and time spent waiting for data."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from tqdm import tqdm

from engine import own_code
from engine.distributed import Ranks

log = logging.getLogger(__name__)


class Meter:
    """Sums over a window of training steps, and how its time was spent."""

    def __init__(self, ranks: Ranks):
        self._ranks = ranks
        self._sums: dict[str, torch.Tensor] = {}
        self._seconds = self._seconds_waited = 0.0  # over all closed windows
        self.start()

    def start(self) -> None:
        """Restarts the clock and keeps the sums."""
        self._num_samples = 0
        self._waited = 0.0
        self._start = time.perf_counter()

    def next_batch(self, batches: Iterator[Any]) -> Any:
        """Fetches the next of `batches` and counts the time as waiting for data."""
        start = time.perf_counter()
        batch = own_code.next_batch(batches)
        self._waited += time.perf_counter() - start
        return batch

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Context whose time does not count as training time (an evaluation, a checkpoint)."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start

    def add(self, sums: dict[str, torch.Tensor], num_samples: int) -> None:
        """Adds `sums` over the `num_samples` samples of one forward pass."""
        self._num_samples += num_samples
        for name, value in {**sums, "count": num_samples}.items():
            value = torch.as_tensor(value).detach().double()
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def sums(self) -> dict[str, torch.Tensor]:
        """The sums of this rank so far, for `set_sums`."""
        return dict(self._sums)

    def set_sums(self, sums: dict[str, torch.Tensor]) -> None:
        """Resets the sums to an earlier value of `sums()`."""
        self._sums = dict(sums)

    @property
    def share_waited(self) -> float:
        """Fraction of this rank's time spent waiting for data, over all closed windows."""
        return self._seconds_waited / max(self._seconds, 1e-9)

    def state(self) -> dict[str, float]:
        """The sums over all ranks so far, for a checkpoint. Every rank must call it."""
        total = self._total()
        self.restore(total)
        return total

    def restore(self, state: dict[str, float]) -> None:
        """Restores the sums from `state`. They go to the main rank; the others start from zero."""
        self._sums = {
            name: torch.tensor(value if self._ranks.is_main else 0.0, dtype=torch.float64)
            for name, value in state.items()
        }

    def close_window(self) -> dict[str, float]:
        """Per-sample averages over all ranks, `num_samples` and speed; starts a new window. Every rank must call it.

        Returns {} if every step of the window was skipped.
        """
        total = self._total()
        count = total.pop("count", 0.0)
        seconds = time.perf_counter() - self._start
        speed = {
            "samples_per_second": self._num_samples * self._ranks.num_ranks / seconds,
            "waiting_for_data": self._waited / seconds,  # fraction of the time
            "num_samples": count,
        }
        self._seconds += seconds
        self._seconds_waited += self._waited
        self._sums = {}
        self.start()
        return {name: value / count for name, value in total.items()} | speed if count else {}

    def _total(self) -> dict[str, float]:
        if not self._sums:
            return {}
        names = sorted(self._sums)
        if self._ranks.num_ranks > 1:  # sums of other sizes would wait for each other
            own_code.check_same_names(self._ranks.broadcast(self._ranks.gather(names)))
        total = self._ranks.sum(torch.stack([self._sums[name].cpu() for name in names]))
        return dict(zip(names, total.tolist(), strict=True))


class _LogLines:
    """A file object for tqdm that writes the bar to the log."""

    def write(self, text: str) -> None:
        if line := text.strip():
            log.info("%s", line)

    def flush(self) -> None:
        pass


def progress_bar(total: int, initial: int, ranks: Ranks, what: str, unit: str = "step") -> tqdm:
    """A progress bar on the main rank's terminal; a log line every 30 s if standard error is not a terminal."""
    options = {"initial": initial, "leave": False, "disable": not ranks.is_main}
    return terminal_bar(total, what, unit, **options)


def terminal_bar(total: int, what: str, unit: str, **options: Any) -> tqdm:
    """A progress bar for a single process; a log line every 30 s if standard error is not a terminal.

    `options`: those of tqdm.
    """
    options = {"total": total, "desc": what, "unit": unit, **options}
    if sys.stderr.isatty():
        return tqdm(**options, dynamic_ncols=True)
    line = "{desc}: {unit} {n_fmt} of {total_fmt} [{elapsed}<{remaining}{postfix}]"
    return tqdm(**options, file=_LogLines(), mininterval=30, delay=30, bar_format=line)


def counted(batches: Iterable[Any], bar: tqdm) -> Iterator[Any]:
    """The batches. The bar counts each when the next one is requested."""
    for batch in batches:
        yield batch
        bar.update()
