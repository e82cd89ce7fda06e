"""What a network sees of decoded frames: a random view in training, the centre or several crops in evaluation.

Paper: Graph-Based Global Reasoning Networks, https://arxiv.org/abs/1811.12814
Code:  https://github.com/facebookresearch/GloRe, data/image_transforms.py

Sizes, positions and the order of the random draws are the authors'. Different here: what is drawn is kept apart from
what is done with it; frames stay uint8 in memory; color work and normalization wait for the device (see `color.py`).
"""

from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from datasets.video.color import ColorSettings, draw_colors
from datasets.video.resize import View, resize_exact, resize_fast


class TrainViewSettings(BaseModel):
    """Random scale and aspect, random crop, random flip."""

    model_config = ConfigDict(extra="forbid")

    short_side: tuple[PositiveFloat, PositiveFloat] = Field(
        (224, 340), description="range that the shorter side of the resized frame is drawn from, in pixels"
    )
    aspect: tuple[PositiveFloat, PositiveFloat] = Field(
        (0.8, 1.25),
        description="range that a factor is drawn from, twice; width is multiplied and height divided by the mean, or "
        "by its inverse, so width / height changes by the square: 0.64 to 1.56",
    )
    crop: PositiveInt = Field(224, description="side of the random square that is kept, in pixels")
    flip: bool = Field(True, description="mirror every other clip; off for classes that tell left from right")

    @model_validator(mode="after")
    def _check(self) -> "TrainViewSettings":
        for name in ("short_side", "aspect"):
            lowest, highest = getattr(self, name)
            if lowest > highest:
                raise ValueError(f"{name} is ({lowest:g}, {highest:g}); expected the lower end first")
        if self.short_side[0] < self.crop:
            raise ValueError(f"crop is {self.crop} pixels, more than the least short_side, {self.short_side[0]:g}")
        return self


class EvalViewSettings(BaseModel):
    """Resize, then crop; a fixed view."""

    model_config = ConfigDict(extra="forbid")

    short_side: PositiveInt = Field(256, description="shorter side of the resized frame, in pixels")
    crop: PositiveInt = Field(224, description="side of the square that is kept, in pixels")

    @model_validator(mode="after")
    def _check(self) -> "EvalViewSettings":
        if self.short_side < self.crop:
            raise ValueError(f"crop is {self.crop} pixels, more than short_side, {self.short_side}")
        return self


class TrainView:
    """Draws a view and colors for a clip and takes the view; the colors are left to `ColorTransform`."""

    def __init__(self, settings: TrainViewSettings, colors: ColorSettings):
        self.settings, self.colors = settings, colors

    def __call__(self, frames: torch.Tensor, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, Any]]:
        """uint8 [T, H, W, 3] -> uint8 [3, T, crop, crop], and what `draw_colors` drew for this clip."""
        view, flip = draw_view(rng, *frames.shape[1:3], self.settings)
        clip = resize_fast(frames, view)
        return clip.flip(-1) if flip else clip, draw_colors(rng, self.colors)


class EvalView:
    """Resizes the short side and takes `num_crops` squares along the long side: the centre, or from end to end."""

    def __init__(self, settings: EvalViewSettings, num_crops: int = 1):
        if num_crops < 1:
            raise ValueError(f"num_crops is {num_crops}; expected at least 1")
        self.settings, self.num_crops = settings, num_crops

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        """uint8 [T, H, W, 3] -> uint8 [num_crops, 3, T, crop, crop], from left to right or from top to bottom."""
        views = even_views(*frames.shape[1:3], self.settings, self.num_crops)
        first, last = views[0], views[-1]
        hull = first._replace(  # crops overlap, so what any of them needs is computed once
            num_rows=last.top + last.num_rows - first.top, num_columns=last.left + last.num_columns - first.left
        )
        resized = resize_exact(frames, hull)  # [3, T, num_rows, num_columns]
        corners = [(view.top - first.top, view.left - first.left) for view in views]
        size = self.settings.crop
        return torch.stack([resized[:, :, top : top + size, left : left + size] for top, left in corners])


def draw_view(
    rng: np.random.Generator | np.random.RandomState, height: int, width: int, settings: TrainViewSettings
) -> tuple[View, bool]:
    """A random view of height x width frames, and whether it is to be mirrored. Seven draws, six without flip."""
    aspect = 0.5 * (rng.uniform(*settings.aspect) + rng.uniform(*settings.aspect))
    if rng.random() > 0.5:
        aspect = 1.0 / aspect
    new_width, new_height = width * aspect, height / aspect
    scale = rng.uniform(*settings.short_side) / min(new_width, new_height)
    new_width, new_height = int(new_width * scale + 1), int(new_height * scale + 1)
    left = int(rng.choice(new_width - settings.crop + 1))
    top = int(rng.choice(new_height - settings.crop + 1))
    flip = settings.flip and bool(rng.random() < 0.5)
    return View(new_height, new_width, top, left, settings.crop, settings.crop), flip


def even_views(height: int, width: int, settings: EvalViewSettings, num_crops: int = 1) -> list[View]:
    """Views of height x width frames: one in the middle, or several from one end of the long side to the other.

    The long side is truncated to whole pixels and offsets are rounded half to even, which is what the authors do.
    """
    short = min(height, width)
    new_height, new_width = int(settings.short_side * height / short), int(settings.short_side * width / short)
    spare_rows, spare_columns = new_height - settings.crop, new_width - settings.crop
    views = []
    for k in range(num_crops):
        share = k / (num_crops - 1) if num_crops > 1 else 0.5
        top = round(spare_rows * (share if height > width else 0.5))
        left = round(spare_columns * (0.5 if height > width else share))
        views.append(View(new_height, new_width, top, left, settings.crop, settings.crop))
    return views
