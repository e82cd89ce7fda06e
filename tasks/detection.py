"""Object detection: boxes with a class and optionally a mask, as in the COCO recipes of EurNet and HorNet.

Evaluation resizes the image, keeping its aspect ratio, and finds at most 100 objects in it; boxes and masks are in the
file's coordinates. Scores are COCO's average precisions.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import nn

from datasets.dense.coco import CocoImages, read_coco, with_objects
from datasets.dense.detection_samples import DetectionImages, DetectionSamples
from datasets.dense.views import DetectionView, DetectionViewSettings, EvalView, EvalViewSettings
from datasets.file_list import FileList
from dense.structures import ImageShape, Targets
from dense.tracking import Tracker
from detectors import create_detector
from engine.distributed import Ranks
from engine.task import Batch, TaskSettings
from evaluators.detection import MAX_SCORED, DetectionEvaluation, rows_of_images
from evaluators.gather import Gathered
from evaluators.resumable_predictions import Rows
from settings import SettingsError
from tasks.class_lists import read_setting
from tasks.found_objects import FoundObjects, objects_of
from tasks.scene_settings import SceneDataSettings, SceneEvaluationSettings, SceneModelSettings
from tasks.scenes import SceneTask

log = logging.getLogger(__name__)

MASK_HEADS = ("mask_rcnn", "cascade_mask_rcnn")
"""Heads that also learn masks, and so need them in the data."""


class DetectorSettings(SceneModelSettings):
    """The network: a backbone, a neck, and the heads of a detector."""

    head: str = Field("mask_rcnn", description="a name from detectors.HEADS: mask_rcnn, cascade_mask_rcnn, ...")
    neck: str = Field("fpn", description="a name from detectors.SPATIAL: fpn, horfpn_7x7 or horfpn_gf")


class DetectionDataSettings(SceneDataSettings):
    """Images with objects, in COCO format."""

    train: str = Field(description="JSON file of the training images in COCO format")
    root: str | None = Field(None, description="folder of the training images; none: the file's folder")
    keep_empty: bool = Field(
        False, description="also train on images without objects; the papers' recipes leave them out"
    )
    group_orientations: bool = Field(
        True, description="one orientation, landscape or portrait, per batch, to reduce padding"
    )
    train_view: DetectionViewSettings = DetectionViewSettings()
    val_view: EvalViewSettings = EvalViewSettings(short_side=800, max_long_side=1333)

    @field_validator("val_view")
    @classmethod
    def _is_one_view(cls, view: EvalViewSettings) -> EvalViewSettings:
        if len(view.scales) > 1 or view.flip:
            raise ValueError("a detector sees each image once: scales must be one factor, and flip false")
        return view


class DetectionEvaluationSettings(SceneEvaluationSettings):
    """How images are evaluated."""

    drawn_score: float = Field(
        0.5, ge=0, le=1, description="objects with a smaller score are not drawn or tracked; evaluation counts them"
    )


class DetectionSettings(TaskSettings):
    """A recipe for detection."""

    CHANGEABLE = ("evaluation",)

    task: Literal["detection"]
    model: DetectorSettings
    data: DetectionDataSettings
    evaluation: DetectionEvaluationSettings = DetectionEvaluationSettings()


class Detection(SceneTask):
    """Trains and evaluates a network that finds objects."""

    Settings = DetectionSettings
    counted = "objects"
    curves: ClassVar[Mapping[str, str]] = {"loss": "loss", "box_ap": "average precision of boxes"}
    advice = """\
  ./run_local.sh tools/predict.py IMAGE     the objects in your own images
  ./run_local.sh tools/evaluate.py          the scores once more, with a report on every image"""

    def __init__(self, settings: DetectionSettings, ranks: Ranks):
        super().__init__(settings, ranks)
        torch.backends.cudnn.benchmark = False  # the number of objects varies: it would search at almost every step

    @property
    def has_masks(self) -> bool:
        model = self.settings.model
        return model.head in MASK_HEADS and model.head_options.get("mask_convs", 0) is not None

    def read_items(self, split: str, source: str, root: str | None) -> CocoImages:
        names = self.named_classes if split == "train" else self.class_names
        return read_setting(f"data.{split}", read_coco, source, root, names, self.has_masks)

    def to_learn_from(self, items: CocoImages) -> CocoImages:
        return items if self.settings.data.keep_empty else read_setting("data.train", with_objects, items)

    def check(self) -> None:
        super().check()
        if (limit := self.settings.model.head_options.get("max_detections", 0)) > MAX_SCORED:
            log.warning(
                "model.head_options.max_detections is %d, but COCO's scores count only the best %d of each image",
                *(limit, MAX_SCORED),
            )
        self.warn_of_missing_classes(self.train_items.class_counts(), "training object")
        for split, items in self.lists.items():
            if not items.counts().any():
                raise SettingsError(
                    f"data.{split}: none of the {len(items)} images of {items.source} has an object; there is nothing "
                    "to score"
                )

    def create_network(self, num_classes: int) -> nn.Module:
        model = self.settings.model
        return create_detector(model.backbone, num_classes, model.head, model.neck, model.head_options, **model.options)

    def samples_of(self, items: CocoImages, stream: str = "train") -> DetectionSamples:
        data, run = self.settings.data, self.settings.run
        group_size = self.settings.train.batch_size if data.group_orientations else None
        return DetectionSamples(items, DetectionView(data.train_view), run.seed, group_size, stream)

    def label_counts(self, items: CocoImages) -> np.ndarray:
        return items.class_counts()

    def eval_samples(self, items: CocoImages | FileList) -> DetectionImages:
        return DetectionImages(items, EvalView(self.settings.data.val_view))

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The sum of the heads' losses, and sums over the batch: `loss` and its parts."""
        images = self.network_input(batch["images"])
        masks = batch.get("masks", [None] * len(images))
        targets = [
            Targets(*parts) for parts in zip(batch["boxes"], batch["labels"], masks, batch["ignored"], strict=True)
        ]
        losses = model(images, shapes_of(batch), targets)
        loss = torch.stack(list(losses.values())).sum()
        parts = {_as_logged(name): value * len(images) for name, value in losses.items()}
        return loss, {"loss": loss * len(images), **parts}

    def outputs_of(self, model: nn.Module, batch: Batch) -> list[FoundObjects]:
        found = model(self.network_input(batch["images"]), shapes_of(batch))
        originals = batch["original"].tolist()
        return [objects_of(one, tuple(size)) for one, size in zip(found, originals, strict=True)]

    def rows_maker(self, model: nn.Module) -> Callable[[Batch], Rows]:
        def rows_of(batch: Batch) -> Rows:
            found = self.outputs_of(model, batch)
            return rows_of_images(batch["index"], found) | {"finite": np.array([one.is_finite for one in found])}

        return rows_of

    def is_finite(self, outputs: FoundObjects) -> bool:
        return outputs.is_finite

    def guesses(self, outputs: FoundObjects) -> list[tuple[str, float]]:
        """The objects in an image, by their scores."""
        pairs = zip(outputs.labels.tolist(), outputs.scores.tolist(), strict=True)
        return [(self.class_names[label], score) for label, score in pairs]

    # engine.task.Draws.

    def drawing(self, outputs: FoundObjects) -> dict[str, Any]:
        shown = outputs.above(self.settings.evaluation.drawn_score)
        names, colors = list(self.class_names), shown.labels
        if shown.numbers is not None:  # a color and a name per track
            named = {n: f"{names[label]} {n}" for n, label in zip(shown.numbers, colors.tolist(), strict=True)}
            names = [named.get(number, "") for number in range(max(named, default=-1) + 1)]
            colors = torch.tensor(shown.numbers, dtype=torch.int64)
        found = {"boxes": shown.boxes, "labels": colors, "masks": shown.masks(), "scores": shown.scores}
        return {**found, "class_names": names}

    def facts(self, outputs: FoundObjects) -> dict[str, Any]:
        """Objects with class, score, box (x1, y1, x2, y2 in pixels), mask (COCO's run lengths) and track."""
        objects = []
        for row, (label, score, box) in enumerate(
            zip(outputs.labels.tolist(), outputs.scores.tolist(), outputs.boxes.tolist(), strict=True)
        ):
            one = {"class": self.class_names[label], "score": score, "box": box}
            if outputs.rles is not None:
                one["mask"] = {"size": list(outputs.size), "counts": outputs.rles[row].decode("ascii")}
            if outputs.numbers is not None:
                one["track"] = outputs.numbers[row]
            objects.append(one)
        return {"objects": objects}

    def maps(self, outputs: FoundObjects) -> dict[str, torch.Tensor]:
        return {}

    def over_time(self, smooth: float, track: bool) -> Callable[[FoundObjects], FoundObjects]:
        if smooth:
            raise SettingsError("--smooth: boxes are not smoothed but tracked, with --track; segmentors smooth")
        tracker, least = Tracker(), self.settings.evaluation.drawn_score

        def follow(outputs: FoundObjects) -> FoundObjects:
            outputs = outputs.above(least)
            return replace(outputs, numbers=tracker(outputs.boxes, outputs.labels)) if track else outputs

        return follow

    def evaluation_of(self, gathered: Gathered) -> DetectionEvaluation:
        items = list(self.val_items)
        return DetectionEvaluation(
            gathered=gathered,
            ground_truth=self.val_items.ground_truth(),
            class_names=self.class_names,
            items=[(str(item.id), item.path) for item in items],
            image_ids=[item.id for item in items],
            sizes=[item.size for item in items],
            max_non_finite=self.settings.evaluation.max_non_finite,
        )

    @property
    def protocol(self) -> str:
        return f"whole{self.list_suffix}"


def shapes_of(batch: Batch) -> list[ImageShape]:
    """The position of each image of a batch in the padded network input, and its size in the file."""
    rows = zip(batch["images"], batch["scale"].tolist(), batch["original"].tolist(), strict=True)
    return [ImageShape(tuple(image.shape[1:]), tuple(scale), tuple(original)) for image, scale, original in rows]


def _as_logged(name: str) -> str:
    """The name of a head's loss in the log, where names of losses begin with `loss_`: s0.loss_cls -> loss_cls_s0."""
    stage, _, own = name.rpartition(".")
    return f"{own}_{stage}" if stage else own
