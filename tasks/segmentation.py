"""Semantic segmentation, a class for every pixel, as in the ADE20K recipes of EurNet and HorNet and GloRe's Cityscapes.

Evaluation resizes the image, keeping its aspect ratio, predicts it whole or in sliding windows, upsamples the logits to
the file's size and counts every pixel once. Probabilities are averaged over several scales and mirror images.
"""

import io
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field, field_validator, model_validator
from torch import nn

from datasets.dense.batches import pad_label_maps
from datasets.dense.label_maps import LabelMapFiles, read_label_maps
from datasets.dense.label_values import IGNORED
from datasets.dense.segmentation_samples import SegmentationImages, SegmentationSamples
from datasets.dense.views import EvalView, EvalViewSettings, SegmentationView, SegmentationViewSettings
from datasets.file_list import FileList
from datasets.image_file import ImageError, read_image
from dense.segmentation_loss import segmentation_losses
from dense.segmentor import slide
from dense.upernet import resize
from engine.task import Batch, TaskSettings
from evaluators.gather import Gathered
from evaluators.resumable_predictions import Rows
from evaluators.segmentation import NO_CLASS, SegmentationEvaluation, rows_of_images
from segmentors import HEAD_OPTIONS, create_segmentor
from settings import Settings, SettingsError, unknown_name
from tasks.class_lists import read_setting
from tasks.network_check import run_on_meta
from tasks.scene_pictures import pixel_counts
from tasks.scene_settings import SceneDataSettings, SceneEvaluationSettings, SceneModelSettings
from tasks.scenes import SceneTask

log = logging.getLogger(__name__)

NUM_CHECKED = 8
"""Number of label maps of each list that are checked before training."""
MIN_SIZE = 32
"""Smaller images are padded to this many pixels a side: no backbone accepts less."""


class SegmentorSettings(SceneModelSettings):
    """The network: a backbone, and a segmentation head on its levels."""

    head: str = Field("upernet", description="a name from segmentors.HEADS: upernet, semantic_fpn, glore, fcn, ...")


class SegmentationDataSettings(SceneDataSettings):
    """Images with label maps: a list file (lines `image label_map`), a folder, ADE20K's or Cityscapes'."""

    CHANGEABLE = (*SceneDataSettings.CHANGEABLE, "labels", "val_labels", "test_labels")

    train: str = Field(
        description="list of training images and label maps; or the images' folder, with `labels`; or the folder of "
        "ADE20K or Cityscapes"
    )
    labels: str | None = Field(None, description="folder of the label maps, if `train` is a folder of images")
    val_labels: str | None = Field(None, description="folder of the label maps, if `val` is a folder of images")
    test_labels: str | None = Field(None, description="folder of the label maps, if `test` is a folder of images")
    root: str | None = Field(None, description="folder that listed paths are relative to; none: the list's folder")
    ignored_label: int | None = Field(None, ge=0, le=255, description="label-map value to ignore, besides 255")
    train_view: SegmentationViewSettings = SegmentationViewSettings()
    val_view: EvalViewSettings = EvalViewSettings(short_side=512, max_long_side=2048)

    @field_validator("train_view")
    @classmethod
    def _is_large_enough(cls, view: SegmentationViewSettings) -> SegmentationViewSettings:
        if min(view.crop) < MIN_SIZE:
            raise ValueError(f"crop is {view.crop}; no backbone takes less than {MIN_SIZE} pixels a side")
        return view


class PixelLossSettings(Settings):
    """The loss: cross entropy of every pixel."""

    auxiliary_weight: float = Field(0.4, ge=0, description="weight of the auxiliary head's loss")
    average: Literal["all", "labeled"] = Field(
        "all",
        description="average over all pixels, ignored ones as 0, as in the papers' runs; or over those with a label",
    )


class SlideSettings(Settings):
    """Windows that slide over the image."""

    crop: tuple[int, int] = Field(description="height and width of a window, in pixels")
    stride: tuple[int, int] = Field(description="step from window to window, down and across, in pixels")

    @model_validator(mode="after")
    def _leave_no_gaps(self) -> "SlideSettings":
        if min(self.crop) < MIN_SIZE:
            raise ValueError(f"crop is {self.crop}; no backbone takes less than {MIN_SIZE} pixels a side")
        if any(not 0 < step <= side for step, side in zip(self.stride, self.crop, strict=True)):
            raise ValueError(f"stride is {self.stride}; it must be from 1 to the sides of crop, {self.crop}")
        return self


class SegmentationEvaluationSettings(SceneEvaluationSettings):
    """How images are evaluated."""

    slide: SlideSettings | None = Field(None, description="predict in sliding windows; none: the whole image at once")
    save_predictions: bool = Field(False, description="write a PNG with the predicted classes for every image")


class SegmentationSettings(TaskSettings):
    """A recipe of semantic segmentation."""

    CHANGEABLE = ("evaluation",)

    task: Literal["segmentation"]
    model: SegmentorSettings
    data: SegmentationDataSettings
    loss: PixelLossSettings = PixelLossSettings()
    evaluation: SegmentationEvaluationSettings = SegmentationEvaluationSettings()


