"""From a list of files to batches: what clips and images have in common.

Everything random about a training sample (which file, which view of it, which colors) is a function of the run's seed
and of the sample's number in the run. No generator lives in a worker, so the number of workers and of ranks changes
nothing, and a run continues in the middle of an epoch with the samples it would have had.
"""

import atexit
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from datasets.file_list import FileError, FileItem, FileList


class WorkerError(RuntimeError):
    """A process that reads files has died, or gives nothing any more."""


STREAMS = {"train": 0, "precise_bn": 1}
MAX_ATTEMPTS = 10  # files tried for one training sample before the run stops


class TrainSamples(Dataset):
    """Training samples by their number in the run; what a sample is, `read` says.

    Sample k belongs to epoch k // N of a list of N files, and there to position k % N of that epoch's own order. It is
    what `read` gives, with `index` (row of the list), `label`, and `failures` (files that were tried first and could
    not be read: dicts of path, reason, index, sample).

    A file that cannot be read is replaced, with its label, by one drawn from (seed, epoch, position, attempt). After
    `MAX_ATTEMPTS` of them the sample is an `error`, which `to_device` raises in the main process.

    Args:
        repeats: how many samples in a row are of the same file, each with random numbers of its own (repeated
            augmentation, arXiv 1901.09335). An epoch keeps its N samples and sees N / repeats of the files.
        weights: how often each file is seen, [N], in any unit; none: each once an epoch. A file of w times the mean
            weight is seen w times an epoch; what is left over from whole numbers is drawn anew in each.
    """

    def __init__(
        self,
        files: FileList,
        seed: int,
        stream: str = "train",
        repeats: int = 1,
        weights: np.ndarray | None = None,
    ):
        self.files, self.repeats, self.weights = files, repeats, weights
        self._root = (seed, STREAMS[stream])
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0))  # the epoch drawn last, and its order of the files

    def read(self, item: FileItem, rng: np.random.Generator) -> dict[str, Any]:
        """What a network takes of a file; raises FileError if it cannot be read."""
        raise NotImplementedError

    def read_several(self, item: FileItem, rngs: list[np.random.Generator]) -> list[dict[str, Any]]:
        """`read` with each of the generators; to be overridden where it takes less than reading the file each time."""
        return [self.read(item, rng) for rng in rngs]

    def read_whole(self, item: FileItem, rng: np.random.Generator) -> torch.Tensor:
        """The frames that `read` takes a view of, as the file has them: uint8 [T, H, W, 3]; to be looked at."""
        raise NotImplementedError

    def whole(self, number: int) -> torch.Tensor:
        """`read_whole` of a sample: what it is before it is changed. Raises FileError where the sample is an error."""
        sample = self[number]
        if "error" in sample:
            raise sample["error"]
        rng = self._generator(*divmod(number, len(self.files)), len(sample["failures"]))
        if sample["failures"]:
            rng.integers(len(self.files))  # which file took the place of the first
        return self.read_whole(self.files[sample["index"]], rng)

    def __len__(self) -> int:
        return len(self.files)

    def __getitems__(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """The samples of a batch; those in a row that are of the same file are read together."""
        if self.repeats == 1:
            return [self[number] for number in numbers]
        samples = []
        places = (divmod(number, len(self.files)) for number in numbers)
        for (_, index), same in groupby(places, key=lambda place: (place[0], self._file_at(*place))):
            group, item = list(same), self.files[index]
            try:
                read = self.read_several(item, [self._generator(*place, 0) for place in group])
                samples += [{"index": index, "label": item.label, **sample, "failures": []} for sample in read]
            except FileError:  # one by one, each with its own replacement
                samples += [self[epoch * len(self.files) + position] for epoch, position in group]
        return samples

    def __getitem__(self, number: int) -> dict[str, Any]:
        epoch, position = divmod(number, len(self.files))
        failures: list[dict[str, Any]] = []
        for attempt in range(MAX_ATTEMPTS):
            rng = self._generator(epoch, position, attempt)
            index = int(rng.integers(len(self.files))) if attempt else self._file_at(epoch, position)
            item = self.files[index]
            try:
                return {"index": index, "label": item.label, **self.read(item, rng), "failures": failures}
            except FileError as error:
                failures.append({"path": error.path, "reason": error.reason, "index": index, "sample": number})
                kind = type(error)
        first = failures[0]
        reason = f"{first['reason']}; {MAX_ATTEMPTS} files in a row could not be read, is data.root right?"
        return {"error": kind(first["path"], reason)}

    def path(self, number: int) -> str:
        """The file of sample `number`."""
        return self.files[self._file_at(*divmod(number, len(self.files)))].path

    def _generator(self, *position: int) -> np.random.Generator:
        return np.random.default_rng((*self._root, *position))

    def _file_at(self, epoch: int, position: int) -> int:
        if self._order[0] != epoch:
            self._order = (epoch, draw_order(self._generator(epoch), len(self.files), self.weights))
        return int(self._order[1][position // self.repeats])


def draw_order(rng: np.random.Generator, num_files: int, weights: np.ndarray | None) -> np.ndarray:
    """The files of an epoch [N], in random order: each once, or by `weights` [N].

    By weights, a file comes round w or w + 1 times where w is the whole part of its share of N: numbers at equal
    distances along the summed weights pick the files, and these lie there in an order of their own in each epoch.
    """
    order = rng.permutation(num_files)
    if weights is None:
        return order
    ends = np.cumsum(weights[order])
    picks = np.searchsorted(ends, (np.arange(num_files) + rng.random()) * (ends[-1] / num_files), side="right")
    return rng.permutation(order[np.minimum(picks, num_files - 1)])


class EvalViews(Dataset):
    """Every view of one file for evaluation; what the views are, `read` says.

    An item is a dict of `index`, `label` (-1: unknown), and `views` [V, ...]; or, for a file that cannot be read, of
    `index` and `failure`.
    """

    num_views: int

    def __init__(self, files: FileList):
        self.files = files

    def read(self, item: FileItem) -> torch.Tensor:
        """The views [V, ...] of a file; raises FileError if it cannot be read."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.files)

    def path(self, index: int) -> str:
        return self.files[index].path

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.files[index]
        try:
            return {"index": index, "label": item.label, "views": self.read(item)}
        except FileError as error:
            return {"index": index, "failure": {"path": error.path, "reason": error.reason, "index": index}}


def train_loader(
    dataset: TrainSamples,
    first_batch: int,
    num_batches: int,
    batch_size: int,
    rank: int,
    num_ranks: int,
    **workers: Any,
) -> DataLoader:
    """Batches `first_batch`, ... of one rank: batch b holds the samples from (b * num_ranks + rank) * batch_size on."""
    starts = ((b * num_ranks + rank) * batch_size for b in range(first_batch, first_batch + num_batches))
    return _loader(dataset, [range(start, start + batch_size) for start in starts], _collate_samples, **workers)


def view_loader(
    dataset: EvalViews,
    files_per_batch: int,
    rank: int,
    num_ranks: int,
    done: Collection[int] = (),
    **workers: Any,
) -> DataLoader:
    """Every file once, but for batches of which every file is among those `done`.

    Whole batches are dealt to the ranks, so that a batch is the same for any number of ranks.
    """
    batches = [range(at, min(at + files_per_batch, len(dataset))) for at in range(0, len(dataset), files_per_batch)]
    batches = [batch for batch in batches if not all(index in done for index in batch)]
    return _loader(dataset, batches[rank::num_ranks], _collate_views, **workers)


def _loader(
    dataset: Dataset,
    batches: Sequence[Sequence[int]],
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
    num_workers: int,
    worker_start: Literal["fork", "forkserver", "spawn"] | None,
    timeout_seconds: float,
    pin_memory: bool,
) -> DataLoader:
    num_workers = min(num_workers, len(batches))
    if worker_start is None:  # forking is quick, and safe where the system's own libraries allow it
        worker_start = "fork" if sys.platform == "linux" else "spawn"
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        timeout=timeout_seconds if num_workers else 0,
        multiprocessing_context=worker_start if num_workers else None,
        generator=torch.Generator().manual_seed(0),  # the loader draws a seed for its workers; nobody uses it
    )


def _start_worker(_: int) -> None:
    # Ctrl-C, and a request to stop that goes to all processes, are the main process's to handle: it needs the data of
    # the step that it finishes.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    assert get_worker_info() is not None
    torch.set_num_threads(1)


@atexit.register  # before multiprocessing's own, which would ask a worker that hangs to stop, and wait
def _end_workers() -> None:
    for process in multiprocessing.active_children():
        process.kill()


def default_num_workers(num_ranks_here: int) -> int:
    """Workers for each of the `num_ranks_here` processes of this machine: the cores shared out, 8 at most."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores // max(1, num_ranks_here)))


def _collate_samples(samples: list[dict[str, Any]]) -> dict[str, Any]:
    errors = [sample["error"] for sample in samples if "error" in sample]
    if errors:
        return {"error": errors[0]}
    stacked = {
        name: torch.stack([torch.as_tensor(sample[name]) for sample in samples])
        for name in samples[0]
        if name != "failures"
    }
    return stacked | {"failures": [failure for sample in samples for failure in sample["failures"]]}


def _collate_views(items: list[dict[str, Any]]) -> dict[str, Any]:
    read = [item for item in items if "views" in item]
    return {
        "index": torch.tensor([item["index"] for item in read], dtype=torch.int64),
        "label": torch.tensor([item["label"] for item in read], dtype=torch.int64),
        "views": torch.stack([item["views"] for item in read]) if read else torch.zeros(0),
        "failures": [item["failure"] for item in items if "failure" in item],
    }


def to_device(loader: DataLoader, device: torch.device) -> Iterator[dict[str, Any]]:
    """The loader's batches, with what the network takes on `device`; copied without waiting from pinned memory.

    Raises WorkerError where a reading process dies, or none of them gives a batch within the loader's timeout.
    """
    stays = ("index", "noise_seed")
    for batch in _watched(loader):
        if "error" in batch:
            raise batch["error"]
        yield {
            name: value.to(device, non_blocking=True)
            if isinstance(value, torch.Tensor) and name not in stays
            else value
            for name, value in batch.items()
        }


@contextmanager
def deaths_explained() -> Iterator[None]:
    """Turns what torch raises when a reading process dies into WorkerError.

    Torch hears of it by a signal, whose handler raises wherever the main process is: put a whole command inside.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise WorkerError(
            f"a reading process died ({error}); where memory ran out, lower data.num_workers. The same command "
            "continues from the last checkpoint"
        ) from error


def _watched(loader: DataLoader) -> Iterator[dict[str, Any]]:
    batches, number = iter(loader), 0
    while True:
        try:
            with deaths_explained():
                batch = next(batches)
        except StopIteration:
            return
        except RuntimeError as error:
            if "timed out" in str(error):
                paths = ", ".join(loader.dataset.path(n) for n in loader.batch_sampler[number])
                raise WorkerError(
                    f"no batch within data.timeout_seconds={loader.timeout:g}: one of these files hangs the process "
                    f"that reads it, or its disk is away: {paths}. Remove it from the list, or raise the limit"
                ) from error
            raise
        yield batch
        number += 1
