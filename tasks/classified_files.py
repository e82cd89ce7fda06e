"""The files and classes of a classification task, and how reports name them."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from datasets.file_list import FileList
from datasets.samples import EvalViews, TrainSamples
from datasets.shared_files import path_hashes
from engine.fingerprint import Contents, Part
from engine.task import Batch, Task
from evaluators.classification import Naming
from settings import SettingsError
from tasks.class_lists import ClassLists
from tasks.evaluation_key import evaluation_key, validation_source
from tasks.lists_fingerprint import fingerprint_lists
from tasks.loader_settings import loader_options
from tasks.named_classes import SPLITS, NamedClasses
from tasks.scored_list import on_test


class ClassifiedFiles(NamedClasses):
    """The files and the classes of a classification task. Subclasses define how files become batches."""

    item: ClassVar[str]
    """The word for a file: "video", "image"."""
    view: ClassVar[str]
    """The word for a view of a file: "clip", "crop"."""
    takes_pictures: ClassVar[bool] = True
    """Whether the network sees images or clips, which can be shown, embedded and exported as such."""
    multi_label: bool = False
    """Whether a file may have several classes."""
    # Implemented by subclasses.

    @staticmethod
    def find_inputs(places: Iterable[str | Path]) -> FileList:
        """The files in `places`, without labels."""
        raise NotImplementedError

    def read_files(self, source: str, root: str | None, names: tuple | None, split: str | None) -> FileList:
        """The files of the list setting `source`."""
        raise NotImplementedError

    def make_demo(self, root: str, options: dict[str, Any]) -> None:
        """Makes the demo files of the recipe below `root` if they do not exist."""
        raise NotImplementedError

    def train_samples(self, stream: str) -> TrainSamples:
        raise NotImplementedError

    def eval_views(self, files: FileList) -> EvalViews:
        raise NotImplementedError

    def training_input(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Network input of a batch, float [B, 3, ..., S, S], and targets: labels [B] or class probabilities [B, C]."""
        raise NotImplementedError

    def network_input(self, views: torch.Tensor) -> torch.Tensor:
        """Turns evaluation views, uint8 as read, into network input."""
        raise NotImplementedError

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of red, green and blue, as fractions of 255, used by `network_input`."""
        raise NotImplementedError

    @property
    def views_per_forward(self) -> int:
        """Views per forward pass in evaluation."""
        raise NotImplementedError

    def training_shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        """(key of a setting, shape of the network's training input by that setting, without the batch)."""
        raise NotImplementedError

    def validation_shape(self) -> tuple[str, tuple[int, ...]]:
        """The same for evaluation."""
        raise NotImplementedError

    def overrides_for_input(self, shape: tuple[int, ...]) -> list[str]:
        """Overrides with which both views have the size of `shape`, [3, H, W] or [3, T, H, W]."""
        raise NotImplementedError

    @cached_property
    def lists(self) -> ClassLists:
        settings = self.settings
        options = (settings.model.num_classes, self.multi_label, self.item, settings.run.seed, self.ranks)
        return ClassLists(settings.data, *options, self.read_files, self.make_demo)

    @property
    def train_files(self) -> FileList:
        return self.lists.train

    @property
    def train_weights(self) -> np.ndarray | None:
        """Sampling weights [N] of the training files (see `TrainSamples`); None: each file once per epoch."""
        return self.lists.train_weights

    @property
    def val_files(self) -> FileList:
        """The files that an evaluation scores: the validation files, or with evaluation.on=test the test files."""
        return self.lists.scored(self.settings.evaluation.on)

    @property
    def num_classes(self) -> int:
        return self.lists.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name for each class of the network."""
        return self.lists.class_names

    # Part of the contract of engine.task.Task.

    @property
    def num_train_samples(self) -> int:
        return len(self.train_files)

    @property
    def num_evaluation_samples(self) -> int:
        """Validation views."""
        return len(self.val_files) * self.eval_views(self.val_files).num_views

    def fingerprint(self, part: Part) -> Mapping[str, Contents]:
        return fingerprint_lists(self, part)

    def validation_source(self) -> dict[str, str]:
        return validation_source(self)

    def evaluation_key(self) -> dict[str, Any]:
        return evaluation_key(self)

    def report_facts(self) -> dict[str, Any]:
        files, part = self.lists.place(self.settings.evaluation.on)
        listed = files if part is None else f"{part} of {files}"
        return {"list": listed, **self.settings.evaluation.model_dump()}

    @property
    def holds_out(self) -> bool:
        return super().holds_out or self._scores_split_of_training_list

    @property
    def _scores_split_of_training_list(self) -> bool:
        """Whether an evaluation scores a named split of `data.train`, such as some subjects, and the rest is there."""
        source, part = self.lists.place(self.settings.evaluation.on)
        if part is None or source != self.settings.data.train:
            return False
        try:
            self.fingerprint("training")
        except SettingsError:  # an evaluation needs no training files
            return False
        return True

    def warn_of_scored_training_items(self) -> None:
        lists = {"training": self.train_files, SPLITS[self.settings.evaluation.on]: self.val_files}
        hashes = {name: path_hashes(files) for name, files in lists.items()}
        self.warn_of_shared_files(lists, hashes, self.item)

    def test_task(self) -> Task | None:
        return on_test(self) if self.lists.has_test else None

    @property
    def list_suffix(self) -> str:
        """The suffix of the protocol's name: "-fold0of5" in cross-validation, "-test" for test files."""
        data = self.settings.data
        fold = "" if data.folds is None else f"-fold{data.fold}of{data.folds}"
        return fold + "-test" * (self.settings.evaluation.on == "test")

    @property
    def naming(self) -> Naming:
        """The names of validation files and classes in reports."""
        return Naming(self.item, self.view, self.class_names, self._describe)

    def _describe(self, index: int) -> tuple[str, str]:
        """Id and path of validation file `index`."""
        item = self.val_files[index]
        return item.id, item.path

    def _workers(self) -> dict[str, Any]:
        return loader_options(self.settings.data, self.ranks)
