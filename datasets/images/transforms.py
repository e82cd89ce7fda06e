"""The network's view of an image: random in training, the center in evaluation; uint8, as decoded.

Training uses timm's pipeline, as in the recipes of EurNet, HorNet, GLNet and EAT: random resized crop,
flip, RandAugment (arXiv 1909.13719) or color jitter. Its operations draw from the global generators of Python, NumPy
and torch, which are seeded for each sample and restored afterwards.

Evaluation uses `torchvision.transforms.v2`, so that boxes and masks (tv_tensors) follow their image. Both libraries
take seconds to import: only the views import them.
"""

import re
from typing import Annotated, Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field, field_validator, model_validator

from datasets.seeding import seeded_by
from settings import Settings

Side = Annotated[int, Field(gt=0, le=10_000)]  # in pixels
Share = Annotated[float, Field(gt=0, le=1)]
Ratio = Annotated[float, Field(ge=0.01, le=100)]

POLICIES = (
    r"rand(-(m|n|mmax)\d{1,2}|-inc[01]|-(mstd|p)\d+(\.\d+)?|-t(weights|3aw|3a|default))*",
    r"(original|originalr|v0|v0r|3a)(-mstd\d+(\.\d+)?)?",
    r"augmix(-(m|d)\d{1,2}|-w[1-9]|-b[01]|-mstd\d+(\.\d+)?|-a[1-9]\d*(\.\d+)?)*",
)
"""What timm reads, without the words that it silently ignores, such as `-minf`."""
MAX_ASPECT = 16
"""If the longer side is more than this many times the shorter one, evaluation resizes only the middle of an image."""


class TrainImageViewSettings(Settings):
    """Random crop of random scale and aspect, random flip, random changes of color and shape."""

    size: Side = Field(224, description="side of the network's square input, in pixels")
    scale: tuple[Share, Share] = Field((0.08, 1), description="range of the crop's area, as a fraction of the image's")
    aspect: tuple[Ratio, Ratio] = Field((3 / 4, 4 / 3), description="range of the crop's width / height")
    flip: float = Field(0.5, ge=0, le=1, description="fraction of images that are mirrored, from 0 to 1")
    auto_augment: str | None = Field(
        None, description="timm's name of a policy, such as rand-m9-mstd0.5-inc1; replaces the color jitter"
    )
    color_jitter: float = Field(
        0.4, ge=0, le=10, description="largest change of brightness, contrast and saturation, as a fraction of 1"
    )
    interpolation: str = Field(
        "bicubic", pattern="^(bilinear|bicubic|random)$", description="bilinear, bicubic, or random: either"
    )

    @field_validator("auto_augment")
    @classmethod
    def _is_a_policy(cls, name: str | None) -> str | None:
        if name is not None and not any(re.fullmatch(pattern, name) for pattern in POLICIES):
            raise ValueError(
                f"timm has no policy {name!r}; expected rand-m9-mstd0.5-inc1 (sections m, n, p, mstd, mmax, inc, t), "
                "original, originalr, v0, v0r or 3a (section mstd), or augmix-m5-w4-d2 (sections m, w, d, b, a, mstd)"
            )
        return name

    @model_validator(mode="after")
    def _check(self) -> "TrainImageViewSettings":
        for name in ("scale", "aspect"):
            lowest, highest = getattr(self, name)
            if lowest > highest:
                raise ValueError(f"{name} is ({lowest:g}, {highest:g}); expected the lower end first")
        return self


class EvalImageViewSettings(Settings):
    """Resize, then crop the center; a fixed view."""

    size: Side = Field(224, description="side of the network's square input, in pixels")
    crop_fraction: float | None = Field(
        0.875,
        ge=0.1,
        le=1,
        description="size over the resized image's shorter side; null: the whole image, squeezed to a square",
    )


class TrainImageView:
    """Takes a random view of an image: PIL RGB and a generator -> uint8 [3, size, size]."""

    def __init__(self, settings: TrainImageViewSettings):
        from timm.data import create_transform

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
    """Takes the view for evaluation: PIL RGB -> tv_tensors.Image, uint8 [3, size, size]."""

    def __init__(self, settings: EvalImageViewSettings):
        from torchvision.transforms import v2

        size, fraction = settings.size, settings.crop_fraction
        resized = [size, size] if fraction is None else int(size / fraction)  # an int is the shorter side
        self.transform = v2.Compose(
            [v2.Resize(resized, v2.InterpolationMode.BICUBIC), v2.CenterCrop(size), v2.ToImage()]
        )
        self.squeezes = fraction is None

    def __call__(self, image: Image.Image, *targets: torch.Tensor) -> Any:
        """The view of an image, or with `targets` (boxes and masks as tv_tensors) a tuple of the view and theirs."""
        if not self.squeezes and max(image.size) > MAX_ASPECT * min(image.size):
            image, *targets = _crop_ends(image, *targets)
        return self.transform(image, *targets)


def _crop_ends(image: Image.Image, *targets: torch.Tensor) -> tuple[Any, ...]:
    """Crops the longer side to about `MAX_ASPECT` times the shorter one, around the center.

    The center crop does not show what is cut off, but resizing would take memory for it: 1 x 4000 pixels, resized to
    256 on the shorter side, become 256 x 1,024,000.
    """
    from torchvision.transforms.v2 import functional as F

    longest = MAX_ASPECT * min(image.size)
    # Both ends lose the same number of pixels, so that the center stays in place.
    width, height = (side if side <= longest else longest + (side - longest) % 2 for side in image.size)
    return tuple(F.center_crop(value, [height, width]) for value in (image, *targets))
