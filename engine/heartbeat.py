"""Tracks what each rank is doing, so that a stuck run can report which rank holds it up and where.

Each rank records its current activity with `at`. A background thread publishes it to the rendezvous store every few
seconds. A rank that makes no progress for 90 % of torch's timeout logs the activities of all ranks.
"""

import contextlib
import json
import logging
import threading
import time
from typing import Any

log = logging.getLogger(__name__)


class Heartbeat:
    """The activity of one rank and, through `store` (a torch.distributed.Store), of the others."""

    def __init__(self, rank: int = 0, num_ranks: int = 1, store: Any = None, patience_seconds: float = 1800):
        self._rank, self._num_ranks, self._store = rank, num_ranks, store
        self._patience, self._period = 0.9 * patience_seconds, min(10.0, patience_seconds / 60)
        self._current = ("starting", time.time())
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="heartbeat", daemon=True)
        if store is not None:
            self._thread.start()

    def at(self, activity: str) -> None:
        """Records what this rank does from now on, such as "reading the data of step 12"."""
        self._current = (activity, time.time())

    def close(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        last_warning = None
        while not self._ended.wait(self._period):
            current = self._current
            with contextlib.suppress(RuntimeError):  # the store is gone if the rank that hosted it died
                self._store.set(f"at/{self._rank}", json.dumps(current))
                if current is not last_warning and time.time() - current[1] > self._patience:
                    last_warning = current
                    log.warning("no progress on rank %d:\n%s", self._rank, self.describe())

    def describe(self) -> str:
        """One line per rank: its last known activity, and for how many seconds."""
        lines = []
        for rank in range(self._num_ranks):
            last = self._current if rank == self._rank else None
            with contextlib.suppress(RuntimeError):
                if last is None and self._store is not None and self._store.check([f"at/{rank}"]):
                    last = json.loads(self._store.get(f"at/{rank}"))
            status = "no heartbeat yet" if last is None else f"{last[0]}, for {time.time() - last[1]:.0f} s"
            lines.append(f"  rank {rank}: {status}")
        return "\n".join(lines)
