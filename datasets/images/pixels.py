"""What happens to images on the device, in the batch: normalization, random erasing, mixup and cutmix.

Random Erasing, https://arxiv.org/abs/1708.04896, is timm's; it draws from Python's global generator, which the training
loop seeds by the position in the run. Mixing: see `datasets.mixing`.
"""

from typing import Literal

import torch
from pydantic import Field

from datasets.mixing import Mixer, MixSettings
from settings import Settings


class PixelSettings(Settings):
    """Mean and standard deviation of the pixels, in shares of 255, for red, green and blue: ImageNet's."""

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


class EraseSettings(Settings):
    """Random erasing: rectangles of training images are overwritten."""

    probability: float = Field(0.0, ge=0, le=1, description="share of images with erased rectangles")
    mode: Literal["const", "rand", "pixel"] = Field("pixel", description="zeros, one random color, random pixels")
    max_count: int = Field(1, gt=0, description="most rectangles of an image")


class Pixels:
    """From uint8 images [B, 3, H, W] to what the network takes: float32, normalized; in training erased and mixed.

    Args:
        normalization, erase, mix: the settings.
        num_classes, label_smoothing: of the mixed labels.
        memory_format: layout of the result.
    """

    def __init__(
        self,
        normalization: PixelSettings,
        erase: EraseSettings,
        mix: MixSettings,
        num_classes: int,
        label_smoothing: float,
        memory_format: torch.memory_format = torch.contiguous_format,
    ):
        self.mean, self.std = (
            255 * torch.tensor(values)[:, None, None] for values in normalization.model_dump().values()
        )
        self.erase_settings, self.memory_format = erase, memory_format
        self.eraser = self.mixer = None
        if mix.is_on:
            self.mixer = Mixer(mix, num_classes, label_smoothing)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Normalizes: uint8 [B, 3, H, W] -> float32 [B, 3, H, W]."""
        mean, std = (value.to(images.device) for value in (self.mean, self.std))
        return ((images - mean) / std).contiguous(memory_format=self.memory_format)

    def in_training(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalizes, erases and mixes: also gives the labels [B], mixed as shares of each class [B, num_classes]."""
        images = self(images)
        settings = self.erase_settings
        if settings.probability:
            if self.eraser is None:
                from timm.data.random_erasing import RandomErasing

                options = {"mode": settings.mode, "max_count": settings.max_count, "device": images.device}
                self.eraser = RandomErasing(settings.probability, **options)
            images = self.eraser(images)
        if self.mixer is not None:
            images, labels = self.mixer(images, labels)
            images = images.contiguous(memory_format=self.memory_format)
        return images, labels
