"""Evaluation that counts every item exactly once, on any number of ranks.

Whole batches are dealt to the ranks, so a batch holds the same items however many ranks there are; nothing is padded,
and what the ranks computed is merged by item number: one rank and many give the same numbers to the last digit. (On
CPUs with the same number of threads: with more threads a kernel may add in another order.) An item that cannot be read
is never replaced. It is listed, and lowers the coverage.

What is computed for an item is up to the caller: rows of any columns, without a word about classes.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from evaluators.resumable_predictions import RanksLike, ResumablePredictions, Rows


@dataclass(frozen=True)
class Gathered:
    """The rows of all items that were read, ordered by item number."""

    rows: Rows
    """Columns [N, ...], or lists of N arrays where items differ in size; `index` [N] among them. {} where N is 0."""
    failures: list[dict[str, Any]]
    """Items that could not be read, ordered by item number: dicts of path, reason, index."""
    num_items: int
    """Items in the list, read or not."""
    seconds: float
    """Wall-clock time."""
    num_kept: int = 0
    """Items whose rows an interrupted evaluation had left, and which took none of that time."""

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
    """The rows of this rank's `batches`, merged over the ranks: on the main rank, None on the others.

    Args:
        batches: dicts with `index` [B], the numbers of their items, and `failures`, a list; B may be 0.
        rows_of: from a batch with B > 0 to columns of B rows, `index` among them.
        ranks: the processes of the run.
        num_items: items in the list, read or not.
        resumable: where finished rows are kept; those that it has found already are merged, too.
    """
    start = time.perf_counter()
    parts: list[Rows] = []
    failures: list[dict[str, Any]] = []
    for batch in batches:
        failures += batch["failures"]
        if len(batch["index"]) == 0:
            continue
        rows = rows_of(batch)
        parts.append(rows)
        if resumable is not None and not batch["failures"]:  # what could not be read is tried again
            resumable.keep(rows)
    gathered = ranks.gather((parts, failures))
    if gathered is None:
        return None
    kept = [] if resumable is None else resumable.found
    parts = [*kept, *(rows for of_rank, _ in gathered for rows in of_rank)]
    failures = [failure for _, of_rank in gathered for failure in of_rank]
    return Gathered(
        rows=_merge(parts) if parts else {},
        failures=sorted(failures, key=lambda failure: failure["index"]),
        num_items=num_items,
        seconds=time.perf_counter() - start,
        num_kept=sum(len(rows["index"]) for rows in kept),
    )


def to_columns(**columns: torch.Tensor) -> Rows:
    """Tensors as the NumPy columns of some rows."""
    return {name: column.cpu().numpy() for name, column in columns.items()}


def _merge(parts: list[Rows]) -> Rows:
    """The rows of all parts, ordered by `index`; each item once."""
    _, order = np.unique(np.concatenate([rows["index"] for rows in parts]), return_index=True)
    merged: Rows = {}
    for name, first in parts[0].items():
        if isinstance(first, list):
            column = [row for rows in parts for row in rows[name]]
            merged[name] = [column[place] for place in order]
        else:
            merged[name] = np.concatenate([rows[name] for rows in parts])[order]
    return merged
