"""Normalization, random erasing, mixup and cutmix of image batches, on the device.

Random Erasing, https://arxiv.org/abs/1708.04896, is timm's; it draws from Python's global generator, which the trainer
seeds by the position in the run. Mixing: see `datasets.mixing`.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field

from datasets.mixing import Mixer, MixSettings
from settings import Settings

Deviation = Annotated[float, Field(ge=1e-6)]


class PixelSettings(Settings):
    """Normalization of the pixels; the defaults are ImageNet's."""

    mean: tuple[float, float, float] = Field(
        (0.485, 0.456, 0.406), description="mean of red, green and blue, subtracted; as a fraction of 255"
    )
    std: tuple[Deviation, Deviation, Deviation] = Field(
        (0.229, 0.224, 0.225),
        description="standard deviation of red, green and blue, the divisor; as a fraction of 255",
    )


class EraseSettings(Settings):
    """Random erasing: rectangles of training images are overwritten."""

    probability: float = Field(0.0, ge=0, le=1, description="fraction of images with erased rectangles, from 0 to 1")
    mode: Literal["const", "rand", "pixel"] = Field(
        "pixel", description="const: zeros, rand: one random color, pixel: random pixels"
    )
    max_count: int = Field(1, gt=0, le=1000, description="largest number of rectangles per image")


class Pixels:
    """Turns uint8 images [B, 3, H, W] into the network's input: float32, normalized; in training erased and mixed.

    Args:
        normalization, erase, mix: settings.
        num_classes, label_smoothing: of the mixed labels.
        memory_format: of the result.
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
        """Normalizes, erases and mixes -> images, and labels [B] or, if mixed, class weights [B, num_classes]."""
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
