"""The lists of a classification recipe: labeled files, class names, sampling weights."""

import os
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from datasets.class_table import class_names_from
from datasets.file_list import UNLABELED, FileList, read_class_names
from datasets.folds import assign_folds, read_groups
from datasets.sampling_weights import balance_classes, join_lists, read_weights
from engine.distributed import Ranks
from settings import SettingsError
from tasks.classification_settings import DataSettings

Result = TypeVar("Result")


class ClassLists:
    """The lists of a recipe, read on first use: prediction, for example, never reads the training list.

    Args:
        data: the section `data` of the recipe.
        num_classes: number of classes of the network; None: as many as the lists have.
        multi_label: whether a file may have several classes.
        item: the word for a file in messages, such as "video".
        ranks: the ranks of the run; the main one makes demo files.
        read_files: (source, root, class names, split) -> the files of a list setting.
        make_demo: (root, options) makes the demo files of the recipe if they do not exist.
    """

    def __init__(
        self,
        data: DataSettings,
        num_classes: int | None,
        multi_label: bool,
        item: str,
        ranks: Ranks,
        read_files: Callable[[str, str | None, tuple | None, str | None], FileList],
        make_demo: Callable[[str, dict[str, Any]], None],
    ):
        self.data, self._num_classes, self._multi_label = data, num_classes, multi_label
        self._item, self._ranks, self._read_files, self._make_demo_files = item, ranks, read_files, make_demo

    @cached_property
    def train(self) -> FileList:
        files = self._whole
        if self._folds is not None:
            files = files.subset(np.flatnonzero(self._folds != self.data.fold))
        return join_lists([files, *self._more]) if self._more else files

    @cached_property
    def _whole(self) -> FileList:
        """The files of data.train, before they are divided into folds."""
        data, num_classes = self.data, self._num_classes
        files = self._read("train", data.train, data.root, self._table)
        _check_labels("data.train", files, 0, num_classes or files.num_classes, self._multi_label)
        return files

    @cached_property
    def _more(self) -> list[FileList]:
        """The files of data.more. They are all for training, whatever the fold."""
        lists, files, num_classes = [], self._whole, self._num_classes
        for number, more in enumerate(self.data.more):
            key, names = f"data.more.{number}.train", self._table or files.class_names or None
            more_files = read_setting(key, self._read_files, more.train, more.root, names, more.split)
            _check_labels(key, more_files, 0, num_classes or more_files.num_classes, self._multi_label)
            lists.append(more_files)
        return lists

    @cached_property
    def _folds(self) -> np.ndarray | None:
        """The fold [N] of each file of data.train; None without cross-validation."""
        data = self.data
        if data.folds is None:
            return None
        files = self._whole
        groups = data.fold_groups and read_setting("data.fold_groups", read_groups, data.fold_groups, files)
        return read_setting("data.folds", assign_folds, files, data.folds, data.fold_seed, groups)

    @cached_property
    def train_weights(self) -> np.ndarray | None:
        """Sampling weights [N] of the training files, see `TrainSamples`; None: each file once per epoch."""
        data, files = self.data, self.train
        if not data.class_balance and data.weights is None and all(more.times == 1 for more in data.more):
            return None
        weights = balance_classes(files.labels, data.class_balance)
        if data.weights is not None:
            weights *= self._table_of_weights(data.weights)
        end = len(files)
        for more, more_files in zip(reversed(data.more), reversed(self._more), strict=True):
            weights[end - len(more_files) : end] *= more.times
            end -= len(more_files)
        return weights

    def _table_of_weights(self, table: str) -> np.ndarray:
        """Weights [N] of the training files from data.weights, which names files of every fold."""
        files = join_lists([self._whole, *self._more]) if self._more else self._whole
        weights = read_setting("data.weights", read_weights, table, files)
        if self._folds is None:
            return weights
        return np.delete(weights, np.flatnonzero(self._folds == self.data.fold))

    @cached_property
    def val(self) -> FileList:
        data = self.data
        if self._folds is not None:
            return self._whole.subset(np.flatnonzero(self._folds == data.fold))
        files = self._read("val", data.val, data.val_root or data.root, self._names or None)
        _check_labels("data.val", files, UNLABELED, self.num_classes, self._multi_label)
        return files

    @cached_property
    def num_classes(self) -> int:
        return self._num_classes or len(self._names) or max(files.num_classes for files in (self._whole, *self._more))

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """A name for each class of the network; "class 7" for class 7 if it has none."""
        if len(self._names) > self.num_classes:
            raise SettingsError(f"found {len(self._names)} class names, but model.num_classes={self.num_classes}")
        return (*self._names, *(f"class {label}" for label in range(len(self._names), self.num_classes)))

    @cached_property
    def _names(self) -> tuple[str, ...]:
        """Names from the table, else from the training list; () if that is unreadable and not needed."""
        if self._table is not None:
            return self._table
        try:
            return self._whole.class_names
        except SettingsError:
            if self._num_classes is None:
                raise
            return ()

    @cached_property
    def _table(self) -> tuple[str, ...] | None:
        path = self.data.class_names
        if path is None:
            return None
        if not isinstance(path, str):
            return read_setting("data.class_names", class_names_from, path, "the names")
        if not os.path.exists(path):  # False for a name that is too long
            self._make_demo()
        return read_setting("data.class_names", read_class_names, path)

    def _read(self, key: str, source: str, root: str | None, names: tuple | None) -> FileList:
        self._make_demo()
        split = getattr(self.data, f"{key}_split", None)
        return read_setting(f"data.{key}", self._read_files, source, root, names, split)

    def _make_demo(self) -> None:
        data = self.data
        if data.make is None:
            return
        if data.root is None:
            raise SettingsError(f"data.make needs data.root: the folder for the {self._item}s it makes")
        options = data.make.model_dump()
        self._ranks.on_main(lambda: read_setting("data.make", self._make_demo_files, data.root, options))


def read_setting(key: str, read: Callable[..., Result], *arguments: Any) -> Result:
    """Returns `read(*arguments)`; turns its errors into a SettingsError that names the setting `key`."""
    try:
        return read(*arguments)
    except (OSError, TypeError, ValueError) as error:
        raise SettingsError(f"{key}: {error}") from error


def _check_labels(key: str, files: FileList, lowest: int, num_classes: int, multi_label: bool) -> None:
    """Raises SettingsError if a label is below `lowest` or at least `num_classes`, or if a file has too many labels."""
    if files.has_several and not multi_label:
        item = next(item for item in files if len(files.labels_of(item.index)) > 1)
        raise SettingsError(
            f"{key}: {item.path} has several labels; clip_classification trains on them with loss.multi_label=true"
        )
    if (unlabeled := (files.labels < lowest).nonzero()[0]).size:
        item = files[int(unlabeled[0])]
        raise SettingsError(f"{key}: {item.path} has no label ({item.label}); every training file needs one")
    rows, labels = files.labeled_rows()
    if (too_large := (labels >= num_classes).nonzero()[0]).size:
        raise SettingsError(
            f"{key}: {files[int(rows[too_large[0]])].path} has label {labels[too_large[0]]}, but the network has "
            f"{num_classes} classes (0 to {num_classes - 1}); set model.num_classes={labels.max() + 1} or fix the list"
        )
