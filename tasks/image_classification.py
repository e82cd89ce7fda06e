"""Image classification, one class per image, as in the ImageNet recipes of EurNet, HorNet, GLNet and EAT.

Evaluation uses one centre crop: resize the shorter side to 256 pixels, crop 224 x 224.
"""

import logging
from functools import cached_property
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from backbones import TokenLabelGLNet, TokenLabeling
from backbones.library_network import LibraryInput
from datasets.file_list import FileList
from datasets.images import (
    EraseSettings,
    EvalImageView,
    EvalImageViewSettings,
    ImageViews,
    Pixels,
    PixelSettings,
    TokenLabelImages,
    TokenLabelSettings,
    TokenLabelView,
    TrainImages,
    TrainImageView,
    TrainImageViewSettings,
    find_images,
    read_images,
    token_targets,
)
from datasets.synthetic.image_shapes import ImageShapesSettings, make_image_shapes
from engine.task import Batch, TaskSettings
from models import takes_images
from settings import SettingsError
from tasks.class_lists import read_setting
from tasks.classification import Classification
from tasks.classification_settings import DataSettings, EvaluationSettings, ModelSettings, check_pairs
from tasks.distillation import distillation_loss, load_teacher
from tasks.library_input import fill_library_input
from tasks.losses import ImageLossSettings, class_probabilities, cross_entropy, token_labeling_loss
from tasks.network_check import run_copy_on_meta

log = logging.getLogger(__name__)


class ImageDataSettings(DataSettings):
    """Images and views. Lists may also be in ImageNet's own formats; see `read_images`."""

    make: ImageShapesSettings | None = Field(None, description="demo images to make in `root` if they do not exist")
    train_view: TrainImageViewSettings = TrainImageViewSettings()
    val_view: EvalImageViewSettings = EvalImageViewSettings()
    pixels: PixelSettings = PixelSettings()
    erase: EraseSettings = EraseSettings()
    token_labels: TokenLabelSettings | None = Field(None, description="label maps of the training images")


class ImageEvaluationSettings(EvaluationSettings):
    """How images are evaluated."""

    images_per_forward: int = Field(64, gt=0, le=2**20, description="images per forward pass, per rank")


def _input_of_library(known: LibraryInput) -> dict[str, Any]:
    """The settings that correspond to a library's description of its network's input."""
    size = known.shape[-1]
    return {
        "train_view.size": size,
        "val_view.size": size,
        "val_view.crop_fraction": known.crop_fraction,
        "pixels.mean": known.mean,
        "pixels.std": known.std,
    }


class ImageClassificationSettings(TaskSettings):
    """A recipe of image classification.

    For a network of timm or torchvision, input settings that the recipe leaves open come from the library.
    """

    CHANGEABLE = ("evaluation",)

    task: Literal["image_classification"]
    model: ModelSettings
    data: ImageDataSettings
    loss: ImageLossSettings = ImageLossSettings()
    evaluation: ImageEvaluationSettings = ImageEvaluationSettings()

    @model_validator(mode="before")
    @classmethod
    def _fits_the_library(cls, recipe: Any) -> Any:
        return fill_library_input(recipe, _input_of_library)

    @model_validator(mode="after")
    def _mixing_takes_pairs(self):
        check_pairs(self)
        if self.data.mix.is_on and self.data.token_labels:
            raise ValueError(
                "data.mix does not work with data.token_labels; networks for token labels mix images themselves"
            )
        return self


