"""Shared by clip and image classification: loss, dataloaders, predictions and scores."""

import functools
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from datasets.dataloader import eval_loader, to_device
from datasets.file_list import FileList
from datasets.samples import EvalViews
from datasets.shared_files import contradictory_rows, path_hashes
from engine.task import Answer, Batch, Picture, ResumeFolder, Task
from evaluators.class_scores import count_correct, ranks_worth_counting
from evaluators.classification import (
    NUM_GUESSES,
    ClassificationEvaluation,
    Predictions,
    ViewScorer,
    evaluate_predictions,
    predictions_from,
    score_views,
)
from evaluators.resumable_predictions import ResumablePredictions, Rows
from models import create_model
from settings import SettingsError
from tasks import sample_pictures
from tasks.answers import answer_files
from tasks.classified_files import ClassifiedFiles
from tasks.evaluation_key import settings_key
from tasks.initial_weights import load_initial_weights
from tasks.loops import check_any_read, evaluation_loader, gather_rows, resumable_in, training_batches
from tasks.losses import cross_entropy
from tasks.network_check import check_network, explained
from tasks.scored_list import check_chooses_on_val

log = logging.getLogger(__name__)


def classifies_pictures(task_class: type[Task]) -> bool:
    """Whether a task classifies images or clips."""
    return issubclass(task_class, Classification) and task_class.takes_pictures


