"""The network's view of an image with boxes, masks or a label map: random in training, fixed in evaluation; uint8.

Detection trains on one of two views, as in DETR and then EurNet and HorNet: resized to a short side drawn from a list;
or resized to a smaller one, cropped, and then resized like the first. Segmentation resizes by a random factor, takes a
crop in which no class dominates, mirrors it and changes its colors.

A view is a function of the sample and a NumPy generator; nothing else is random.
"""

from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field, field_validator, model_validator

from datasets.dense.crops import absolute_range_crop, varied_crop
from datasets.dense.photometric import PhotometricSettings, distort
from datasets.dense.transforms import Sample, crop, drop_small, flip, keep_ratio_size, resize
from settings import Settings

Side = Annotated[int, Field(gt=0, le=20_000)]  # in pixels
Sides = Annotated[tuple[Side, ...], Field(min_length=1)]
Factor = Annotated[float, Field(ge=0.01, le=100)]

COCO_SHORT_SIDES = tuple(range(480, 801, 32))


def _lower_end_first(settings: Settings, *names: str) -> None:
    for name in names:
        lowest, highest = getattr(settings, name)
        if lowest > highest:
            raise ValueError(f"{name} is ({lowest:g}, {highest:g}); expected the lower end first")


class RangeCropSettings(Settings):
    """The second view of detection: resize, crop, then resize like the first."""

    probability: float = Field(0.5, ge=0, le=1, description="fraction of images that get this view, from 0 to 1")
    short_sides: Sides = Field((400, 500, 600), description="short sides before the crop in pixels; one is drawn")
    max_long_side: Side = Field(1333, description="limit of the longer side before the crop, in pixels")
    sides: tuple[Side, Side] = Field((384, 600), description="range of the crop's height and width, in pixels")

    @model_validator(mode="after")
    def _check(self) -> "RangeCropSettings":
        _lower_end_first(self, "sides")
        return self


class DetectionViewSettings(Settings):
    """Random view for detection: mirrored, perhaps cropped, resized keeping the aspect ratio."""

    flip: float = Field(0.5, ge=0, le=1, description="share of images that are mirrored, from 0 to 1")
    short_sides: Sides = Field(COCO_SHORT_SIDES, description="short sides in pixels; one is drawn for each image")
    max_long_side: Side = Field(1333, description="limit of the longer side, in pixels")
    scale_jitter: tuple[Factor, Factor] = Field(
        (1.0, 1.0), description="range of a random factor of both, for large scale jitter"
    )
    crop: RangeCropSettings | None = Field(RangeCropSettings(), description="the cropped view; null: never crop")
    min_box_side: float = Field(
        1.0, ge=0, le=1000, description="objects whose box becomes narrower or lower than this are left out, in pixels"
    )
    antialias: bool = Field(False, description="average pixels where an image shrinks; the papers' recipes do not")

    @model_validator(mode="after")
    def _check(self) -> "DetectionViewSettings":
        _lower_end_first(self, "scale_jitter")
        return self


class DetectionView:
    """Takes a random view for detection: a `Sample` and a generator -> a `Sample`, which may have no objects left."""

    def __init__(self, settings: DetectionViewSettings):
        self.settings = settings

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        settings = self.settings
        if rng.random() < settings.flip:
            sample = flip(sample)
        cropped = settings.crop
        if cropped is not None and rng.random() < cropped.probability:
            size = keep_ratio_size(sample.size, int(rng.choice(cropped.short_sides)), cropped.max_long_side)
            sample = resize(sample, size, settings.antialias)
            sample = crop(sample, *absolute_range_crop(sample.size, cropped.sides, rng))
        factor = rng.uniform(*settings.scale_jitter)
        short_side = int(rng.choice(settings.short_sides)) * factor
        size = keep_ratio_size(sample.size, short_side, settings.max_long_side * factor)
        return drop_small(resize(sample, size, settings.antialias), settings.min_box_side)


