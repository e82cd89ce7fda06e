"""The network's view of decoded frames: random in training, the center or several crops in evaluation.

Paper: Graph-Based Global Reasoning Networks, https://arxiv.org/abs/1811.12814
Code:  https://github.com/facebookresearch/GloRe, data/image_transforms.py

Sizes, positions and the order of the random draws are the authors'. Differences: drawing is separate from
transforming; frames stay uint8 in memory; color jitter and normalization happen on the device (see `color.py`).
"""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from pydantic import Field, model_validator

from datasets.seeding import seeded_by
from datasets.video.color import ColorSettings, draw_colors
from datasets.video.resize import View, resize_exact, resize_fast
from settings import Settings

Share = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[int, Field(gt=0, le=10_000)]  # in pixels
Length = Annotated[float, Field(gt=0, le=10_000)]  # in pixels
Factor = Annotated[float, Field(ge=0.01, le=100)]


class TrainViewSettings(Settings):
    """Random scale and aspect, random crop, random flip."""

    short_side: tuple[Length, Length] = Field(
        (224, 340), description="range of the resized frame's shorter side, in pixels"
    )
    aspect: tuple[Factor, Factor] = Field(
        (0.8, 1.25),
        description="range of a factor, the mean of two draws; the factor or its inverse multiplies the width and "
        "divides the height, so width / height changes by its square: 0.64 to 1.56",
    )
    crop: Side = Field(224, description="side of the random square crop, in pixels")
    flip: bool = Field(True, description="mirror half of the clips; turn off if classes distinguish left from right")
    direct: bool = Field(
        False,
        description="crop and scale decoded frames before conversion to RGB: faster; views are the same within half a "
        "pixel, pixel values are not; off: resize as the authors do",
    )
    rand_augment: tuple[Annotated[int, Field(gt=0, le=100)], Annotated[int, Field(ge=0, le=30)]] | None = Field(
        None, description="RandAugment: number of operations, and their magnitude from 0 to 30; the same for all frames"
    )
    jitter: tuple[Share, Share, Share, Annotated[float, Field(ge=0, le=0.5)]] | None = Field(
        None,
        description="largest change of brightness, contrast, saturation (fractions of 1) and hue (fraction of the "
        "circle), drawn per clip by torchvision's ColorJitter; in addition to color.hls, which does nearly the same",
    )

    @model_validator(mode="after")
    def _check(self) -> "TrainViewSettings":
        for name in ("short_side", "aspect"):
            lowest, highest = getattr(self, name)
            if lowest > highest:
                raise ValueError(f"{name} is ({lowest:g}, {highest:g}); expected the lower end first")
        if self.short_side[0] < self.crop:
            raise ValueError(f"crop is {self.crop} pixels, more than the smallest short_side, {self.short_side[0]:g}")
        return self


class EvalViewSettings(Settings):
    """Resize, then crop; a fixed view."""

    short_side: Side = Field(256, description="shorter side of the resized frame, in pixels")
    crop: Side = Field(224, description="side of the square crop, in pixels")

    @model_validator(mode="after")
    def _check(self) -> "EvalViewSettings":
        if self.short_side < self.crop:
            raise ValueError(f"crop is {self.crop} pixels, more than short_side, {self.short_side}")
        return self


class DrawnView(NamedTuple):
    """Everything random about a training clip except its frame numbers."""

    view: View
    flip: bool
    colors: dict[str, Any]  # see `draw_colors`
    seed: int | None  # of the torchvision operations, if there are any


class TrainView:
    """Draws a view and colors for a clip and applies the view; `ColorTransform` applies the colors."""

    def __init__(self, settings: TrainViewSettings, colors: ColorSettings):
        self.settings, self.colors = settings, colors
        self.operations = _operations(settings)

    def __call__(self, frames: torch.Tensor, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, Any]]:
        """uint8 [T, H, W, 3] -> uint8 [3, T, crop, crop], and what `draw_colors` drew for this clip."""
        drawn = self.draw(*frames.shape[1:3], rng)
        return self.finish(resize_fast(frames, drawn.view), drawn), drawn.colors

    def draw(self, height: int, width: int, rng: np.random.Generator) -> DrawnView:
        """Draws what to do with a clip of height x width frames."""
        view, flip = draw_view(rng, height, width, self.settings)
        colors = draw_colors(rng, self.colors)
        return DrawnView(view, flip, colors, int(rng.integers(2**32)) if self.operations else None)

    def finish(self, clip: torch.Tensor, drawn: DrawnView) -> torch.Tensor:
        """Flips and augments the resized and cropped clip, uint8 [3, T, crop, crop]."""
        if drawn.flip:
            clip = clip.flip(-1)
        if drawn.seed is not None:
            frames = clip.transpose(0, 1).contiguous()  # [T, 3, crop, crop], one video to torchvision
            with seeded_by(np.random.default_rng(drawn.seed)):
                for operation in self.operations:
                    frames = operation(frames)
            clip = frames.transpose(0, 1).contiguous()
        return clip


def _operations(settings: TrainViewSettings) -> list[Callable[[torch.Tensor], torch.Tensor]]:
    if settings.rand_augment is None and settings.jitter is None:
        return []
    from torchvision.transforms import v2  # takes a second to import; only recipes that use it pay for it

    operations = []
    if settings.rand_augment is not None:
        operations.append(v2.RandAugment(*settings.rand_augment, fill=128))
    if settings.jitter is not None:
        operations.append(v2.ColorJitter(*settings.jitter))
    return operations


class EvalView:
    """Resizes the short side and takes `num_crops` squares along the long side: the center, or from end to end."""

    def __init__(self, settings: EvalViewSettings, num_crops: int = 1):
        if num_crops < 1:
            raise ValueError(f"num_crops is {num_crops}; expected at least 1")
        self.settings, self.num_crops = settings, num_crops

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        """uint8 [T, H, W, 3] -> uint8 [num_crops, 3, T, crop, crop], from left to right or from top to bottom."""
        views = even_views(*frames.shape[1:3], self.settings, self.num_crops)
        first, last = views[0], views[-1]
        hull = first._replace(
            num_rows=last.top + last.num_rows - first.top, num_columns=last.left + last.num_columns - first.left
        )
        size = self.settings.crop
        if hull.num_rows * hull.num_columns > self.num_crops * size**2:  # of a very long frame
            return torch.stack([resize_exact(frames, view) for view in views])
        resized = resize_exact(frames, hull)  # [3, T, num_rows, num_columns]; crops overlap, so it is done once
        corners = [(view.top - first.top, view.left - first.left) for view in views]
        return torch.stack([resized[:, :, top : top + size, left : left + size] for top, left in corners])


def draw_view(
    rng: np.random.Generator | np.random.RandomState, height: int, width: int, settings: TrainViewSettings
) -> tuple[View, bool]:
    """A random view of height x width frames, and whether to mirror it. Seven draws, six without flip."""
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
    """Views of height x width frames: the center one, or several from one end of the long side to the other.

    As the authors do, the long side is truncated to whole pixels and offsets are rounded half to even.
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
