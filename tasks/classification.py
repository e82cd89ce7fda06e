"""What the tasks that sort files into classes have in common: their lists, names, labels, weights and scores."""

import functools
import logging
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import torch
from pydantic import Field
from torch import nn

from datasets.dataloader import EvalViews, TrainSamples, default_num_workers, to_device, train_loader, view_loader
from datasets.file_list import UNLABELED, FileError, FileList, read_class_names
from datasets.mixing import MixSettings
from datasets.sampling_weights import balance_classes, join_lists, read_weights
from engine.distributed import Ranks
from engine.progress import progress_bar
from engine.trainer import Batch
from evaluators.class_scores import count_correct
from evaluators.classification import (
    NUM_GUESSES,
    Evaluation,
    Predictions,
    ViewScorer,
    evaluate_predictions,
    predict_items,
    score_views,
)
from evaluators.resumable_predictions import PartialPredictions
from models import create_model, load_pretrained
from settings import Settings, SettingsError
from tasks.losses import cross_entropy

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class ModelSettings(Settings):
    """Which network, and the weights it starts from."""

    name: str = Field(description="a name of models.list_models(); for clips, a network for images sees each frame")
    num_classes: int | None = Field(None, gt=0, description="classes; none: as many as the training list has")
    pretrained: str | None = Field(
        None, description="weights to start from; a 3-D network also takes a 2-D ImageNet network's, which are inflated"
    )
    options: dict[str, Any] = Field(
        {}, description="further arguments of the network's builder, such as drop_path: 0.1"
    )


class MoreFiles(Settings):
    """A further training list, with the same classes."""

    train: str = Field(description="as data.train")
    root: str | None = Field(None, description="as data.root")
    split: str | None = Field(None, description="split of `train`, where one file or folder holds several")
    times: float = Field(1.0, gt=0, description="how often its files are seen for each time that data.train's are")


class DataSettings(Settings):
    """Which files, and the processes that read them."""

    CHANGEABLE = ("root", "val_root", "num_workers", "worker_start", "timeout_seconds")

    train: str = Field(description="training files: a list file, a folder with one folder per class, or see the task")
    val: str = Field(description="validation files, in the same forms")
    root: str | None = Field(None, description="folder that the paths of the lists start from; none: the list's own")
    val_root: str | None = Field(None, description="the same for the validation list, where it differs")
    class_names: str | None = Field(
        None, description="mapping table of class names (index, name); none: from the files"
    )
    more: list[MoreFiles] = Field([], description="further training lists, mixed with `train`; an epoch has all files")
    class_balance: float = Field(
        0.0,
        ge=0,
        le=1,
        description="0: classes are seen as often as they are listed; 1: all equally often; 0.5: as the square root",
    )
    weights: str | None = Field(
        None, description="table of lines `id weight`: how often training files are seen, 1 for those not in it"
    )
    repeats: int = Field(1, gt=0, description="repeated augmentation: samples in a row that are of the same file")
    mix: MixSettings = MixSettings()
    num_workers: int | None = Field(
        None, ge=0, description="reading processes per rank; none: from the number of cores"
    )
    worker_start: Literal["fork", "forkserver", "spawn"] | None = Field(
        None, description="how reading processes start; none: fork on Linux, spawn elsewhere"
    )
    timeout_seconds: float = Field(600, gt=0, description="how long a batch may take before the run stops")


