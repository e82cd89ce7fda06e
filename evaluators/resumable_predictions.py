"""Predictions of an unfinished evaluation, kept on disk so that nothing is predicted twice.

A folder beside the report holds the rows of finished batches, in files of some seconds' work each, and the `key` of the
evaluation: weights, settings, list. Started again with the same key, on any number of ranks, the evaluation takes what
is there; with another one it starts over. Batches in which something could not be read are not kept, but tried again.
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
"""What is known of B items, by column: arrays [B, ...], or lists of B arrays where items differ in size. `index` [B],
the items' numbers, is always there."""
LENGTHS = "lengths of "


class RanksLike(Protocol):
    """What evaluations need of the processes of a run, as engine.distributed.Ranks has it."""

    def gather(self, value: Any) -> list[Any] | None:
        """Every rank's picklable `value` in rank order on the main rank, None on the others."""
        ...

    def on_main(self, function: Callable[[], Any]) -> Any:
        """What `function` returns on the main rank, on every rank."""
        ...

    def barrier(self) -> None:
        """Waits until every rank is here."""
        ...


class ResumablePredictions:
    """The rows `found` in `folder`, and the item numbers `done`; every rank must make one.

    Args:
        folder: where rows are kept.
        key: what they depend on, as plain types.
        ranks: the processes of the run.
        write_atomically: (path, write) calls `write(temporary path)` and renames the result to `path`.
        seconds_between: how long rows are collected before they are written.
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
        ranks.barrier()  # nobody writes before everybody has read

    def _start(self, key: str) -> None:
        kept = self._folder / "key.json"
        if not kept.exists() or kept.read_text() != key:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
            kept.write_text(key)

    def keep(self, rows: Rows) -> None:
        """Takes the rows of a finished batch; raises what `write_atomically` does where the disk is full."""
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
    """The batches in a file; none where it is damaged."""
    batches: dict[str, Rows] = {}
    with contextlib.suppress(OSError, ValueError, zipfile.BadZipFile), np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            number, _, name = key.partition("/")
            batches.setdefault(number, {})[name] = arrays[key]
        return [_with_lists(rows) for rows in batches.values()]
    return []


def _with_lists(rows: Rows) -> Rows:
    """Columns that were stored as one array and the lengths of its parts, as lists again."""
    lengths = {name.removeprefix(LENGTHS): column for name, column in rows.items() if name.startswith(LENGTHS)}
    columns = {name: column for name, column in rows.items() if not name.startswith(LENGTHS)}
    return columns | {name: np.split(columns[name], np.cumsum(parts)[:-1]) for name, parts in lengths.items()}
