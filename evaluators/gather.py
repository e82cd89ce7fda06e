"""Evaluation that counts every item exactly once, on any number of ranks.

Whole batches are assigned to ranks, so a batch has the same items on any number of ranks. Nothing is padded, and the
results are merged by item index. One rank and many therefore give bit-identical results (on CPUs with the same number
of threads, since the thread count may change the order of summation). An unreadable item is never replaced: it is
reported and lowers the coverage.

The caller decides what to compute for an item: rows may have any columns, and nothing here knows about classes.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from evaluators.resumable_predictions import RanksLike, ResumablePredictions, Rows

BATCHES_PER_PART = 64
"""Rows are joined every so many batches, because small live arrays would keep freed memory between them in use."""


@dataclass(frozen=True)
class Gathered:
    """The rows of all readable items, ordered by item index."""

    rows: Rows
    """Columns [N, ...], or lists of N arrays if items differ in size, including `index` [N]. {} if N is 0."""
    failures: list[dict[str, Any]]
    """Items that could not be read, ordered by item index: dicts with path, reason, index."""
    num_items: int
    """Items in the list, readable or not."""
    seconds: float
    """Wall-clock time."""
    num_kept: int = 0
    """Items restored from an interrupted evaluation, which cost no time."""

    @property
    def num_read(self) -> int:
        return len(self.rows["index"]) if self.rows else 0


@torch.inference_mode()
def gather(
    batches: Iterable[dict[str, Any]],
    rows_of: Callable[[dict[str, Any]], Rows],
    ranks: RanksLike,
    num_items: int,
    resumable: ResumablePredictions | None = None,
) -> Gathered | None:
    """Computes rows for this rank's `batches` and merges those of all ranks; None on ranks other than the main one.

    Args:
        batches: dicts with `index` [B], the item indices, and `failures`, a list. B may be 0.
        rows_of: maps a batch with B > 0 to columns of B rows, including `index`.
        ranks: the ranks of the run.
        num_items: items in the list, readable or not.
        resumable: stores finished rows on disk; rows that it found there are merged as well.
    """
    start = time.perf_counter()
    parts: list[Rows] = []
    recent: list[Rows] = []
    failures: list[dict[str, Any]] = []
    for batch in batches:
        failures += batch["failures"]
        if len(batch["index"]) == 0:
            continue
        rows = rows_of(batch)
        recent.append(rows)
        if len(recent) == BATCHES_PER_PART:
            parts.append(_join(recent))
            recent = []
        if resumable is not None and not batch["failures"]:  # unreadable items are retried
            resumable.keep(rows)
    gathered = ranks.gather(([*parts, *recent], failures))
    if gathered is None:
        return None
    kept = [] if resumable is None else resumable.found
    parts = [*kept, *(rows for rank_parts, _ in gathered for rows in rank_parts)]
    failures = [failure for _, rank_failures in gathered for failure in rank_failures]
    return Gathered(
        rows=_merge(parts) if parts else {},
        failures=sorted(failures, key=lambda failure: failure["index"]),
        num_items=num_items,
        seconds=time.perf_counter() - start,
        num_kept=sum(len(rows["index"]) for rows in kept),
    )


def to_columns(**columns: torch.Tensor) -> Rows:
    """Tensors as NumPy columns."""
    return {name: column.cpu().numpy() for name, column in columns.items()}


def _join(parts: list[Rows]) -> Rows:
    """The rows of all parts, in their order."""
    return {
        name: [value for rows in parts for value in rows[name]]
        if isinstance(first, list)
        else np.concatenate([rows[name] for rows in parts])
        for name, first in parts[0].items()
    }


def _merge(parts: list[Rows]) -> Rows:
    """The rows of all parts, ordered by `index`, each item once."""
    joined = _join(parts)
    _, order = np.unique(joined["index"], return_index=True)
    return {
        name: [column[row] for row in order] if isinstance(column, list) else column[order]
        for name, column in joined.items()
    }