class Classification(ClassifiedFiles):
    """Training, evaluation and prediction of a classification task, independent of the type of input."""

    curves: ClassVar[Mapping[str, str]] = {"loss": "loss", "top1": "top-1 accuracy"}
    checked_shape: tuple[str, tuple[int, ...]] | None = None
    """The `validation_shape` that the network accepts, as found by `check_validation`."""

    # The contract of engine.task.Task.

    def check(self) -> None:
        """Checks everything the recipe refers to, so that mistakes are reported before training starts."""
        check_chooses_on_val(self.settings)
        self.settings.check_length(self.num_train_samples)
        if self.settings.data.mix.is_on and self.settings.train.samples_per_forward(self.ranks) % 2:
            raise SettingsError(
                f"data.mix takes {self.item}s in pairs; set a train.batch_size that gives each process an even number"
            )
        lists = {"training": self.train_files, "validation": self.val_files}
        if self.lists.has_test:
            lists["test"] = self.lists.test
        for split, files in lists.items():
            log.info("%s: %d %ss of %d classes", split, len(files), self.item, files.num_classes)
        hashes = {split: path_hashes(files) for split, files in lists.items()}
        self.warn_of_shared_files(lists, hashes, self.item)
        counts = np.bincount(self.train_files.labeled_rows()[1], minlength=self.num_classes)
        self.warn_of_missing_classes(counts, f"training {self.item}")
        if not self.multi_label:
            self.warn_of_one_class()
            self._warn_of_contradictions(hashes["training"])
        if self.train_weights is not None:
            log.info("training: %d %ss with a nonzero weight", np.count_nonzero(self.train_weights), self.item)
        data = self.settings.data
        if data.num_workers == 0 and "timeout_seconds" in data.model_fields_set:
            log.warning("data.timeout_seconds is ignored: it needs at least one worker, but data.num_workers=0")
        self.train_samples("train"), self.eval_views(self.val_files)
        self.check_model(check_network(self))

    def _warn_of_contradictions(self, hashes: np.ndarray) -> None:
        if len(rows := contradictory_rows(hashes, self.train_files.labels)):
            log.warning(
                "%d entries of the training list contradict others about the label of the same %s, such as %s",
                *(len(rows), self.item, self.train_files[int(rows[0])].path),
            )

    def check_model(self, model: nn.Module) -> None:
        """Raises SettingsError if the recipe trains only part of the network, which is on the meta device."""

    def check_outputs(self, shape: tuple[int, ...], outputs: Any) -> None:
        """Raises SettingsError if the loss does not accept the outputs for a training input of `shape`."""

    def build_model(self) -> nn.Module:
        model = self.settings.model
        try:
            return create_model(model.name, num_classes=self.num_classes, **model.options)
        except Exception as error:  # of any type: each builder has its own options
            raise SettingsError(f"model: {error}") from error

    def load_initial_weights(self, model: nn.Module) -> None:
        settings = self.settings.model
        outputs, classes = self.fingerprint("outputs"), settings.pretrained_classes
        load_initial_weights(model, settings.pretrained, outputs, classes, settings.pretrained_average)

    def train_batches(self, first_batch: int, num_batches: int, batch_size: int, stream: str) -> Iterable[Batch]:
        order = (first_batch, num_batches, batch_size)
        return training_batches(self.train_samples(stream), *order, self.ranks, self._workers())

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Mean loss of the batch, and sums over it (see `training_sums`)."""
        views, target = self.training_input(batch)
        logits = model(views).float()  # [B, num_classes]
        loss = cross_entropy(logits, target, self.settings.loss.label_smoothing)
        return loss, self.training_sums(loss, logits, batch["label"])

    def training_sums(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Sums over a training batch to log: `loss`, `top1`, and with more than five classes `top5`.

        Mixed samples have no single correct class, so only their loss is logged.
        """
        sums = {"loss": loss * len(labels)}
        if not self.settings.data.mix.is_on:
            ranks = ranks_worth_counting(self.num_classes)
            sums |= {f"top{k}": count_correct(logits, labels, k) for k in ranks}
        return sums

    def evaluate(self, model: nn.Module) -> ClassificationEvaluation | None:
        """Scores `model` on all validation files. Raises FileError if none of them can be read."""
        return self._evaluate(self.predict(model, self.val_files))

    def evaluate_resumably(self, model: nn.Module, folder: ResumeFolder) -> ClassificationEvaluation | None:
        resumable = resumable_in(folder, {**self.evaluation_key(), **self.answer_key()}, self.ranks)
        return self._evaluate(self.predict(model, self.val_files, resumable=resumable))

    def _evaluate(self, predictions: Predictions | None) -> ClassificationEvaluation | None:
        if predictions is None:
            return None
        check_any_read(len(predictions.index), predictions.failures, self.item)
        return self.score(predictions)

    def view_scorer(self, files: FileList, num_guesses: int) -> ViewScorer:
        """Scores the views of `files`, keeping at least `num_guesses` guesses per file."""
        return functools.partial(score_views, num_guesses=num_guesses)

    def score(self, predictions: Predictions) -> ClassificationEvaluation:
        """Scores predictions for the validation files."""
        return evaluate_predictions(predictions, self.naming, self.settings.evaluation.max_non_finite)

    def predict(
        self,
        model: nn.Module,
        files: FileList,
        num_guesses: int = NUM_GUESSES,
        resumable: ResumablePredictions | None = None,
    ) -> Predictions | None:
        """Predictions for `files` with the views of the recipe; None on ranks other than the main one.

        `model` is in eval mode. Files that `resumable` already has are not predicted again.
        """
        dataset = self.eval_views(files)
        done = () if resumable is None else resumable.done
        if done:
            log.info("resuming an interrupted evaluation: %d of %d %ss are done", len(done), len(files), self.item)
        loader = self.prediction_loader(dataset, done)
        rows_of = self.rows_maker(model, files, num_guesses)
        gathered = gather_rows(loader, rows_of, self.ranks, len(files), resumable)
        return gathered and predictions_from(gathered, dataset.num_views, self.num_classes)

    def prediction_loader(
        self, dataset: EvalViews, done: Collection[int] = (), in_process: bool = False, one_by_one: bool = False
    ) -> DataLoader:
        """The batches of this rank, of one file each with `one_by_one`; see `loops.evaluation_loader`."""
        size = 1 if one_by_one else self.files_per_batch(dataset)
        return evaluation_loader(dataset, size, self.ranks, self._workers(), done, in_process)

    def files_per_batch(self, dataset: EvalViews) -> int:
        return max(1, self.views_per_forward // dataset.num_views)

    def rows_maker(self, model: nn.Module, files: FileList, num_guesses: int) -> Callable[[Batch], Rows]:
        """A function from a batch with `views`, `index` and `label` to the rows of its `files`."""
        score = self.view_scorer(files, num_guesses)

        def rows_of(batch: Batch) -> Rows:
            views = batch["views"].flatten(0, 1)  # [B, V, ...] -> [B * V, ...]
            with explained(self):
                parts = [model(self.network_input(part)).float() for part in views.split(self.views_per_forward)]
            logits = torch.cat(parts).unflatten(0, batch["views"].shape[:2])  # [B, V, num_classes]
            return score(batch["index"], batch["label"], logits.double())

        return rows_of

    def view_batches(self, dataset: EvalViews, done: Collection[int]) -> Iterable[Batch]:
        """All batches of views except those `done`, whatever the number of ranks: the caller distributes them."""
        loader = eval_loader(dataset, self.files_per_batch(dataset), 0, 1, done=done, **self._workers())
        return to_device(loader, self.ranks.device)

    # engine.task.Predicts and engine.task.Shows, for tools/predict.py and tools/show_data.py.

    def answer(
        self,
        model: nn.Module,
        inputs: FileList,
        num_answers: int,
        done: Collection[int] = (),
        one_by_one: bool = False,
    ) -> Iterator[Answer]:
        return answer_files(self, model, inputs, num_answers, done, one_by_one)

    def answer_key(self) -> dict[str, Any]:
        return {**settings_key(self), "views_per_forward": self.views_per_forward}

    def training_pictures(self, count: int) -> list[Picture]:
        return sample_pictures.training_pictures(self, count)

    def validation_pictures(self, count: int) -> list[Picture]:
        return sample_pictures.validation_pictures(self, count)

    def sample_counts(self) -> tuple[Sequence[str], dict[str, np.ndarray]]:
        return self.class_names, sample_pictures.class_counts(self)
