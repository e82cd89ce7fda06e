"""How often training sees each file of a list: by the size of its class, by a table, by the list it comes from."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets.file_list import FileList, bad_line, existing_path, numbered_lines


def balance_classes(labels: np.ndarray, strength: float) -> np.ndarray:
    """Weights [N] for labels [N] >= 0: 1 / (files of the class) ** strength.

    Strength 0 sees classes as often as they are listed, 1 sees all equally often, 0.5 in proportion to the square root.
    """
    counts = np.bincount(labels)
    return counts[labels].astype(np.float64) ** -strength


def read_weights(path: str | Path, files: FileList) -> np.ndarray:
    """The weight of each file [N] from lines `id weight`; a file missing from the table has weight 1.

    Raises ValueError for a malformed line, a negative or infinite weight, an unknown id, and if all weights are 0.
    """
    path = existing_path(Path(path).expanduser(), "table of weights")
    table = {}
    for number, line in numbered_lines(path):
        name, _, weight = line.strip().rpartition(" " if " " in line.strip() else "\t")
        try:
            table[name.strip()] = float(weight)
        except ValueError:
            raise bad_line(path, number, line, "expected `id weight`, where weight is a number") from None
        if not 0 <= table[name.strip()] < float("inf"):
            raise bad_line(path, number, line, "expected a weight of 0 or more")
    weights = np.array([table.pop(item.id, 1.0) for item in files])
    if table:
        raise ValueError(f"{path}: {len(table)} of its ids are not in the list, for example {next(iter(table))!r}")
    if not weights.any():
        raise ValueError(f"{path} gives every file weight 0; at least one must be larger")
    return weights


def join_lists(lists: Sequence[FileList]) -> FileList:
    """One list with all files of several lists, and the class names of the first."""
    rows = [(item, files.labels_of(item.index)) for files in lists for item in files]
    labels = [several if len(several) > 1 else item.label for item, several in rows]
    names = lists[0].class_names or None
    return FileList([item.id for item, _ in rows], labels, [item.path for item, _ in rows], names)
