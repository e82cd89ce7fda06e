"""Network input from files, for calibration and for comparing an exported file with the network."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from datasets.file_list import FileList
from tasks.classification import Classification

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileViews:
    """All views of one file as network input, float32 [V, ...] on the CPU, and its label (-1: unknown)."""

    path: str
    label: int
    views: torch.Tensor


def spread(num_files: int, count: int) -> list[int]:
    """At most `count` positions, evenly spaced over a list, which is often sorted by class."""
    count = min(count, num_files)
    return [(2 * k + 1) * num_files // (2 * count) for k in range(count)]


def split_files(num_files: int, num_calibration: int, num_compared: int) -> tuple[list[int], list[int]]:
    """Positions of the files that calibrate the ranges, and of those that measure agreement: others, if there are any.

    Calibration takes at most half of the files.
    """
    calibration = spread(num_files, min(num_calibration, max(1, num_files // 2)))
    rest = sorted(set(range(num_files)) - set(calibration)) or calibration
    return calibration, [rest[position] for position in spread(len(rest), num_compared)]


def read_views(task: Classification, files: FileList, rows: Sequence[int]) -> Iterator[FileViews]:
    """The views of the files `rows`, one file in memory at a time. Skips files that cannot be read, with a warning."""
    dataset = task.eval_views(files)
    for row in rows:
        sample = dataset[row]
        if "failure" in sample:
            log.warning("cannot read %s: %s", sample["failure"]["path"], sample["failure"]["reason"])
            continue
        views = task.network_input(sample["views"]).to("cpu", torch.float32)
        yield FileViews(files[row].path, sample["label"], views)


def as_array(views: torch.Tensor) -> np.ndarray:
    """A contiguous float32 array, as ONNX Runtime takes it."""
    return views.contiguous().numpy()


class FilesToCompare:
    """The files that calibrate an 8-bit file's ranges, and those to compare predictions on; see `split_files`."""

    def __init__(self, task: Classification, files: FileList, num_calibration: int, num_compared: int):
        self.task, self.files = task, files
        self.rows = split_files(len(files), num_calibration, num_compared)

    def calibration(self) -> Iterator[np.ndarray]:
        for file in read_views(self.task, self.files, self.rows[0]):
            yield from (as_array(view[None]) for view in file.views)

    def rest(self) -> Iterator[FileViews]:
        return read_views(self.task, self.files, self.rows[1])
