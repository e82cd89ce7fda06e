"""Shared by detection and segmentation: files, network, batches, predictions per image, and names in reports."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn
from torch.utils.data import DataLoader

from datasets.dense.batches import normalize_and_pad
from datasets.dense.drawing import draw_scene
from datasets.file_list import FileList
from datasets.images import find_images
from datasets.samples import EvalSamples, TrainSamples
from datasets.shared_files import path_hashes
from engine.distributed import Ranks
from engine.fingerprint import Contents, Part
from engine.task import Answer, Batch, Evaluation, Picture, ResumeFolder, Seen
from evaluators.gather import Gathered
from evaluators.resumable_predictions import ResumablePredictions, Rows
from settings import SettingsError
from tasks import loops, scene_pictures
from tasks.evaluation_key import settings_without
from tasks.initial_weights import load_initial_weights
from tasks.loader_settings import LoaderSettings, loader_options
from tasks.loops import check_any_read, gather_rows, resumable_in, training_batches
from tasks.named_classes import SPLITS
from tasks.scene_lists import SceneLists
from tasks.scene_predictions import answer_files, see_files
from tasks.scored_list import check_chooses_on_val

log = logging.getLogger(__name__)

IN_TRAINING_ONLY = ("train", "train_view", "make")
IN_THE_FILES = ("root", "val", "val_root", "test", "test_root", "test_labels", "source_pattern", "class_names")
IGNORED = {
    "model": ("pretrained",),
    "data": (*IN_TRAINING_ONLY, *IN_THE_FILES, *LoaderSettings.CHANGEABLE),
    "evaluation": ("on", "max_non_finite", "save_predictions"),
}
"""Settings by section that do not change scores, or only through the choice of validation files."""
ONLY_IN_PICTURES = ("drawn_score",)
"""Settings of `evaluation` that change how outputs are drawn, but no score."""


class SceneTask(SceneLists):
    """A task whose network locates things in images of any size."""

    find_inputs: ClassVar[Callable[[Iterable[Any]], Sequence[Any]]] = staticmethod(find_images)

    # Implemented by subclasses.

    def samples_of(self, items: Any, stream: str = "train") -> TrainSamples:
        """Training samples of the images in `items`: `train_items` or the like."""
        raise NotImplementedError

    def eval_samples(self, items: Any) -> EvalSamples:
        """Evaluation samples of `val_items`, or of a `FileList` without annotations."""
        raise NotImplementedError

    def rows_maker(self, model: nn.Module) -> Callable[[Batch], Rows]:
        """A function from a batch of `eval_samples` to rows for `evaluation_of`."""
        raise NotImplementedError

    def outputs_of(self, model: nn.Module, batch: Batch) -> list[Any]:
        """The network's predictions for each image of a batch of `eval_samples`, at the size of its file."""
        raise NotImplementedError

    def is_finite(self, outputs: Any) -> bool:
        """Whether none of the outputs for an image is NaN or infinite."""
        raise NotImplementedError

    def guesses(self, outputs: Any) -> list[tuple[str, float]]:
        """The classes in an image, each with a number, the largest first."""
        raise NotImplementedError

    def drawing(self, outputs: Any) -> dict[str, Any]:
        """What to draw of the outputs for an image: arguments of `datasets.dense.drawing.draw_scene`."""
        raise NotImplementedError

    def evaluation_of(self, gathered: Gathered) -> Evaluation:
        """Scores the rows of all validation images."""
        raise NotImplementedError

    def create_network(self, num_classes: int) -> nn.Module:
        """The network of the recipe with random weights; raises ValueError for options that do not fit."""
        raise NotImplementedError

    def label_counts(self, items: Any) -> Any:
        """How often each class occurs in `items` [K]; `counted` names the unit."""
        raise NotImplementedError

    # Part of the contract of engine.task.Task.

    def train_samples(self, stream: str) -> TrainSamples:
        return self.samples_of(self.train_items, stream)

    @property
    def num_train_samples(self) -> int:
        return len(self.train_items)

    @property
    def num_evaluation_samples(self) -> int:
        return len(self.val_items) * self.eval_samples(self.val_items).view.num_views

    def check(self) -> None:
        check_chooses_on_val(self.settings)
        self.settings.check_length(self.num_train_samples)
        lists = {"train": self.train_items, **self.lists}
        by_name = {SPLITS[split]: items for split, items in lists.items()}
        self.warn_of_shared_files(by_name, {name: path_hashes(items) for name, items in by_name.items()}, "image")
        for split, items in lists.items():
            log.info("%s: %d images of %d classes", SPLITS[split], len(items), self.num_classes)
            self._check_files_exist(split, items)
        with torch.device("meta"):
            model = self.build_model()
        self.check_network(model)
        self.train_samples("train"), self.eval_samples(self.val_items)

    def _check_files_exist(self, split: str, items: Any) -> None:
        """Raises SettingsError if more files are missing than may be unreadable; logs fewer."""
        missing, limit = items.missing(), self.settings.train.max_unreadable
        if not missing:
            return
        said = f"{len(missing)} of the files for {len(items)} images do not exist, such as {missing[0]}"
        if len(missing) > limit * len(items):
            raise SettingsError(
                f"data.{split}: {said}; is {self.root_setting(split)} right? If so, leave them out of the list, or set "
                f"train.max_unreadable above {limit:g}"
            )
        log.warning("data.%s: %s; they count as unreadable", split, said)

    def check_network(self, model: nn.Module) -> None:
        """Raises SettingsError if `model`, on the meta device, does not accept the inputs of the recipe."""

    def build_model(self) -> nn.Module:
        try:
            return self.create_network(self.num_classes)
        except Exception as error:  # of any type: each builder has its own options
            raise SettingsError(f"model: {error}") from error

    def load_initial_weights(self, model: nn.Module) -> None:
        """Loads `model.pretrained`, weights of the backbone or of a whole network of this task."""
        load_initial_weights(model, self.settings.model.pretrained, self.fingerprint("outputs"))

    def train_batches(self, first_batch: int, num_batches: int, batch_size: int, stream: str) -> Iterable[Batch]:
        order = (first_batch, num_batches, batch_size)
        workers = loader_options(self.settings.data, self.ranks)
        return training_batches(self.train_samples(stream), *order, self.ranks, workers)

    def evaluate(self, model: nn.Module) -> Evaluation | None:
        """Scores `model` on all validation images. Raises FileError if none of them can be read."""
        return self._evaluate(model)

    def evaluate_resumably(self, model: nn.Module, folder: ResumeFolder) -> Evaluation | None:
        return self._evaluate(model, resumable_in(folder, self.evaluation_key(), self.ranks))

    def _evaluate(self, model: nn.Module, resumable: ResumablePredictions | None = None) -> Evaluation | None:
        dataset = self.eval_samples(self.val_items)
        loader = self.evaluation_loader(dataset, done=() if resumable is None else resumable.done)
        gathered = gather_rows(loader, self.rows_maker(model), self.ranks, len(dataset), resumable)
        if gathered is None:
            return None
        check_any_read(gathered.num_read, gathered.failures, "image")
        return self.evaluation_of(gathered)

    def evaluation_loader(
        self,
        dataset: EvalSamples,
        done: Collection[int] = (),
        in_process: bool = False,
        size: int | None = None,
        alone: bool = False,
    ) -> DataLoader:
        """The batches of this rank, of `size` images; with `alone`, of all ranks. See `loops.evaluation_loader`."""
        size = size or self.settings.evaluation.images_per_forward
        workers = loader_options(self.settings.data, self.ranks)
        ranks = Ranks(0, 1, self.ranks.device) if alone else self.ranks
        return loops.evaluation_loader(dataset, size, ranks, workers, done, in_process)

    def network_input(
        self, images: Sequence[torch.Tensor], multiple: int = 32, size: tuple[int, int] | None = None
    ) -> torch.Tensor:
        """uint8 images [3, h, w] of any sizes -> float [B, 3, H, W], normalized and padded."""
        pixels = self.settings.data.pixels
        x = normalize_and_pad(images, pixels.mean, pixels.std, multiple=multiple, size=size)
        return x.contiguous(memory_format=torch.channels_last) if self.settings.train.channels_last else x

    def fingerprint(self, part: Part) -> Mapping[str, Contents]:
        if part == "outputs":
            return {"class names": Contents.of(self.class_names)}
        if part == "training":
            return {"training images": Contents.of(self.train_items.identities())}
        view = self.settings.data.val_view.model_dump(mode="json")
        return {
            "validation images": Contents.of(sorted(self.val_items.identities())),
            "validation views": Contents.of([json.dumps([view, self.protocol], sort_keys=True)]),
        }

    def settings_key(self) -> dict[str, Any]:
        """What the outputs for an image depend on besides the weights."""
        recipe = self.resolved_recipe()
        sections = settings_without(recipe, IGNORED)
        names = list(Contents.of(self.class_names))
        return {"task": recipe["task"], **sections, "precision": self.precision, "class names": names}

    def evaluation_key(self) -> dict[str, Any]:
        items = zip(self.val_items.identities(), self.val_items, strict=True)
        files = (f"{identity} {os.path.abspath(item.path)}" for identity, item in items)
        key = self.settings_key()
        scored = {name: value for name, value in key["evaluation"].items() if name not in ONLY_IN_PICTURES}
        return {**key, "evaluation": scored, "validation images": list(Contents.of(files))}

    def report_facts(self) -> dict[str, Any]:
        data = self.settings.data
        files, part = self.place()
        return {
            "list": files if part is None else f"{part} of {files}",
            "view": data.val_view.model_dump(),
            **self.settings.evaluation.model_dump(),
        }

    # engine.task.Predicts and engine.task.Draws, for tools/predict.py.

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
        return self.settings_key()

    def see(self, model: nn.Module, inputs: FileList, one_by_one: bool = False) -> Iterator[Seen]:
        return see_files(self, model, inputs, one_by_one=one_by_one)

    # engine.task.Shows, for tools/show_data.py.

    def draw(self, picture: torch.Tensor, outputs: Any) -> torch.Tensor:
        return draw_scene(picture, **self.drawing(outputs))

    def training_pictures(self, count: int) -> list[Picture]:
        return scene_pictures.training_pictures(self, count)

    def prediction_pictures(self, model: nn.Module, count: int) -> list[Picture]:
        return scene_pictures.prediction_pictures(self, model, count)

    def validation_pictures(self, count: int) -> list[Picture]:
        return scene_pictures.validation_pictures(self, count)

    def sample_counts(self) -> tuple[Sequence[str], dict[str, Any]]:
        lists = {"training": self.train_items, "validation": self.val_items}
        return self.class_names, {name: self.label_counts(items) for name, items in lists.items()}
