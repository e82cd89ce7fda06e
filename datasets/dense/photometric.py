"""Random changes of brightness, contrast, saturation and hue, with the order and ranges of SSD's training.

Paper: Liu et al., SSD: Single Shot MultiBox Detector, ECCV 2016, https://arxiv.org/abs/1512.02325; the recipes of
EurNet and HorNet for segmentation use mmsegmentation's version of it. Each of the four happens half of the time:

    brightness -> (half of the time: contrast) -> saturation -> hue -> (otherwise: contrast)

brightness adds to all channels; contrast multiplies them; saturation multiplies S of HSV; hue turns H of HSV.
Difference: colors are rounded to 8 bits once, at the end, not after every step.
"""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field, model_validator

from settings import Settings

Factor = Annotated[float, Field(ge=0, le=10)]


class PhotometricSettings(Settings):
    """Random changes of color; each of the four happens half of the time."""

    brightness: float = Field(32, ge=0, le=255, description="largest change of all channels, in levels of 255")
    contrast: tuple[Factor, Factor] = Field((0.5, 1.5), description="range of the factor of all channels")
    saturation: tuple[Factor, Factor] = Field((0.5, 1.5), description="range of the factor of HSV's saturation")
    hue: float = Field(18, ge=0, le=90, description="largest turn of HSV's hue, in units of two degrees as in OpenCV")

    @model_validator(mode="after")
    def _check(self) -> "PhotometricSettings":
        for name in ("contrast", "saturation"):
            lowest, highest = getattr(self, name)
            if lowest > highest:
                raise ValueError(f"{name} is ({lowest:g}, {highest:g}); expected the lower end first")
        return self


def distort(image: torch.Tensor, settings: PhotometricSettings, rng: np.random.Generator) -> torch.Tensor:
    """Changes the colors of an image: uint8 [3, h, w] -> uint8 [3, h, w]."""
    happens = rng.random(4) < 0.5  # brightness, contrast, saturation, hue
    contrast_first = rng.random() < 0.5
    brightness = rng.uniform(-settings.brightness, settings.brightness)
    contrast, saturation = rng.uniform(*settings.contrast), rng.uniform(*settings.saturation)
    turn = rng.uniform(-settings.hue, settings.hue) / 180  # of a full turn
    if not happens.any():
        return image
    colors = image.as_subclass(torch.Tensor).float() / 255
    if happens[0]:
        colors = (colors + brightness / 255).clamp(0, 1)
    if happens[1] and contrast_first:
        colors = (colors * contrast).clamp(0, 1)
    if happens[2]:
        colors = scale_saturation(colors, saturation)
    if happens[3]:
        colors = turn_hue(colors, turn)
    if happens[1] and not contrast_first:
        colors = (colors * contrast).clamp(0, 1)
    return (colors * 255).round().to(torch.uint8)


def scale_saturation(colors: torch.Tensor, factor: float) -> torch.Tensor:
    """Multiplies S of HSV, up to 1, with H and V kept: float [3, h, w] in 0 ... 1.

    With V = max and S = (V - min) / V, every channel c is V - (V - c) * k, where k = S' / S.
    """
    highest, lowest = colors.amax(0), colors.amin(0)
    largest = highest / (highest - lowest).clamp(min=1e-6)  # the factor that makes S 1
    return highest - (highest - colors) * largest.clamp(max=factor)


def turn_hue(colors: torch.Tensor, turn: float) -> torch.Tensor:
    """Turns H of HSV by a fraction of a full turn, -0.5 ... 0.5: float [3, h, w] in 0 ... 1."""
    from torchvision.transforms.v2 import functional as F

    return F.adjust_hue(colors, turn)