class ImageClassification(Classification):
    """Trains and evaluates a network on images."""

    Settings = ImageClassificationSettings
    item, view = "image", "crop"
    advice = """\
  ./run_local.sh tools/predict.py IMAGE     predictions for your own images
  ./run_local.sh tools/evaluate.py          the scores once more, with a report on every image"""
    find_inputs = staticmethod(find_images)

    @cached_property
    def pixels(self) -> Pixels:
        data, train = self.settings.data, self.settings.train
        return Pixels(
            data.pixels,
            data.erase,
            data.mix,
            self.num_classes,
            self.settings.loss.label_smoothing,
            torch.channels_last if train.channels_last else torch.contiguous_format,
        )

    @cached_property
    def teacher(self) -> nn.Module | None:
        """The teacher for distillation; None if the recipe has none."""
        settings = self.settings.loss.distillation
        return settings and load_teacher(settings, self.num_classes, self.ranks.device)

    def read_files(self, source: str, root: str | None, names: tuple | None, split: str | None) -> FileList:
        if split is not None:
            raise ValueError(f"split={split!r}, but only video lists have splits")
        return read_images(source, root, names)

    def make_demo(self, root: str, options: dict[str, Any]) -> None:
        make_image_shapes(root, **options)

    def check(self) -> None:
        super().check()
        if self.teacher is not None:
            name, size = self.settings.loss.distillation.teacher, self.settings.data.train_view.size
            log.info("teacher: %s", name)
            run_copy_on_meta(
                f"loss.distillation.teacher: {name} at data.train_view.size", self.teacher, (1, 3, size, size)
            )

    def check_model(self, model: nn.Module) -> None:
        if getattr(model, "distilled", False) and self.settings.loss.distillation is None:
            raise SettingsError(
                f"{self.settings.model.name} has a second head, which only a teacher trains: set "
                "loss.distillation.teacher, or use the network without that head, such as eat_tiny"
            )

    def training_shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        size = self.settings.data.train_view.size
        return [("data.train_view.size", (3, size, size))]

    def validation_shape(self) -> tuple[str, tuple[int, ...]]:
        size = self.settings.data.val_view.size
        return "data.val_view.size", (3, size, size)

    def check_outputs(self, shape: tuple[int, ...], outputs: Any) -> None:
        labels = self.settings.data.token_labels
        if labels and isinstance(outputs, TokenLabeling) and outputs.token_logits.shape[1] != labels.grid**2:
            num_cells = outputs.token_logits.shape[1]
            raise SettingsError(
                f"data.token_labels.grid={labels.grid} is {labels.grid**2} cells, but for images of {shape[-1]} x "
                f"{shape[-1]} pixels the network has {num_cells}"
            )

    def build_model(self) -> nn.Module:
        name = self.settings.model.name
        model = super().build_model()
        if not takes_images(name):
            raise SettingsError(f"model.name: {name} is for clips; models.list_models() lists the image networks")
        loss = self.settings.loss
        if loss.distillation and not getattr(model, "distilled", False):
            raise SettingsError(f"loss.distillation: {name} has no distillation head; use eat_tiny_dist, for example")
        if loss.token_weight != ImageLossSettings().token_weight and not isinstance(model, TokenLabelGLNet):
            raise SettingsError(f"loss.token_weight: {name} has no token-label head; use glnet_4g_tklb, for example")
        return model

    def train_samples(self, stream: str) -> TrainImages | TokenLabelImages:
        data, seed = self.settings.data, self.settings.run.seed
        options = (seed, stream, data.repeats, self.train_weights)
        if data.token_labels:
            view = read_setting("data.train_view", TokenLabelView, data.train_view)
            return TokenLabelImages(self.train_files, data.token_labels, view, self.num_classes, *options)
        view = read_setting("data.train_view", TrainImageView, data.train_view)
        return TrainImages(self.train_files, view, *options)

    def training_input(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        return self.pixels.in_training(batch["image"], batch["label"])  # uint8 -> float [B, 3, S, S]

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        settings, labels = self.settings.loss, batch["label"]
        images, target = self.training_input(batch)
        cell_targets = None
        if "label_map" in batch:
            grid = self.settings.data.token_labels.grid
            options = (self.num_classes, grid, settings.label_smoothing)
            target, cell_targets = token_targets(batch["label_map"], batch["crop"], *options)
        outputs = model(images)
        if isinstance(outputs, TokenLabeling):
            image_targets = class_probabilities(target, self.num_classes, settings.label_smoothing)
            loss = token_labeling_loss(outputs, image_targets, cell_targets, settings.token_weight)
            return loss, {"loss": loss * len(labels)}
        # A distilled network also returns the logits of its distillation head.
        logits, *distilled = (part.float() for part in (outputs if isinstance(outputs, tuple) else (outputs,)))
        loss = cross_entropy(logits, target, settings.label_smoothing)
        if self.teacher is not None:
            with torch.no_grad():
                teacher_logits = self.teacher(images).float()
            loss = distillation_loss(loss, *distilled, teacher_logits, settings.distillation)
        return loss, self.training_sums(loss, logits, labels)

    def overrides_for_input(self, shape: tuple[int, ...]) -> list[str]:
        views = (("train_view", self.settings.data.train_view), ("val_view", self.settings.data.val_view))
        return [f"data.{key}.size={shape[-1]}" for key, view in views if view.size != shape[-1]]

    def eval_views(self, files: FileList) -> ImageViews:
        return ImageViews(files, EvalImageView(self.settings.data.val_view))

    def network_input(self, views: torch.Tensor) -> torch.Tensor:
        return self.pixels(views)  # uint8 [B, 3, S, S] -> float, normalized

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self.settings.data.pixels.mean, self.settings.data.pixels.std

    @property
    def views_per_forward(self) -> int:
        return self.settings.evaluation.images_per_forward

    @property
    def protocol(self) -> str:
        return f"centre{self.list_suffix}"
