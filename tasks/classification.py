"""What the classification tasks have in common: their lists, names, labels, weights and scores."""

import functools
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from datasets.dataloader import default_num_workers, eval_loader, to_device, train_loader
from datasets.file_list import FileError, FileList
from datasets.samples import EvalViews, TrainSamples
from engine.checkpoint import write_atomically
from engine.progress import progress_bar
from engine.task import Answers, Batch, Picture, ResumeFolder, Task
from evaluators.class_scores import count_correct
from evaluators.classification import (
    NUM_GUESSES,
    ClassificationEvaluation,
    Naming,
    Predictions,
    ViewScorer,
    evaluate_predictions,
    predictions_from,
    score_views,
)
from evaluators.gather import gather
from evaluators.resumable_predictions import ResumablePredictions, Rows
from models import create_model, load_pretrained
from settings import SettingsError
from tasks import sample_pictures
from tasks.class_lists import ClassLists, read_setting
from tasks.losses import cross_entropy

log = logging.getLogger(__name__)

CLASS_NAMES = "class_names.txt"
HOW_FILES_ARE_READ = ("num_workers", "worker_start", "timeout_seconds")


class Classification(Task):
    """A task up to what the network sees: subclasses say how files become batches."""

    item: ClassVar[str]
    """What a file is called: video, image."""
    view: ClassVar[str]
    """What a view of a file is called: clip, crop."""
    curves: ClassVar[Mapping[str, str]] = {"loss": "loss", "top1": "top-1 accuracy"}
    multi_label: bool = False
    """Whether a file may have several classes."""

    # What subclasses know.

    @staticmethod
    def find_inputs(places: Iterable[str | Path]) -> FileList:
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

    @cached_property
    def lists(self) -> ClassLists:
        settings = self.settings
        options = (settings.model.num_classes, self.multi_label, self.item, self.ranks)
        return ClassLists(settings.data, *options, self.read_files, self.make_demo)

    @property
    def train_files(self) -> FileList:
        return self.lists.train

    @property
    def train_weights(self) -> np.ndarray | None:
        """How often each training file is seen [N], see `TrainSamples`; None: each once an epoch."""
        return self.lists.train_weights

    @property
    def val_files(self) -> FileList:
        return self.lists.val

    @property
    def num_classes(self) -> int:
        return self.lists.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name for each class of the network."""
        return self.lists.class_names

    # What engine.task asks for.

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
        return read_setting("model", lambda: create_model(model.name, num_classes=self.num_classes, **model.options))

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

    def evaluate(self, model: nn.Module) -> ClassificationEvaluation | None:
        """Scores of `model` on every validation file. Raises FileError if not one of them can be read."""
        return self._evaluate(self.predict(model, self.val_files))

    def evaluate_resumably(self, model: nn.Module, folder: ResumeFolder) -> ClassificationEvaluation | None:
        key = folder.key | self._what_predictions_depend_on()
        resumable = ResumablePredictions(folder.path, key, self.ranks, write_atomically)
        return self._evaluate(self.predict(model, self.val_files, resumable=resumable))

    def _evaluate(self, predictions: Predictions | None) -> ClassificationEvaluation | None:
        if predictions is None:
            return None
        if len(predictions.index) == 0:
            first = predictions.failures[0]
            raise FileError(first["path"], f"{first['reason']}; no {self.item} of data.val can be read")
        return self.score(predictions)

    def _what_predictions_depend_on(self) -> dict[str, Any]:
        recipe = self.resolved_recipe()
        files = hashlib.sha256("".join(f"{item.label} {item.path}\n" for item in self.val_files).encode())
        settings = {name: recipe[name] for name in ("task", "model", "evaluation")}
        settings["data"] = {name: value for name, value in recipe["data"].items() if name not in HOW_FILES_ARE_READ}
        settings["precision"] = recipe["train"]["precision"]
        here = {"device": self.ranks.device.type, "num_threads": torch.get_num_threads()}
        return {"files": files.hexdigest(), "settings": settings, **here}

    def view_scorer(self, files: FileList, num_guesses: int) -> ViewScorer:
        """How the views of `files` are scored; at least `num_guesses` of each file are kept."""
        return functools.partial(score_views, num_guesses=num_guesses)

    def score(self, predictions: Predictions) -> ClassificationEvaluation:
        """The scores of predictions for the validation files."""
        return evaluate_predictions(predictions, self.naming)

    @property
    def naming(self) -> Naming:
        """What reports call the validation files and their classes."""
        return Naming(self.item, self.view, self.class_names, self._describe)

    def _describe(self, index: int) -> tuple[str, str]:
        """Identifier and path of validation file `index`."""
        item = self.val_files[index]
        return item.id, item.path

    def predict(
        self,
        model: nn.Module,
        files: FileList,
        num_guesses: int = NUM_GUESSES,
        resumable: ResumablePredictions | None = None,
    ) -> Predictions | None:
        """Predictions for `files` from the recipe's views, on the main rank; `model` is in evaluation mode.

        What `resumable` has of an interrupted evaluation is not predicted again.
        """
        dataset = self.eval_views(files)
        files_per_batch = max(1, self.views_per_forward // dataset.num_views)
        done = () if resumable is None else resumable.done
        if done:
            log.info("resuming an interrupted evaluation: %d of %d %ss are done", len(done), len(files), self.item)
        order = (self.ranks.rank, self.ranks.num_ranks)
        loader = eval_loader(dataset, files_per_batch, *order, done=done, **self._workers())
        score = self.view_scorer(files, num_guesses)

        def rows_of(batch: Batch) -> Rows:
            views = batch["views"].flatten(0, 1)  # [B, V, ...] -> [B * V, ...]
            parts = [model(self.network_input(part)).float() for part in views.split(self.views_per_forward)]
            logits = torch.cat(parts).unflatten(0, batch["views"].shape[:2])  # [B, V, num_classes]
            return score(batch["index"], batch["label"], logits.double())

        with progress_bar(len(loader), 0, self.ranks, "evaluating", unit="batch") as bar:
            batches = _counted(to_device(loader, self.ranks.device), bar)
            gathered = gather(batches, rows_of, self.ranks, len(files), resumable)
        return gathered and predictions_from(gathered, dataset.num_views, self.num_classes)

    def resolved_recipe(self) -> dict[str, Any]:
        """The whole recipe with every default and the number of classes filled in, as plain types."""
        recipe = super().resolved_recipe()
        recipe["model"]["num_classes"] = self.num_classes
        return recipe

    def run_files(self) -> dict[str, str]:
        """The names of the classes: `index<TAB>name`, a line each."""
        return {CLASS_NAMES: "".join(f"{label}\t{name}\n" for label, name in enumerate(self.class_names))}

    @classmethod
    def overrides_of_run(cls, run: Path) -> list[str]:
        """The class names that the run kept: then the training files need not be there."""
        names = run / CLASS_NAMES
        return [f"data.class_names={json.dumps(str(names))}"] if names.exists() else []

    def report_facts(self) -> dict[str, Any]:
        return {"list": self.settings.data.val, **self.settings.evaluation.model_dump()}

    # What tools/predict.py and tools/show_data.py ask for: engine.task.Predicts and Shows.

    def answer(self, model: nn.Module, inputs: FileList, num_answers: int) -> Answers | None:
        predictions = self.predict(model, inputs, num_guesses=num_answers)
        if predictions is None:
            return None
        columns = (predictions.index, predictions.guesses, predictions.probabilities)
        rows = []
        for index, guesses, probabilities in zip(*(column.tolist() for column in columns), strict=True):
            names = [self.class_names[guess] for guess in guesses[:num_answers]]
            rows.append((inputs[index].path, list(zip(names, probabilities, strict=False))))
        return Answers(rows, predictions.failures)

    def training_pictures(self, count: int) -> list[Picture]:
        return sample_pictures.training_pictures(self, count)

    def validation_pictures(self, count: int) -> list[Picture]:
        return sample_pictures.validation_pictures(self, count)

    def sample_counts(self) -> tuple[Sequence[str], dict[str, np.ndarray]]:
        return self.class_names, sample_pictures.class_counts(self)

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


def _counted(batches: Iterable[Batch], bar: Any) -> Iterable[Batch]:
    for batch in batches:
        yield batch
        bar.update()
