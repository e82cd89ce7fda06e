"""What clip and image classification define for themselves: how files become the input of a network."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import torch

from datasets.file_list import FileList
from datasets.samples import EvalViews, TrainSamples
from engine.task import Batch, Task


class ClassificationInputs(Task):
    """The members that a subclass of `tasks.classification.Classification` implements."""

    item: ClassVar[str]
    """The word for a file: "video", "image"."""
    view: ClassVar[str]
    """The word for a view of a file: "clip", "crop"."""

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
        """(key of a setting, shape of the input that it gives the network in training, without the batch)."""
        raise NotImplementedError

    def validation_shape(self) -> tuple[str, tuple[int, ...]]:
        """The same in evaluation."""
        raise NotImplementedError

    def overrides_for_input(self, shape: tuple[int, ...]) -> list[str]:
        """Overrides that give the network inputs of the size of `shape`, [3, H, W] or [3, T, H, W], in both views."""
        raise NotImplementedError