class SegmentationViewSettings(Settings):
    """Random view for segmentation: resized by a random factor, cropped, mirrored, with other colors."""

    short_side: Side = Field(512, description="short side at factor 1, in pixels")
    max_long_side: Side = Field(2048, description="limit of the longer side at factor 1, in pixels")
    scale: tuple[Factor, Factor] = Field((0.5, 2.0), description="range of the factor of both sides")
    crop: tuple[Side, Side] = Field(
        (512, 512), description="height and width of the crop, and of the batch, in pixels; smaller images are padded"
    )
    max_class_share: float = Field(
        0.75, gt=0, le=1, description="a crop is drawn again, up to ten times, if one class has a larger fraction"
    )
    flip: float = Field(0.5, ge=0, le=1, description="share of images that are mirrored, from 0 to 1")
    colors: PhotometricSettings | None = Field(PhotometricSettings(), description="random changes of color; null: none")
    antialias: bool = Field(False, description="average pixels where an image shrinks; the papers' recipes do not")

    @model_validator(mode="after")
    def _check(self) -> "SegmentationViewSettings":
        _lower_end_first(self, "scale")
        return self


class SegmentationView:
    """Takes a random view for segmentation: a `Sample` with a label map and a generator -> a `Sample`."""

    def __init__(self, settings: SegmentationViewSettings):
        self.settings = settings

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        from torchvision import tv_tensors

        settings = self.settings
        factor = rng.uniform(*settings.scale)
        size = keep_ratio_size(sample.size, settings.short_side * factor, settings.max_long_side * factor)
        sample = resize(sample, size, settings.antialias)
        sample = crop(sample, *varied_crop(sample.label_map.numpy(), settings.crop, settings.max_class_share, rng))
        if rng.random() < settings.flip:
            sample = flip(sample)
        if settings.colors is None:
            return sample
        return replace(sample, image=tv_tensors.Image(distort(sample.image, settings.colors, rng)))


class EvalViewSettings(Settings):
    """The fixed view of evaluation: resized keeping the aspect ratio; optionally several sizes and mirror images."""

    short_side: Side | None = Field(None, description="short side, in pixels; null: as max_long_side says")
    max_long_side: Side | None = Field(None, description="limit of the longer side, in pixels; null: none")
    scales: Annotated[tuple[Factor, ...], Field(min_length=1)] = Field(
        (1.0,), description="factors of the size for multi-scale tests; the outputs are averaged"
    )
    flip: bool = Field(False, description="whether to test the mirror image as well")
    antialias: bool = Field(False, description="average pixels where an image shrinks; the papers' recipes do not")

    @field_validator("scales")
    @classmethod
    def _differ(cls, scales: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(scales)) < len(scales):
            raise ValueError(f"scales are {list(scales)}; each must appear once")
        return scales


class EvalView:
    """Takes the views of an image for evaluation.

    `num_views`: how many there are, for each scale the image and then, if wanted, its mirror image.
    """

    def __init__(self, settings: EvalViewSettings):
        self.settings = settings
        self.num_views = len(settings.scales) * (1 + settings.flip)

    def size(self, size: tuple[int, int], scale: float = 1.0) -> tuple[int, int]:
        """The size (h, w) of the view of an image of `size` (H, W) at one of the scales."""
        sides = (self.settings.short_side, self.settings.max_long_side)
        if sides == (None, None):
            return keep_ratio_size(size, scale * min(size), None)
        return keep_ratio_size(size, *(None if side is None else side * scale for side in sides))

    def __call__(self, image: Any) -> list[Any]:
        """uint8 [3, H, W] -> its views, uint8 [3, h, w] each."""
        from torchvision.transforms.v2 import functional as F

        views = []
        for scale in self.settings.scales:
            size = self.size(tuple(image.shape[-2:]), scale)
            same = size == tuple(image.shape[-2:])
            view = image if same else F.resize(image, list(size), antialias=self.settings.antialias)
            views += [view, F.horizontal_flip(view)] if self.settings.flip else [view]
        return views
