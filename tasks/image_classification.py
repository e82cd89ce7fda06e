"""Image classification: one class each, trained as the recipes of EurNet, HorNet, GLNet and EAT on ImageNet say.

Their common protocol: one centre crop, 224 of the 256 pixels of the resized image's shorter side.
"""

from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from datasets.files import FileList
from datasets.image_shapes import ImageShapesSettings, make_image_shapes
from datasets.images import (
    EraseSettings,
    EvalImageView,
    EvalImageViewSettings,
    ImageViews,
    Pixels,
    PixelSettings,
    TrainImages,
    TrainImageView,
    TrainImageViewSettings,
    find_images,
    read_images,
)
from engine.loop import Batch, TrainSettings
from engine.optimizer import OptimizerSettings
from engine.ranks import Ranks
from engine.run import RunSettings
from engine.schedule import ScheduleSettings
from engine.settings import Settings, SettingsError
from models import takes_images
from tasks.classification import Classification, DataSettings, ModelSettings, check_pairs
from tasks.losses import LossSettings


class ImageDataSettings(DataSettings):
    """Which images, and what the network sees of them. Lists may also be ImageNet's own, see `read_images`."""

    make: ImageShapesSettings | None = Field(None, description="demo images to make in `root` if they are not there")
    train_view: TrainImageViewSettings = TrainImageViewSettings()
    val_view: EvalImageViewSettings = EvalImageViewSettings()
    pixels: PixelSettings = PixelSettings()
    erase: EraseSettings = EraseSettings()


class ImageEvaluationSettings(Settings):
    """How images are scored."""

    images_per_forward: int = Field(64, gt=0, description="images that pass through the network at once, per rank")


class ImageClassificationSettings(Settings):
    """A recipe of image classification."""

    task: Literal["image_classification"]
    model: ModelSettings
    data: ImageDataSettings
    loss: LossSettings = LossSettings()
    optimizer: OptimizerSettings
    schedule: ScheduleSettings = ScheduleSettings()
    train: TrainSettings
    evaluation: ImageEvaluationSettings = ImageEvaluationSettings()
    run: RunSettings = RunSettings()

    @model_validator(mode="after")
    def _mixing_takes_pairs(self):
        check_pairs(self)
        return self


class ImageClassification(Classification):
    """Implements `engine.loop.Task` for the recipe `settings`."""

    Settings = ImageClassificationSettings
    item, view = "image", "crop"
    advice = """\
  python tools/predict.py IMAGE             what the network sees in an image of yours
  python tools/evaluate.py                  the scores once more, with a report of every image"""
    find_files = staticmethod(find_images)

    def __init__(self, settings: ImageClassificationSettings, ranks: Ranks):
        super().__init__(settings, ranks)
        self._pixels: Pixels | None = None

    @property
    def pixels(self) -> Pixels:
        if self._pixels is None:
            data, train = self.settings.data, self.settings.train
            self._pixels = Pixels(
                data.pixels,
                data.erase,
                data.mix,
                self.num_classes,
                self.settings.loss.label_smoothing,
                torch.channels_last if train.channels_last else torch.contiguous_format,
            )
        return self._pixels

    def read_files(self, source: str, root: str | None, names: tuple | None, split: str | None) -> FileList:
        if split is not None:
            raise ValueError(f"split={split!r}, but only lists of videos have splits")
        return read_images(source, root, names)

    def make_demo(self, root: str, options: dict[str, Any]) -> None:
        make_image_shapes(root, **options)

    def build_model(self) -> nn.Module:
        name = self.settings.model.name
        model = super().build_model()
        if not takes_images(name):
            raise SettingsError(f"model.name: {name} is for clips; models.list_models() has the networks for images")
        return model

    def train_samples(self, stream: str) -> TrainImages:
        data = self.settings.data
        view = TrainImageView(data.train_view)
        return TrainImages(self.train_files, view, self.settings.run.seed, stream, data.repeats, self.train_weights)

    def training_input(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        return self.pixels.in_training(batch["image"], batch["label"])  # uint8 -> float [B, 3, S, S]

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
        return "centre"
