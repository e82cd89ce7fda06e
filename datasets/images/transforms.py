"""What a network sees of an image: a random view in training, the centre in evaluation; uint8, as decoded.

Training is timm's pipeline, with which the recipes of EurNet, HorNet, GLNet and EAT were made: random resized crop,
flip, RandAugment (arXiv 1909.13719) or color jitter. Its operations draw from the global generators of Python, NumPy
and torch: they are seeded for each sample and put back afterwards.
"""

import numpy as np
import torch
from PIL import Image
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from datasets.seeding import seeded_by
from settings import Settings


class TrainImageViewSettings(Settings):
    """Random crop of random scale and aspect, random flip, random changes of color and shape."""

    size: PositiveInt = Field(224, description="side of the square that the network sees, in pixels")
    scale: tuple[PositiveFloat, PositiveFloat] = Field((0.08, 1), description="range of the crop's share of the area")
    aspect: tuple[PositiveFloat, PositiveFloat] = Field((3 / 4, 4 / 3), description="range of its width over height")
    flip: float = Field(0.5, ge=0, le=1, description="share of images that are mirrored")
    auto_augment: str | None = Field(
        None, description="timm's name of a policy, such as rand-m9-mstd0.5-inc1; it replaces the color jitter"
    )
    color_jitter: float = Field(0.4, ge=0, description="range of brightness, contrast and saturation, without a policy")
    interpolation: str = Field(
        "bicubic", pattern="^(bilinear|bicubic|random)$", description="bilinear, bicubic, random"
    )

    @model_validator(mode="after")
    def _check(self) -> "TrainImageViewSettings":
        for name in ("scale", "aspect"):
            lowest, highest = getattr(self, name)
            if lowest > highest:
                raise ValueError(f"{name} is ({lowest:g}, {highest:g}); expected the lower end first")
        return self


class EvalImageViewSettings(Settings):
    """Resize, then crop the centre; a fixed view."""

    size: PositiveInt = Field(224, description="side of the square that the network sees, in pixels")
    crop_fraction: float | None = Field(
        0.875,
        gt=0,
        le=1,
        description="that side over the resized image's shorter one; none: all of it, squeezed square",
    )


class TrainImageView:
    """Takes a random view of an image: PIL RGB and a generator to uint8 [3, size, size]."""

    def __init__(self, settings: TrainImageViewSettings):
        from timm.data import create_transform  # takes seconds to import, which only image recipes should pay

        self.transform = create_transform(
            settings.size,
            is_training=True,
            use_prefetcher=True,  # leaves normalization and erasing to the device
            scale=settings.scale,
            ratio=settings.aspect,
            hflip=settings.flip,
            color_jitter=settings.color_jitter or None,
            auto_augment=settings.auto_augment,
            interpolation=settings.interpolation,
        )

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> torch.Tensor:
        with seeded_by(rng):
            return torch.as_tensor(np.asarray(self.transform(image)))


class EvalImageView:
    """Takes the view of an evaluation: PIL RGB to uint8 [3, size, size], as torchvision's Resize and CenterCrop do."""

    def __init__(self, settings: EvalImageViewSettings):
        self.settings = settings

    def __call__(self, image: Image.Image) -> torch.Tensor:
        size, fraction = self.settings.size, self.settings.crop_fraction
        if fraction is None:
            image = F.resize(image, [size, size], InterpolationMode.BICUBIC)
        else:
            image = F.center_crop(F.resize(image, [int(size / fraction)], InterpolationMode.BICUBIC), [size, size])
        return F.pil_to_tensor(image)
