"""Detection of objects, boxes with a class and perhaps a mask, as in the COCO recipes of EurNet and HorNet.

Evaluation resizes the image with its aspect kept and finds at most 100 objects in it; boxes and masks are those of the
file. Scores are COCO's average precisions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import nn

from datasets.dense.coco import CocoImages, read_coco, with_objects
from datasets.dense.detection_samples import DetectionImages, DetectionSamples
from datasets.dense.views import DetectionView, DetectionViewSettings, EvalView, EvalViewSettings
from datasets.file_list import FileList
from dense.paste import paste_masks
from dense.structures import Detections, ImageShape, Targets
from detectors import create_detector
from engine.task import Batch, TaskSettings
from evaluators.detection import DetectionEvaluation, rows_of_images
from evaluators.gather import Gathered
from evaluators.resumable_predictions import Rows
from tasks.class_lists import read_setting
from tasks.scene_settings import SceneDataSettings, SceneEvaluationSettings, SceneModelSettings
from tasks.scenes import SceneTask

MASK_HEADS = ("mask_rcnn", "cascade_mask_rcnn")
"""Heads that learn masks, too, and then need them in the data."""


class DetectorSettings(SceneModelSettings):
    """The network: a backbone, a neck, and the heads of a detector."""

    head: str = Field("mask_rcnn", description="a name from detectors.HEADS: mask_rcnn, cascade_mask_rcnn, ...")
    neck: str = Field("fpn", description="a name from detectors.SPATIAL: fpn, horfpn_7x7 or horfpn_gf")


class DetectionDataSettings(SceneDataSettings):
    """Images with objects, in COCO's form."""

    train: str = Field(description="JSON file of the training images in COCO's form")
    root: str | None = Field(None, description="folder of the training images; none: that of the file")
    val: str = Field(description="JSON file of the validation images in COCO's form")
    val_root: str | None = Field(None, description="folder of the validation images; none: as for training")
    keep_empty: bool = Field(
        False, description="train on images without objects, too; the papers' recipes leave them out"
    )
    group_orientations: bool = Field(
        True, description="one orientation, landscape or portrait, per batch, so that little is padding"
    )
    train_view: DetectionViewSettings = DetectionViewSettings()
    val_view: EvalViewSettings = EvalViewSettings(short_side=800, max_long_side=1333)

    @field_validator("val_view")
    @classmethod
    def _is_one_view(cls, view: EvalViewSettings) -> EvalViewSettings:
        if len(view.scales) > 1 or view.flip:
            raise ValueError("a detector sees each image once: scales must be one factor, and flip false")
        return view


class DetectionSettings(TaskSettings):
    """A recipe of detection."""

    CHANGEABLE = ("evaluation",)

    task: Literal["detection"]
    model: DetectorSettings
    data: DetectionDataSettings
    evaluation: SceneEvaluationSettings = SceneEvaluationSettings()


@dataclass(frozen=True)
class EncodedDetections:
    """The objects found in one image, with masks as run lengths; what `evaluators.detection` takes."""

    boxes: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor
    rles: list[bytes] | None


class Detection(SceneTask):
    """Trains and evaluates a network that finds objects."""

    Settings = DetectionSettings
    curves: ClassVar[Mapping[str, str]] = {"loss": "loss", "box_ap": "average precision of boxes"}
    advice = """\
  ./run_local.sh tools/predict.py IMAGE     the objects in your own images
  ./run_local.sh tools/evaluate.py          the scores once more, with a report on every image"""

    @property
    def has_masks(self) -> bool:
        model = self.settings.model
        return model.head in MASK_HEADS and model.head_options.get("mask_convs", 0) is not None

    @cached_property
    def train_items(self) -> CocoImages:
        data = self.settings.data
        items = self._read("train", data.train, data.root, self.named_classes)
        return items if data.keep_empty else read_setting("data.train", with_objects, items)

    @cached_property
    def val_items(self) -> CocoImages:
        data = self.settings.data
        return self._read("val", data.val, data.val_root or data.root, self.class_names)

    def _read(self, split: str, source: str, root: str | None, names: Sequence[str] | None) -> CocoImages:
        self.make_demo()
        return read_setting(f"data.{split}", read_coco, source, root, names, self.has_masks)

    def create_network(self, num_classes: int) -> nn.Module:
        model = self.settings.model
        return create_detector(model.backbone, num_classes, model.head, model.neck, model.head_options, **model.options)

    def train_samples(self, stream: str) -> DetectionSamples:
        data, run = self.settings.data, self.settings.run
        group_size = self.settings.train.batch_size if data.group_orientations else None
        return DetectionSamples(self.train_items, DetectionView(data.train_view), run.seed, group_size, stream)

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

    def detect(self, model: nn.Module, batch: Batch) -> list[Detections]:
        """The objects in the images of a batch, in pixels of the files."""
        return model(self.network_input(batch["images"]), shapes_of(batch))

    def rows_maker(self, model: nn.Module) -> Callable[[Batch], Rows]:
        def rows_of(batch: Batch) -> Rows:
            found = self.detect(model, batch)
            originals = batch["original"].tolist()
            encoded = [encode(one, tuple(size)) for one, size in zip(found, originals, strict=True)]
            finite = np.array([bool(one.is_finite) for one in found])
            return rows_of_images(batch["index"], encoded) | {"finite": finite}

        return rows_of

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
        return "whole"


def shapes_of(batch: Batch) -> list[ImageShape]:
    """Where each image of a batch lies in the padded network input, and how large it is in its file."""
    rows = zip(batch["images"], batch["scale"].tolist(), batch["original"].tolist(), strict=True)
    return [ImageShape(tuple(image.shape[1:]), tuple(scale), tuple(original)) for image, scale, original in rows]


def encode(found: Detections, size: tuple[int, int]) -> EncodedDetections:
    """Detections in an image of `size` (H, W) with their masks pasted and run-length encoded."""
    rles = None
    if found.masks is not None:
        from pycocotools import mask as coco_mask

        masks = paste_masks(found.masks, found.boxes, size).cpu().numpy().astype(np.uint8)
        rles = [coco_mask.encode(np.asfortranarray(mask))["counts"] for mask in masks]
    return EncodedDetections(found.boxes, found.scores, found.labels, rles)


def _as_logged(name: str) -> str:
    """The name of a head's loss in the log, where names of losses begin with `loss_`: s0.loss_cls -> loss_cls_s0."""
    stage, _, own = name.rpartition(".")
    return f"{own}_{stage}" if stage else own