class Segmentation(SceneTask):
    """Trains and evaluates a network that classifies every pixel."""

    Settings = SegmentationSettings
    counted = "pixels"
    curves: ClassVar[Mapping[str, str]] = {"loss": "loss", "mean_iou": "mean IoU"}
    advice = """\
  ./run_local.sh tools/predict.py IMAGE     the classes of your own images
  ./run_local.sh tools/evaluate.py          the scores once more, with a report on every image"""

    def read_items(self, split: str, source: str, root: str | None) -> LabelMapFiles:
        data, names = self.settings.data, self.named_classes
        name = {"train": "labels", "val": "val_labels", "test": "test_labels"}[split]
        number = None if names is not None else self.settings.model.num_classes
        own = (names, number, data.ignored_label, f"data.{name}")
        arguments = (source, getattr(data, name), root, split, *own)
        items = read_setting(f"data.{split}", read_label_maps, *arguments)
        if split != "train" and len(items.class_names) != self.num_classes:
            raise SettingsError(
                f"data.{split} has {len(items.class_names)} classes, but the network tells {self.num_classes} apart"
            )
        return items

    def create_network(self, num_classes: int) -> nn.Module:
        model = self.settings.model
        for name in model.head_options:
            if name not in HEAD_OPTIONS:
                raise ValueError(unknown_name(f"option of {model.head}", name, HEAD_OPTIONS))
        return create_segmentor(model.backbone, num_classes, model.head, **model.head_options, **model.options)

    def samples_of(self, items: LabelMapFiles, stream: str = "train") -> SegmentationSamples:
        view = SegmentationView(self.settings.data.train_view)
        return SegmentationSamples(items, view, self.settings.run.seed, stream)

    def label_counts(self, items: LabelMapFiles) -> np.ndarray:
        return pixel_counts(items, self.num_classes)

    def eval_samples(self, items: LabelMapFiles | FileList) -> SegmentationImages:
        return SegmentationImages(items, EvalView(self.settings.data.val_view))

    def check(self) -> None:
        super().check()
        for split, items in {"train": self.train_items, **self.lists}.items():
            _check_label_maps(split, items)
        self.warn_of_one_class()

    def check_network(self, model: nn.Module) -> None:
        shape = (self.settings.train.samples_per_forward(self.ranks), 3, *self.settings.data.train_view.crop)
        run_on_meta(f"data.train_view.crop, train.batch_size={self.settings.train.batch_size}", model, shape, True)

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The sum of the heads' losses, and sums over the batch: `loss` and, with several heads, its parts."""
        settings, size = self.settings.loss, self.settings.data.train_view.crop
        images = self.network_input(batch["images"], size=size)
        labels = pad_label_maps(batch["label_maps"], size)
        outputs = model(images)
        losses = segmentation_losses(outputs, labels, settings.auxiliary_weight, settings.average == "all")
        loss = torch.stack(list(losses.values())).sum()
        parts = {f"loss_{name}": value * len(images) for name, value in losses.items()} if len(losses) > 1 else {}
        return loss, {"loss": loss * len(images), **parts}

    def rows_maker(self, model: nn.Module) -> Callable[[Batch], Rows]:
        saves = self.settings.evaluation.save_predictions

        def rows_of(batch: Batch) -> Rows:
            predicted = [self.best_classes(scores) for scores in self.outputs_of(model, batch)]
            rows = rows_of_images(batch["index"], batch["label_maps"], predicted, self.num_classes)
            return rows | ({"png": [_encode(one) for one in predicted]} if saves else {})

        return rows_of

    def best_classes(self, scores: torch.Tensor) -> torch.Tensor:
        """The class of every pixel: [K, H, W] -> int64 [H, W]; `NO_CLASS` everywhere if scores are NaN or infinite."""
        best = scores.argmax(0)
        return best if self.is_finite(scores) else torch.full_like(best, NO_CLASS)

    def is_finite(self, outputs: torch.Tensor) -> bool:
        return bool(outputs.isfinite().all())

    def outputs_of(self, model: nn.Module, batch: Batch) -> list[torch.Tensor]:
        """Scores [K, H, W] of every pixel of each file: logits or, averaged over several views, probabilities."""
        num_views = len(batch["images"]) // len(batch["original"])
        scores = self._scores(model, batch["images"], batch["original"].repeat_interleave(num_views, dim=0).tolist())
        if num_views == 1:
            return scores
        return [torch.stack(scores[first : first + num_views]).mean(0) for first in range(0, len(scores), num_views)]

    def _scores(
        self, model: nn.Module, views: Sequence[torch.Tensor], originals: Sequence[Sequence[int]]
    ) -> list[torch.Tensor]:
        """Logits [K, H, W] at the file's size for each view or, with several views, probabilities."""
        view = self.settings.data.val_view
        averages = len(view.scales) * (1 + view.flip) > 1
        scores, number = [], self.settings.evaluation.images_per_forward
        for first in range(0, len(views), number):
            part = views[first : first + number]
            size = tuple(max(MIN_SIZE, *(image.shape[axis] for image in part)) for axis in (1, 2))
            logits = self._logits(model, self.network_input(part, size=size)).float()
            for position, (one, image) in enumerate(zip(logits, part, strict=True), start=first):
                one = one[:, : image.shape[1], : image.shape[2]]
                if view.flip and position % 2:
                    one = one.flip(2)
                one = resize(one[None], originals[position])[0]
                scores.append(one.softmax(0) if averages else one)
        return scores

    def _logits(self, model: nn.Module, images: torch.Tensor) -> torch.Tensor:
        windows = self.settings.evaluation.slide
        return model(images) if windows is None else slide(model, images, windows.crop, windows.stride)

    def guesses(self, outputs: torch.Tensor) -> list[tuple[str, float]]:
        """The classes in an image, with their fractions of the pixels."""
        shares = self.best_classes(outputs).flatten().bincount(minlength=self.num_classes) / outputs[0].numel()
        order = shares.argsort(descending=True, stable=True).tolist()
        return [(self.class_names[label], shares[label].item()) for label in order if shares[label] > 0]

    # engine.task.Draws.

    def drawing(self, outputs: torch.Tensor) -> dict[str, Any]:
        return {"label_map": self.best_classes(outputs)}

    def facts(self, outputs: torch.Tensor) -> dict[str, Any]:
        return {"shares": dict(self.guesses(outputs))}

    def maps(self, outputs: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"classes": self.best_classes(outputs).to(torch.uint8)}

    def over_time(self, smooth: float, track: bool) -> Callable[[torch.Tensor], torch.Tensor]:
        if track:
            raise SettingsError("--track: a segmentor finds no objects to track; detectors do")
        return Smoothing(smooth, is_logits=self.eval_samples(()).view.num_views == 1)

    def evaluation_of(self, gathered: Gathered) -> SegmentationEvaluation:
        root = self.val_items.root
        return SegmentationEvaluation(
            gathered=gathered,
            class_names=self.class_names,
            items=[(_id_of(item.path, root), item.path) for item in self.val_items],
            max_non_finite=self.settings.evaluation.max_non_finite,
        )

    @property
    def protocol(self) -> str:
        view, windows = self.settings.data.val_view, self.settings.evaluation.slide
        parts = ["whole" if windows is None else "slide"]
        if len(view.scales) > 1:
            parts.append(f"{len(view.scales)}scales")
        return "-".join([*parts, *(["flip"] if view.flip else [])]) + self.list_suffix


