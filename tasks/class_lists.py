"""The lists of a classification recipe: labeled files, class names, sampling weights."""

import itertools
import os
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from datasets.class_table import class_names_from
from datasets.file_list import UNLABELED, FileList, read_class_names
from datasets.folds import assign_folds, number_sources, sources_from_table
from datasets.held_out import held_out, share_in_words, sources_by_pattern
from datasets.sampling_weights import balance_classes, join_lists, read_weights
from engine.distributed import Ranks
from settings import SettingsError
from tasks.classification_settings import DataSettings

Result = TypeVar("Result")


class ClassLists:
    """The lists of a recipe, read on first use; prediction, for example, never reads the training list.

    Args:
        data: the section `data` of the recipe.
        num_classes: the network's number of classes; None: as many as the lists have.
        multi_label: whether a file may have several classes.
        item: the word for a file in messages, such as "video".
        seed: of the choice of held-out files, if data.val is a fraction.
        ranks: the ranks of the run; the main one makes demo files.
        read_files: (source, root, class names, split) -> the files of a list setting.
        make_demo: (root, options) makes the recipe's demo files if they do not exist.
    """

    def __init__(
        self,
        data: DataSettings,
        num_classes: int | None,
        multi_label: bool,
        item: str,
        seed: int,
        ranks: Ranks,
        read_files: Callable[[str, str | None, tuple | None, str | None], FileList],
        make_demo: Callable[[str, dict[str, Any]], None],
    ):
        self.data, self._num_classes, self._multi_label = data, num_classes, multi_label
        self._item, self._seed, self._ranks = item, seed, ranks
        self._read_files, self._make_demo_files = read_files, make_demo

    @cached_property
    def train(self) -> FileList:
        files = self._whole
        if self._kept is not None:
            files = files.subset(np.flatnonzero(self._kept))
        return join_lists([files, *self._more]) if self._more else files

    @cached_property
    def _whole(self) -> FileList:
        """The files of data.train, before they are split into folds or some are held out."""
        data, num_classes = self.data, self._num_classes
        files = self._read("train", data.train, data.root, self._table)
        _check_labels("data.train", files, 0, num_classes or files.num_classes, self._multi_label)
        return files

    @cached_property
    def _more(self) -> list[FileList]:
        """The files of data.more. All are for training, whatever the fold."""
        lists, files, num_classes = [], self._whole, self._num_classes
        for number, more in enumerate(self.data.more):
            key, names = f"data.more.{number}.train", self._table or files.class_names or None
            more_files = read_setting(key, self._read_files, more.train, more.root, names, more.split)
            if not names:
                self._check_numbers(key, more.train, more_files)
            _check_labels(key, more_files, 0, num_classes or more_files.num_classes, self._multi_label)
            lists.append(more_files)
        return lists

    @cached_property
    def _folds(self) -> np.ndarray | None:
        """The fold [N] of each file of data.train; None without cross-validation."""
        data = self.data
        if data.folds is None:
            return None
        groups = None if self._sources is None else number_sources(self._sources)
        return read_setting("data.folds", assign_folds, self._whole, data.folds, data.fold_seed, groups)

    @cached_property
    def _sources(self) -> list[str] | None:
        """The source of each file of data.train; None if the recipe does not name sources."""
        table, pattern = self.data.fold_groups, self.data.source_pattern
        if table is not None:
            return read_setting("data.fold_groups", sources_from_table, table, self._whole)
        if pattern is not None:
            return read_setting("data.source_pattern", sources_by_pattern, self._ids, pattern)
        return None

    @property
    def _ids(self) -> list[str]:
        return [item.id for item in self._whole]

    @cached_property
    def _held(self) -> np.ndarray | None:
        """Which files of data.train are held out for validation, bool [N]; None if data.val is not a fraction."""
        share = self.data.val
        if not isinstance(share, float):
            return None
        outside = ~self._is_in_fold
        names = list(itertools.compress(self._sources or self._ids, outside))
        held = np.zeros(len(outside), dtype=bool)
        held[outside] = read_setting("data.val", held_out, names, share, self._seed)
        return held

    @property
    def _is_in_fold(self) -> np.ndarray:
        """Which files of data.train are in the held-out fold, bool [N]."""
        return np.zeros(len(self._whole), dtype=bool) if self._folds is None else self._folds == self.data.fold

    @cached_property
    def _kept(self) -> np.ndarray | None:
        """Which files of data.train are for training, bool [N]; None: all."""
        if self._held is None:
            return None if self._folds is None else ~self._is_in_fold
        return ~self._is_in_fold & ~self._held

    @cached_property
    def train_weights(self) -> np.ndarray | None:
        """Sampling weights [N] of the training files (see `TrainSamples`); None: each file once per epoch."""
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
        """Weights [N] of the training files from data.weights, whose table covers all folds."""
        files = join_lists([self._whole, *self._more]) if self._more else self._whole
        weights = read_setting("data.weights", read_weights, table, files)
        if self._kept is None:
            return weights
        return np.delete(weights, np.flatnonzero(~self._kept))

    @cached_property
    def val(self) -> FileList:
        data = self.data
        if self._held is not None:
            return self._whole.subset(np.flatnonzero(self._held & ~self._is_in_fold))
        if self._folds is not None:
            return self._whole.subset(np.flatnonzero(self._is_in_fold))
        return self._read_scored("val", data.val, data.val_root or data.root)

    @property
    def has_test(self) -> bool:
        """Whether the recipe has test files, which never choose a checkpoint."""
        return self.data.test is not None or (self.data.folds is not None and self.data.val is not None)

    @cached_property
    def test(self) -> FileList:
        data = self.data
        if not self.has_test:
            raise SettingsError(
                f"evaluation.on=test needs data.test, {self._item}s that choose nothing, or data.folds with a "
                "fraction as data.val"
            )
        if data.test is None:
            return self._whole.subset(np.flatnonzero(self._is_in_fold))
        return self._read_scored("test", data.test, data.test_root or data.val_root or data.root)

    def scored(self, on: str) -> FileList:
        """The files that an evaluation scores: "val" or "test"."""
        return self.test if on == "test" else self.val

    def place(self, on: str) -> tuple[str, str | None]:
        """(setting, part of it) that the files of "val" or "test" come from; the part is None if they are all of it."""
        data = self.data
        fold = None if data.folds is None else f"fold {data.fold} of {data.folds}"
        if on == "test":
            return (data.train, fold) if data.test is None else (data.test, getattr(data, "test_split", None))
        if isinstance(data.val, float):
            part = share_in_words(data.val, self._seed)
            return data.train, part if fold is None else f"{part} but for {fold}"
        return (data.train, fold) if data.val is None else (data.val, getattr(data, "val_split", None))

    def _read_scored(self, key: str, source: str, root: str | None) -> FileList:
        files = self._read(key, source, root, self._names or None)
        if not self._names:
            self._check_numbers(f"data.{key}", source, files)
        _check_labels(f"data.{key}", files, UNLABELED, self.num_classes, self._multi_label)
        return files

    def _check_numbers(self, key: str, source: str, files: FileList) -> None:
        """Raises SettingsError if files number classes of their own, for a training list or a network without names.

        Without the training list, as for released weights, equal counts of classes are taken for the same classes.
        """
        numbered = len(files.class_names)
        if not numbered:
            return
        if self._has_training_list:
            other, remedy = "the training list has no class names", "data.class_names, the table of that list"
        elif numbered != self.num_classes:
            other = f"the network has {self.num_classes}"
            remedy = "data.class_names, the table of the training list, or data.train"
        else:
            return
        raise SettingsError(
            f"{key}: {source} numbers its own {numbered} classes from 0, but {other}, so the labels may mean other "
            f"classes; give {remedy}"
        )

    @cached_property
    def _has_training_list(self) -> bool:
        try:
            return len(self._whole) > 0
        except SettingsError:
            return False

    @cached_property
    def num_classes(self) -> int:
        return self._num_classes or len(self._names) or max(files.num_classes for files in (self._whole, *self._more))

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """A name for each class of the network; a class 7 without a name is "class 7"."""
        if len(self._names) > self.num_classes:
            raise SettingsError(f"found {len(self._names)} class names, but model.num_classes={self.num_classes}")
        return (*self._names, *(f"class {label}" for label in range(len(self._names), self.num_classes)))

    @cached_property
    def _names(self) -> tuple[str, ...]:
        """Names from the table, else from the training list; () if that cannot be read and is not needed."""
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
