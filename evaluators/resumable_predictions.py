"""Stores the predictions of an unfinished evaluation on disk, so that it can resume.

A folder next to the report holds the rows of finished batches, one file per 20 seconds of work, and the `key` of the
evaluation: weights, settings, list. An evaluation with the same key reuses the rows, on any number of ranks; with
another key it starts over. Batches with unreadable items are not stored but retried.
"""

import contextlib
import json
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

Rows = dict[str, np.ndarray | list[np.ndarray]]
"""Results for B items, by column: arrays [B, ...], or lists of B arrays if items differ in size. The column `index` [B]
has the item indices and is required."""
LENGTHS = "lengths of "  # prefix of an array that holds the lengths of a list's elements


class RanksLike(Protocol):
    """The part of `engine.distributed.Ranks` that evaluations use."""

    def gather(self, value: Any) -> list[Any] | None:
        """The picklable `value` of every rank, in rank order, on the main rank; None on the others."""
        ...

    def on_main(self, function: Callable[[], Any]) -> Any:
        """Calls `function` on the main rank and returns its result on every rank."""
        ...

    def barrier(self) -> None:
        """Waits until every rank is here."""
        ...


class ResumablePredictions:
    """The rows `found` in a folder, the indices of items already `done`, and new rows. Every rank must create one.

    Args:
        folder: where rows are stored.
        key: everything the rows depend on, as plain types.
        ranks: the ranks of the run.
        write_atomically: (path, write) calls `write(temporary path)` and renames the result to `path`.
        seconds_between: rows are written at most this often.
    """

    def __init__(
        self,
        folder: Path,
        key: dict[str, Any],
        ranks: RanksLike,
        write_atomically: Callable[[Path, Callable[[Path], Any]], None],
        seconds_between: float = 20,
    ):
        self._folder, self._seconds_between = folder, seconds_between
        self._write_atomically = write_atomically
        ranks.on_main(lambda: self._start(json.dumps(key, sort_keys=True)))
        self.found = [rows for path in sorted(folder.glob("*.npz")) for rows in _read(path)]
        self.done = {index for rows in self.found for index in rows["index"].tolist()}
        self._fresh: list[Rows] = []
        self._written = time.monotonic()
        ranks.barrier()  # no rank writes before all ranks have read

    def _start(self, key: str) -> None:
        path = self._folder / "key.json"
        if not path.exists() or path.read_text() != key:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
            path.write_text(key)

    def keep(self, rows: Rows) -> None:
        """Stores the rows of a finished batch. Raises whatever `write_atomically` raises if the disk is full."""
        self._fresh.append(rows)
        if time.monotonic() - self._written >= self._seconds_between:
            self._write()

    def _write(self) -> None:
        arrays = {}
        for number, rows in enumerate(self._fresh):
            for name, column in rows.items():
                if isinstance(column, list):
                    arrays[f"{number}/{LENGTHS}{name}"] = np.array([len(row) for row in column])
                    column = np.concatenate(column)
                arrays[f"{number}/{name}"] = column

        def write(temporary: Path) -> None:
            with open(temporary, "wb") as file:
                np.savez(file, **arrays)

        self._write_atomically(self._folder / f"{self._fresh[0]['index'][0]:08d}.npz", write)
        self._fresh, self._written = [], time.monotonic()


def _read(path: Path) -> list[Rows]:
    """The batches in a file; [] if the file is damaged."""
    batches: dict[str, Rows] = {}
    with contextlib.suppress(OSError, ValueError, zipfile.BadZipFile), np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            number, _, name = key.partition("/")
            batches.setdefault(number, {})[name] = arrays[key]
        return [_with_lists(rows) for rows in batches.values()]
    return []


def _with_lists(rows: Rows) -> Rows:
    """Splits columns that were stored as one array plus lengths back into lists."""
    lengths = {name.removeprefix(LENGTHS): column for name, column in rows.items() if name.startswith(LENGTHS)}
    columns = {name: column for name, column in rows.items() if not name.startswith(LENGTHS)}
    return columns | {name: np.split(columns[name], np.cumsum(sizes)[:-1]) for name, sizes in lengths.items()}
