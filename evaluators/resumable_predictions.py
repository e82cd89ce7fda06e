"""Predictions of an evaluation that is not finished yet, kept on disk so that nothing is predicted twice.

A folder beside the report holds what finished batches gave, in files of some seconds' work each, and the `key` of the
evaluation: weights, settings, list. Started again with the same key, on any number of ranks, the evaluation takes what
is there; with another one it starts over. Batches that held something unreadable are not kept, but tried again.
"""

import contextlib
import json
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from engine.checkpoint import write_atomically
from engine.distributed import Ranks

Columns = dict[str, np.ndarray]
"""The predictions of one batch: a column for each array of evaluators.classification.Predictions."""


class PartialPredictions:
    """What was kept in `folder`: `found`, and the item indices `done`; every rank must make one.

    Args:
        key: what the predictions depend on, as plain types.
        seconds_between: how long predictions are gathered before they are written.
    """

    def __init__(self, folder: Path, key: dict[str, Any], ranks: Ranks, seconds_between: float = 20):
        self._folder, self._ranks, self._seconds_between = folder, ranks, seconds_between
        ranks.on_main(lambda: self._start(json.dumps(key, sort_keys=True)))
        self.found = [columns for path in sorted(folder.glob("*.npz")) for columns in _read(path)]
        self.done = {index for columns in self.found for index in columns["index"].tolist()}
        self._fresh: list[Columns] = []
        self._written = time.monotonic()
        ranks.barrier()  # nobody writes before everybody has read

    def _start(self, key: str) -> None:
        kept = self._folder / "key.json"
        if not kept.exists() or kept.read_text() != key:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
            kept.write_text(key)

    def keep(self, columns: Columns) -> None:
        """Takes the predictions of a finished batch; raises CheckpointError where the disk is full."""
        self._fresh.append(columns)
        if time.monotonic() - self._written >= self._seconds_between:
            self._write()

    def _write(self) -> None:
        arrays = {f"{number}/{name}": column for number, row in enumerate(self._fresh) for name, column in row.items()}
        path = self._folder / f"{self._fresh[0]['index'][0]:08d}.npz"

        def write(temporary: Path) -> None:
            with open(temporary, "wb") as file:
                np.savez(file, **arrays)

        write_atomically(path, write)
        self._fresh, self._written = [], time.monotonic()

    def remove(self) -> None:
        """Removes the folder: the report is there."""
        if self._ranks.is_main:
            shutil.rmtree(self._folder, ignore_errors=True)


def _read(path: Path) -> list[Columns]:
    """The batches in a file; none where it is damaged."""
    batches: dict[str, Columns] = {}
    with contextlib.suppress(OSError, ValueError, zipfile.BadZipFile), np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            number, _, name = key.partition("/")
            batches.setdefault(number, {})[name] = arrays[key]
        return list(batches.values())
    return []
