"""Files that are in two lists, or in one list with different labels.

Files are compared by their absolute paths. Links are not followed: that would look at every file on the disk.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from datasets.file_list import FileList


def path_hashes(files: Sequence[Any]) -> np.ndarray:
    """A hash of the absolute path of each file, int64 [N]; equal ones are the same path, but for one case in a million.

    `files`: a list whose items have a `path`.
    """
    here = os.getcwd()
    paths = files.paths() if isinstance(files, FileList) else (item.path for item in files)
    return np.fromiter((hash(os.path.normpath(os.path.join(here, path))) for path in paths), dtype=np.int64)


def contradictory_rows(hashes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Rows of files that a list has more than once, with different labels: int64, increasing.

    `hashes` [N]: of `path_hashes`; `labels` [N]: the first of each file.
    """
    _, of_row, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    again = np.flatnonzero(counts[of_row] > 1)
    groups, labels = of_row[again], labels[again]
    first = np.full(len(counts), -2)
    first[groups[::-1]] = labels[::-1]
    differs = np.unique(groups[labels != first[groups]])
    return again[np.isin(groups, differs)]
