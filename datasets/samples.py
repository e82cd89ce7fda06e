"""The base classes of all data sets, for training and for evaluation.

Everything random about a training sample (item, view, colors) is a function of the run's seed and the sample's number
in the run. Workers have no generators, so the number of workers and ranks changes nothing, and a run resumes in
mid-epoch with the samples it would have had.

A data set defines how an item is read (`read`), and how samples become a batch (`collate`) if stacking is not enough.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, ClassVar

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate

from datasets.file_list import FileError, FileItem, FileList

STREAMS = {"train": 0, "precise_bn": 1}
MAX_ATTEMPTS = 10  # items tried for one training sample before the run stops


class Samples(Dataset):
    """The common part of training and evaluation data sets: items, and how they become batches."""

    stays_on_cpu: ClassVar[tuple[str, ...]] = ()
    """Entries of a batch that `datasets.dataloader.to_device` leaves on the CPU; `index` and `failures` always stay."""

    def __init__(self, items: Sequence[Any]):
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch from the result of `read` for each sample; by default entries are stacked along a new first axis."""
        return default_collate(samples)

    def path(self, number: int) -> str:
        """The file that sample `number` is read from, for messages."""
        raise NotImplementedError


class TrainSamples(Samples):
    """Training samples by their number in the run; subclasses implement `read`.

    With N items, sample k belongs to epoch k // N, at position k % N of that epoch's order. It is the result of `read`,
    with `index` (the item's row), `label` if the item is a FileItem, and `failures` (items tried before that could not
    be read: dicts of path, reason, index, sample).

    An item that cannot be read is replaced, with its label, by one drawn from (seed, epoch, position, attempt). After
    `MAX_ATTEMPTS` failures the sample is an `error`, which `to_device` raises in the main process.

    Args:
        items: a FileList, or any other sequence; `read` gets one of its elements.
        seed: the run's seed.
        stream: "train", or "precise_bn" for the batches that refresh batch norm's statistics.
        repeats: number of consecutive samples from the same item, each with its own random numbers (repeated
           augmentation, arXiv 1901.09335). An epoch keeps its N samples and sees N / repeats of the items.
        weights: how often each item is seen, [N], in any unit; None: each once per epoch. An item with w times the mean
            weight is seen w times per epoch; fractions are drawn anew in each epoch.
    """

    def __init__(
        self,
        items: Sequence[Any],
        seed: int,
        stream: str = "train",
        repeats: int = 1,
        weights: np.ndarray | None = None,
    ):
        super().__init__(items)
        self.repeats, self.weights = repeats, weights
        self._root = (seed, STREAMS[stream])
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0))  # the last epoch drawn, and its order of the items

    def read(self, item: Any, rng: np.random.Generator) -> dict[str, Any]:
        """A sample of an item, as named tensors; raises FileError if it cannot be read."""
        raise NotImplementedError

    def read_several(self, item: Any, rngs: list[np.random.Generator]) -> list[dict[str, Any]]:
        """`read` with each of the generators; override it if reading the item once is faster."""
        return [self.read(item, rng) for rng in rngs]

    def read_whole(self, item: Any, rng: np.random.Generator) -> torch.Tensor:
        """The frames that `read` takes a view of, as they are in the file: uint8 [T, H, W, 3]; for display."""
        raise NotImplementedError

    def whole(self, number: int) -> torch.Tensor:
        """`read_whole` of sample `number`, before any transform. Raises FileError if the sample is an error."""
        sample = self[number]
        if "error" in sample:
            raise sample["error"]
        rng = self._generator(*divmod(number, len(self)), len(sample["failures"]))
        if sample["failures"]:
            rng.integers(len(self))  # skips the draw of the replacement
        return self.read_whole(self.items[sample["index"]], rng)

    def item_at(self, number: int) -> int:
        """The row of the item of sample `number`, if it can be read."""
        return self._item_at(*divmod(number, len(self)))

    def path(self, number: int) -> str:
        return self.items[self.item_at(number)].path

    def __getitems__(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """The samples of a batch; consecutive samples of one item are read together."""
        if self.repeats == 1:
            return [self[number] for number in numbers]
        samples = []
        places = (divmod(number, len(self)) for number in numbers)
        for (_, index), same in groupby(places, key=lambda place: (place[0], self._item_at(*place))):
            group, item = list(same), self.items[index]
            try:
                read = self.read_several(item, [self._generator(*place, 0) for place in group])
                samples += [{"index": index, **_label(item), **sample, "failures": []} for sample in read]
            except FileError:  # then one by one, each with its own replacement
                samples += [self[epoch * len(self) + position] for epoch, position in group]
        return samples

    def __getitem__(self, number: int) -> dict[str, Any]:
        epoch, position = divmod(number, len(self))
        failures: list[dict[str, Any]] = []
        for attempt in range(MAX_ATTEMPTS):
            rng = self._generator(epoch, position, attempt)
            index = int(rng.integers(len(self))) if attempt else self._item_at(epoch, position)
            item = self.items[index]
            try:
                return {"index": index, **_label(item), **self.read(item, rng), "failures": failures}
            except FileError as error:
                failures.append({"path": error.path, "reason": error.reason, "index": index, "sample": number})
                kind = type(error)
        first = failures[0]
        reason = f"{first['reason']}; {MAX_ATTEMPTS} files in a row could not be read, is data.root right?"
        return {"error": kind(first["path"], reason)}

    def _generator(self, *position: int) -> np.random.Generator:
        return np.random.default_rng((*self._root, *position))

    def epoch_order(self, epoch: int) -> np.ndarray:
        """The rows [N] of an epoch's items in the order in which they are seen; see `draw_order`."""
        return draw_order(self._generator(epoch), len(self), self.weights)

    def _item_at(self, epoch: int, position: int) -> int:
        if self._order[0] != epoch:
            self._order = (epoch, self.epoch_order(epoch))
        return int(self._order[1][position // self.repeats])


def draw_order(rng: np.random.Generator, num_items: int, weights: np.ndarray | None) -> np.ndarray:
    """The items of an epoch [N], in random order: each once, or by `weights` [N].

    With weights this is systematic sampling: equally spaced points on the cumulative weights, shuffled for each epoch,
    pick the items. An item whose part of N has the integer part w is picked w or w + 1 times.
    """
    order = rng.permutation(num_items)
    if weights is None:
        return order
    ends = np.cumsum(weights[order])
    picks = np.searchsorted(ends, (np.arange(num_items) + rng.random()) * (ends[-1] / num_items), side="right")
    return rng.permutation(order[np.minimum(picks, num_items - 1)])


class EvalSamples(Samples):
    """Every item once, for evaluation; subclasses implement `read`.

    A sample is the result of `read`, with `index`, and `label` if the item is a FileItem (-1: unknown); for an
    unreadable item it is `index` and `failure`.
    """

    def read(self, item: Any) -> dict[str, Any]:
        """A sample of an item, as named tensors; raises FileError if it cannot be read."""
        raise NotImplementedError

    def path(self, number: int) -> str:
        return self.items[number].path

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.items[index]
        try:
            return {"index": index, **_label(item), **self.read(item)}
        except FileError as error:
            return {"index": index, "failure": {"path": error.path, "reason": error.reason, "index": index}}


class EvalViews(EvalSamples):
    """All views of each file, `views` [V, ...]; subclasses implement `read_views`."""

    num_views: int
    items: FileList

    def read_views(self, item: FileItem) -> torch.Tensor:
        """The views [V, ...] of a file; raises FileError if it cannot be read."""
        raise NotImplementedError

    def read(self, item: FileItem) -> dict[str, Any]:
        return {"views": self.read_views(item)}


def _label(item: Any) -> dict[str, int]:
    return {"label": item.label} if isinstance(item, FileItem) else {}
