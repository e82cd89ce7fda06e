"""What each rank is doing, so that a run that is stuck can say which rank holds it up, and where.

Each rank keeps a line about itself (`at`). A thread copies it to the store where the ranks met, every few seconds; when
a rank has been at one place for nearly the time after which torch gives up, it reads and logs the lines of all.
"""

import contextlib
import json
import logging
import threading
import time
from typing import Any

log = logging.getLogger(__name__)


class Heartbeat:
    """The places of one rank; those of the others, where there is a `store` (a torch.distributed.Store)."""

    def __init__(self, rank: int = 0, num_ranks: int = 1, store: Any = None, patience_seconds: float = 1800):
        self._rank, self._num_ranks, self._store = rank, num_ranks, store
        self._patience, self._period = 0.9 * patience_seconds, min(10.0, patience_seconds / 60)
        self._here = ("starting", time.time())
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="heartbeat", daemon=True)
        if store is not None:
            self._thread.start()

    def at(self, place: str) -> None:
        """Says where this rank is from now on: "reading the data of step 12"."""
        self._here = (place, time.time())

    def close(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        told = None
        while not self._ended.wait(self._period):
            here = self._here
            with contextlib.suppress(RuntimeError):  # the store has gone with the rank that kept it
                self._store.set(f"at/{self._rank}", json.dumps(here))
                if here is not told and time.time() - here[1] > self._patience:
                    told = here
                    log.warning("no progress on rank %d:\n%s", self._rank, self.describe())

    def describe(self) -> str:
        """A line for each rank: where it was last heard of, and since when, in seconds."""
        lines = []
        for rank in range(self._num_ranks):
            here = self._here if rank == self._rank else None
            with contextlib.suppress(RuntimeError):
                if here is None and self._store is not None and self._store.check([f"at/{rank}"]):
                    here = json.loads(self._store.get(f"at/{rank}"))
            told = "not heard of" if here is None else f"{here[0]}, for {time.time() - here[1]:.0f} s"
            lines.append(f"  rank {rank}: {told}")
        return "\n".join(lines)
