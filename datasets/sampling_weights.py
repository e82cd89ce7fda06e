"""How often training sees each file of a list: by the size of its class, by a table, by the list it comes from."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets.file_list import FileList
from datasets.text_files import bad_line, existing_path, numbered_lines, parse_number


def balance_classes(labels: np.ndarray, strength: float) -> np.ndarray:
    """Weights [N] for labels [N] >= 0: 1 / (files of the class) ** strength.

    With strength 0 classes are seen as often as listed, with 1 all equally often, with 0.5 by the square root.
    """
    counts = np.bincount(labels)
    return counts[labels].astype(np.float64) ** -strength


def read_weights(path: str | Path, files: FileList) -> np.ndarray:
    """The weight of each file [N] from lines `id weight`; a file missing from the table has weight 1.

    A file that is listed several times has its weight each time. Raises ValueError for a malformed line, a negative or
    infinite weight, an id that is unknown, weighted twice or shared by several files, and if all weights are 0.
    """
    path = existing_path(Path(path).expanduser(), "table of weights")
    table = _read_table(path)
    weights, found = np.ones(len(files)), {}
    for item in files:
        if item.id in table:
            weights[item.index] = table[item.id]
            first = found.setdefault(item.id, item.path)
            if first != item.path:
                raise ValueError(
                    f"{path}: {item.id!r} is the id of several files, {first} and {item.path}; give each an id of its "
                    "own, in all training lists together"
                )
    if unknown := [name for name in table if name not in found]:
        raise ValueError(f"{path}: {len(unknown)} of its ids are not in the list, for example {unknown[0]!r}")
    if not weights.any():
        raise ValueError(f"{path} gives every file weight 0; at least one must be larger")
    return weights


def _read_table(path: Path) -> dict[str, float]:
    table: dict[str, float] = {}
    for number, line in numbered_lines(path):
        try:
            name, weight = line.strip().rsplit(None, 1)
            value = parse_number(weight)
        except ValueError:
            raise bad_line(path, number, line, "expected `id weight`, where weight is a number") from None
        if not 0 <= value < float("inf"):
            raise bad_line(path, number, line, "expected a weight of 0 or more")
        if name in table:
            raise bad_line(path, number, line, f"{name!r} has a weight in a line above; expected each id once")
        table[name] = value
    return table


def join_lists(lists: Sequence[FileList]) -> FileList:
    """One list of all files of several lists, with the class names of the first."""
    rows = [(item, files.labels_of(item.index)) for files in lists for item in files]
    labels = [several if len(several) > 1 else item.label for item, several in rows]
    names = lists[0].class_names or None
    return FileList([item.id for item, _ in rows], labels, [item.path for item, _ in rows], names)
