"""Geometric operations on an image with its boxes, masks and label map, which stay aligned.

All build on torchvision.transforms.v2 and its tv_tensors: images are resized bilinearly, masks and label maps by the
nearest pixel, boxes are scaled, shifted and clipped. Random numbers are passed in, so each is a pure function. As in
mmdet, with which the papers' recipes were run, boxes are not recomputed from masks after a crop, and shrinking does not
average pixels unless `antialias` is set.
Difference: the nearest pixel is the one with the nearest center, as for images. OpenCV, and torchvision for masks, take
the one above and to the left of it, which shifts masks by up to half a pixel against their image.

torchvision takes seconds to import: only functions that use it import it.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

MIN_SIDE = 2  # of a resized image: torch fails on 8-bit images that become a single pixel


@dataclass(frozen=True)
class Sample:
    """An image and its annotations; all but labels and scale are tv_tensors.

    Args:
        image: uint8 [3, h, w].
        boxes: float32 [N, 4], x1, y1, x2, y2 in pixels.
        labels: int64 [N].
        ignored: float32 [M, 4], boxes of crowds.
        masks: uint8 [N, h, w], 0 or 1, or None.
        label_map: uint8 [h, w], 255 where ignored, or None.
        scale: (sx, sy), pixels of the image per pixel of the file.
    """

    image: Any
    boxes: Any
    labels: torch.Tensor
    ignored: Any
    masks: Any = None
    label_map: Any = None
    scale: tuple[float, float] = (1.0, 1.0)

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of the image."""
        return tuple(self.image.shape[-2:])

    def all_by(self, operation, *arguments) -> "Sample":
        """The sample with a function of tv_tensors applied to its image, boxes, masks and label map."""
        names = ("image", "boxes", "ignored", "masks", "label_map")
        parts = {name: getattr(self, name) for name in names}
        return replace(self, **{name: operation(part, *arguments) for name, part in parts.items() if part is not None})


def make_sample(
    image: Image.Image,
    boxes: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    ignored: np.ndarray | None = None,
    masks: np.ndarray | None = None,
    label_map: np.ndarray | None = None,
) -> Sample:
    """A sample of an RGB image and arrays of the shapes in `Sample`; boxes and labels may be left out."""
    from torchvision import tv_tensors

    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)  # [h, w, 3] -> [3, h, w]
    size = tuple(pixels.shape[-2:])

    def as_boxes(array: np.ndarray | None):
        values = torch.zeros(0, 4) if array is None else torch.from_numpy(np.asarray(array, np.float32)).reshape(-1, 4)
        return tv_tensors.BoundingBoxes(values, format="XYXY", canvas_size=size)

    return Sample(
        tv_tensors.Image(pixels.contiguous()),
        as_boxes(boxes),
        torch.zeros(0, dtype=torch.int64) if labels is None else torch.from_numpy(np.asarray(labels, np.int64)),
        as_boxes(ignored),
        None if masks is None else tv_tensors.Mask(torch.from_numpy(masks)),
        None if label_map is None else tv_tensors.Mask(torch.from_numpy(label_map)),
    )


def flip(sample: Sample) -> Sample:
    """The mirror image: left becomes right."""
    from torchvision.transforms.v2 import functional as F

    return sample.all_by(F.horizontal_flip)


def resize(sample: Sample, size: tuple[int, int], antialias: bool = False) -> Sample:
    """The sample at another size (h, w)."""
    from torchvision.transforms.v2 import functional as F

    if size == sample.size:
        return sample
    scale = tuple(s * new / old for s, new, old in zip(sample.scale, size[::-1], sample.size[::-1], strict=True))
    return replace(
        sample,
        image=F.resize(sample.image, list(size), antialias=antialias),
        boxes=F.resize(sample.boxes, list(size)),
        ignored=F.resize(sample.ignored, list(size)),
        masks=None if sample.masks is None else _resize_mask(sample.masks, size),
        label_map=None if sample.label_map is None else _resize_mask(sample.label_map, size),
        scale=scale,
    )


def _resize_mask(mask: Any, size: tuple[int, int]) -> Any:
    """A mask [..., h, w] at another size, by the nearest pixel. NumPy's `take` is three times as fast as torch here."""
    values = mask.as_subclass(torch.Tensor).numpy()
    for axis, new in zip((-1, -2), size[::-1], strict=True):
        centers = (2 * np.arange(new) + 1) * values.shape[axis]  # of the new pixels, in the old ones, times 2 * new
        values = values.take(centers // (2 * new), axis)
    return _wrap(torch.from_numpy(values), mask)


def crop(sample: Sample, top: int, left: int, size: tuple[int, int]) -> Sample:
    """A part of the image, of `size` (h, w); objects and crowds whose boxes are entirely outside are dropped."""
    from torchvision.transforms.v2 import functional as F

    return drop_small(sample.all_by(F.crop, top, left, *size), min_side=0)


def drop_small(sample: Sample, min_side: float) -> Sample:
    """Clips the boxes to the image, and drops objects and crowds with a box narrower or lower than `min_side` pixels.

    With 0, those without an area are dropped.
    """
    boxes, kept = _clip(sample.boxes, sample.size, min_side)
    ignored, kept_ignored = _clip(sample.ignored, sample.size, min_side)
    masks = sample.masks
    if masks is not None and not kept.all():
        masks = _wrap(masks.as_subclass(torch.Tensor)[kept], masks)
    return replace(
        sample,
        boxes=_wrap(boxes[kept], sample.boxes),
        labels=sample.labels[kept],
        masks=masks,
        ignored=_wrap(ignored[kept_ignored], sample.ignored),
    )


def _clip(boxes: torch.Tensor, size: tuple[int, int], min_side: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes [N, 4] clipped to an image of `size` (h, w), and which of them have sides of `min_side` or more [N]."""
    boxes = boxes.as_subclass(torch.Tensor)
    limits = torch.tensor([*size[::-1], *size[::-1]], dtype=boxes.dtype)
    boxes = torch.minimum(boxes.clamp(min=0), limits)
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes, ((sides > 0) & (sides >= min_side)).all(1)


def _wrap(values: torch.Tensor, like: Any) -> Any:
    from torchvision import tv_tensors

    return tv_tensors.wrap(values, like=like)


def keep_ratio_size(size: tuple[int, int], short_side: float | None, max_long_side: float | None) -> tuple[int, int]:
    """The size (h, w) that makes the shorter side `short_side`, unless the longer one would exceed `max_long_side`.

    None: no such condition; both None: the size as it is. Sides are rounded to the nearest pixel, as in mmcv, and have
    at least `MIN_SIDE`.
    """
    factors = []
    if short_side is not None:
        factors.append(short_side / min(size))
    if max_long_side is not None:
        factors.append(max_long_side / max(size))
    if not factors:
        return size
    return tuple(max(MIN_SIDE, int(side * min(factors) + 0.5)) for side in size)