def _check_label_maps(split: str, items: LabelMapFiles) -> None:
    """Raises SettingsError if most of a few label maps cannot be used: the recipe is at fault, not a damaged file."""
    rows = sorted({round(place * (len(items) - 1) / max(1, NUM_CHECKED - 1)) for place in range(NUM_CHECKED)})
    faults, seen = [], set()
    for row in rows:
        try:
            labels = items.read_labels(items[row], read_image(items[row].path).size[::-1])
            seen |= set(np.unique(labels).tolist())
        except ImageError as error:
            faults.append(error)
    if 2 * len(faults) > len(rows):
        raise SettingsError(
            f"data.{split}: {len(faults)} of {len(rows)} label maps cannot be used, such as {faults[0]}. Classes are "
            "set by data.class_names or model.num_classes, and a label to ignore by data.ignored_label"
        )
    known = sorted(seen - {IGNORED})
    if not known:
        raise SettingsError(f"data.{split}: no pixel has a class in any of {len(rows)} label maps; all are {IGNORED}")
    if len(known) == 1 and items.num_classes > 1:
        log.warning(
            "data.%s: in %d label maps all pixels are %s, or %d, which is ignored: no class stored as %d is learned",
            *(split, len(rows), items.class_names[known[0]], IGNORED, IGNORED),
        )


class Smoothing:
    """Averages the probabilities of frames, the newest with weight 1 - `weight`; starts over when the size changes."""

    def __init__(self, weight: float, is_logits: bool):
        self.weight, self.is_logits = weight, is_logits
        self._mean: torch.Tensor | None = None

    def __call__(self, scores: torch.Tensor) -> torch.Tensor:
        """Scores of the next frame [K, H, W], logits or probabilities -> probabilities."""
        probabilities = scores.softmax(0) if self.is_logits else scores
        if self._mean is None or self._mean.shape != probabilities.shape:
            self._mean = probabilities
        self._mean = torch.lerp(probabilities, self._mean, self.weight)
        return self._mean


def _encode(label_map: torch.Tensor) -> np.ndarray:
    """A label map as a PNG file: uint8 [bytes]; pixels without a class are 255."""
    values = label_map.where(label_map >= 0, 255).to(torch.uint8).cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return np.frombuffer(file.getvalue(), dtype=np.uint8)


def _id_of(path: str, root: str) -> str:
    """The file's name without its suffix, below the root."""
    return os.path.splitext(os.path.relpath(path, root))[0]