class Classification:
    """Implements `engine.trainer.Task` up to what the network sees: subclasses say how files become batches."""

    item: ClassVar[str]
    """What a file is called: video, image."""
    view: ClassVar[str]
    """What a view of a file is called: clip, crop."""
    advice: ClassVar[str]
    """What to try after training."""
    multi_label: bool = False
    """Whether a file may have several classes."""

    def __init__(self, settings: Any, ranks: Ranks):
        self.settings, self.ranks = settings, ranks
        self._more: list[FileList] = []  # those of data.more, once they are read

    # What subclasses know.

    @staticmethod
    def find_files(places: Iterable[str | Path]) -> FileList:
        """The files at `places`, without labels."""
        raise NotImplementedError

    def read_files(self, source: str, root: str | None, names: tuple | None, split: str | None) -> FileList:
        """The files that `source`, the value of a setting, means."""
        raise NotImplementedError

    def make_demo(self, root: str, options: dict[str, Any]) -> None:
        """Makes the recipe's demo files below `root`, unless they are there."""
        raise NotImplementedError

    def train_samples(self, stream: str) -> TrainSamples:
        raise NotImplementedError

    def eval_views(self, files: FileList) -> EvalViews:
        raise NotImplementedError

    def training_input(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """What the network takes of a batch, float [B, 3, ..., S, S], and labels [B], or shares of classes [B, C]."""
        raise NotImplementedError

    def network_input(self, views: torch.Tensor) -> torch.Tensor:
        """Views in evaluation, uint8 as they were read, to what the network takes."""
        raise NotImplementedError

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of red, green and blue, as shares of 255, by which `network_input` normalizes."""
        raise NotImplementedError

    @property
    def views_per_forward(self) -> int:
        """Views that pass through the network at once in evaluation."""
        raise NotImplementedError

    @property
    def protocol(self) -> str:
        """The views of an evaluation in a word: the name of its report."""
        raise NotImplementedError

    # The lists are read from disk when they are first asked for: to evaluate or to predict takes no training files.

    @cached_property
    def train_files(self) -> FileList:
        data, num_classes = self.settings.data, self.settings.model.num_classes
        files = self._read("train", data.train, data.root, self._table)
        _check_labels("data.train", files, 0, num_classes or files.num_classes, self.multi_label)
        for number, more in enumerate(data.more):
            key, names = f"data.more.{number}.train", self._table or files.class_names or None
            more_files = told(key, self.read_files, more.train, more.root, names, more.split)
            _check_labels(key, more_files, 0, num_classes or more_files.num_classes, self.multi_label)
            self._more.append(more_files)
        return join_lists([files, *self._more]) if self._more else files

    @cached_property
    def train_weights(self) -> np.ndarray | None:
        """How often each training file is seen [N], see `TrainSamples`; None: each once an epoch."""
        data, files = self.settings.data, self.train_files
        if not data.class_balance and data.weights is None and all(more.times == 1 for more in data.more):
            return None
        weights = balance_classes(files.labels, data.class_balance)
        if data.weights is not None:
            weights *= told("data.weights", read_weights, data.weights, files)
        end = len(files)
        for more, more_files in zip(reversed(data.more), reversed(self._more), strict=True):
            weights[end - len(more_files) : end] *= more.times
            end -= len(more_files)
        return weights

    @cached_property
    def val_files(self) -> FileList:
        data = self.settings.data
        files = self._read("val", data.val, data.val_root or data.root, self._names or None)
        _check_labels("data.val", files, UNLABELED, self.num_classes, self.multi_label)
        return files

    @cached_property
    def num_classes(self) -> int:
        return self.settings.model.num_classes or len(self._names) or self.train_files.num_classes

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """A name for each class of the network; `class 7` where there is none."""
        if len(self._names) > self.num_classes:
            raise SettingsError(f"there are {len(self._names)} class names, but model.num_classes={self.num_classes}")
        return (*self._names, *(f"class {label}" for label in range(len(self._names), self.num_classes)))

    @cached_property
    def _names(self) -> tuple[str, ...]:
        """Names of the table, else of the training files; none if these cannot be read and need not be."""
        if self._table is not None:
            return self._table
        try:
            return self.train_files.class_names
        except SettingsError:
            if self.settings.model.num_classes is None:
                raise
            return ()

    @cached_property
    def _table(self) -> tuple[str, ...] | None:
        path = self.settings.data.class_names
        if path is None:
            return None
        if not Path(path).exists():
            self._make_demo()
        return told("data.class_names", read_class_names, path)

    def _read(self, key: str, source: str, root: str | None, names: tuple | None) -> FileList:
        self._make_demo()
        split = getattr(self.settings.data, f"{key}_split", None)
        return told(f"data.{key}", self.read_files, source, root, names, split)

    def _make_demo(self) -> None:
        data = self.settings.data
        if data.make is None:
            return
        if data.root is None:
            raise SettingsError(f"data.make needs data.root: the folder for the {self.item}s it makes")
        options = data.make.model_dump()
        self.ranks.on_main(lambda: told("data.make", self.make_demo, data.root, options))

    # What engine.trainer asks for.

    @property
    def num_train_samples(self) -> int:
        return len(self.train_files)

    def check(self) -> None:
        """Reads all that the recipe names, so that what is wrong with it is said before anything starts."""
        if self.settings.data.mix.is_on and self.settings.train.samples_per_forward(self.ranks) % 2:
            raise SettingsError(
                f"data.mix takes {self.item}s in pairs; set train.batch_size so that each process has an even part"
            )
        for use, files in (("training", self.train_files), ("validation", self.val_files)):
            log.info("%s: %d %ss of %d classes", use, len(files), self.item, files.num_classes)
        if self.train_weights is not None:
            log.info("training: %d %ss have a weight", np.count_nonzero(self.train_weights), self.item)
        data = self.settings.data
        if data.num_workers == 0 and "timeout_seconds" in data.model_fields_set:
            log.warning("data.timeout_seconds is ignored: with data.num_workers=0 nothing watches over the reading")
        with torch.device("meta"):
            self.build_model()

    def build_model(self) -> nn.Module:
        model = self.settings.model
        return told("model", lambda: create_model(model.name, num_classes=self.num_classes, **model.options))

    def load_initial_weights(self, model: nn.Module) -> None:
        if self.settings.model.pretrained:
            log.info("%s", load_pretrained(model, self.settings.model.pretrained))

    def train_batches(self, first_batch: int, num_batches: int, batch_size: int, stream: str) -> Iterable[Batch]:
        samples, ranks = self.train_samples(stream), self.ranks
        loader = train_loader(
            samples, first_batch, num_batches, batch_size, ranks.rank, ranks.num_ranks, **self._workers()
        )
        return to_device(loader, ranks.device)

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Mean loss of the batch, and sums over it: `loss`, and where nothing is mixed `top1`, `top5`."""
        views, target = self.training_input(batch)
        logits = model(views).float()  # [B, num_classes]
        loss = cross_entropy(logits, target, self.settings.loss.label_smoothing)
        return loss, self.training_sums(loss, logits, batch["label"])

    def training_sums(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """What is logged of a training step, summed over its batch; what is mixed has no one right class."""
        sums = {"loss": loss * len(labels)}
        if not self.settings.data.mix.is_on:
            sums |= {"top1": count_correct(logits, labels, 1), "top5": count_correct(logits, labels, 5)}
        return sums

    def evaluate(self, model: nn.Module, partial: PartialPredictions | None = None) -> Evaluation | None:
        """Scores of `model` on every validation file. Raises FileError if not one of them can be read."""
        predictions = self.predict(model, self.val_files, partial=partial)
        if predictions is None:
            return None
        if len(predictions.index) == 0:
            first = predictions.failures[0]
            raise FileError(first["path"], f"{first['reason']}; nor can any other {self.item} of data.val be read")
        return self.score(predictions)

    def view_scorer(self, files: FileList, num_guesses: int) -> ViewScorer:
        """How the views of `files` are scored; at least `num_guesses` of each file are kept."""
        return functools.partial(score_views, num_guesses=num_guesses)

    def score(self, predictions: Predictions) -> Evaluation:
        """The scores of predictions for the validation files."""
        return evaluate_predictions(predictions, item=self.item, view=self.view)

    def predict(
        self,
        model: nn.Module,
        files: FileList,
        num_guesses: int = NUM_GUESSES,
        partial: PartialPredictions | None = None,
    ) -> Predictions | None:
        """Predictions for `files` from the recipe's views, on the main rank; `model` is in evaluation mode.

        What `partial` has of an interrupted evaluation is not predicted again.
        """
        dataset = self.eval_views(files)
        files_per_batch = max(1, self.views_per_forward // dataset.num_views)
        done = () if partial is None else partial.done
        if done:
            log.info("going on with an interrupted evaluation: %d of %d %ss are done", len(done), len(files), self.item)
        order = (self.ranks.rank, self.ranks.num_ranks)
        loader = view_loader(dataset, files_per_batch, *order, done=done, **self._workers())

        def logits(batch: Batch) -> torch.Tensor:
            views = batch["views"].flatten(0, 1)  # [B, V, ...] -> [B * V, ...]
            parts = [model(self.network_input(part)).float() for part in views.split(self.views_per_forward)]
            return torch.cat(parts).unflatten(0, batch["views"].shape[:2])  # [B, V, num_classes]

        with progress_bar(len(loader), 0, self.ranks, "evaluating", unit="batch") as bar:
            batches = _counted(to_device(loader, self.ranks.device), bar)
            counts = (len(files), dataset.num_views)
            score = self.view_scorer(files, num_guesses)
            return predict_items(batches, logits, self.ranks, *counts, score, partial)

    # What reports and predictions ask for.

    def resolved_recipe(self) -> dict[str, Any]:
        """The whole recipe with every default and the number of classes filled in, as plain types."""
        recipe = self.settings.model_dump(mode="json")
        recipe["model"]["num_classes"] = self.num_classes
        return recipe

    def describe(self, index: int) -> tuple[str, str]:
        """Identifier and path of validation file `index`."""
        item = self.val_files[index]
        return item.id, item.path

    def _workers(self) -> dict[str, Any]:
        data = self.settings.data
        num_workers = data.num_workers
        if num_workers is None:
            num_workers = default_num_workers(self.ranks.num_ranks_here)
        return {
            "num_workers": num_workers,
            "worker_start": data.worker_start,
            "timeout_seconds": data.timeout_seconds,
            "pin_memory": self.ranks.device.type == "cuda",
        }


def check_pairs(settings: Any) -> None:
    """Raises ValueError where samples are to be mixed in pairs, and are odd in number."""
    samples = settings.train.batch_size // settings.train.accumulation_steps
    if settings.data.mix.is_on and samples % 2:
        raise ValueError(f"data.mix takes samples in pairs, but train.batch_size shares out to {samples} at once")


def told(key: str, read: Callable[..., Result], *arguments: Any) -> Result:
    """`read(*arguments)`, its errors as errors of the setting `key`."""
    try:
        return read(*arguments)
    except (OSError, TypeError, ValueError) as error:
        raise SettingsError(f"{key}: {error}") from error


def _counted(batches: Iterable[Batch], bar: Any) -> Iterable[Batch]:
    for batch in batches:
        yield batch
        bar.update()


def _check_labels(key: str, files: FileList, lowest: int, num_classes: int, several: bool) -> None:
    """Raises SettingsError where a label is below `lowest` or beyond the network's classes, or one of several."""
    if files.has_several and not several:
        item = next(item for item in files if len(files.labels_of(item.index)) > 1)
        raise SettingsError(
            f"{key}: {item.path} has several labels; clip_classification learns them with loss.multi_label=true"
        )
    if (unlabeled := (files.labels < lowest).nonzero()[0]).size:
        item = files[int(unlabeled[0])]
        raise SettingsError(f"{key}: {item.path} has no label ({item.label}); training needs one for every file")
    rows, labels = files.labeled_rows()
    if (beyond := (labels >= num_classes).nonzero()[0]).size:
        raise SettingsError(
            f"{key}: {files[int(rows[beyond[0]])].path} has label {labels[beyond[0]]}, but the network has "
            f"{num_classes} classes (0 to {num_classes - 1}); set model.num_classes={labels.max() + 1} or mend the list"
        )
