"""Boxes x1 y1 x2 y2: their overlap, clipping, and the precision that they are computed in."""

from collections.abc import Iterable

import torch

EPSILON = 1e-6
"""The minimum area, in square pixels, that an overlap is divided by: boxes without area overlap nothing."""


def in_full_precision(x: torch.Tensor) -> torch.Tensor:
    """float32, or float64 if `x` is: bfloat16 has 8 bits, too few for the pixels of an image."""
    return x if x.dtype == torch.float64 else x.float()


def finite_images(outputs: Iterable[torch.Tensor]) -> torch.Tensor:
    """Which images' outputs [B, ...] are all finite: bool [B]."""
    return torch.stack([x.flatten(1).isfinite().all(1) for x in outputs]).all(0)


def box_area(boxes: torch.Tensor) -> torch.Tensor:
    """[..., 4] -> [...]."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def has_area(boxes: torch.Tensor) -> torch.Tensor:
    """Which boxes [..., 4] have positive sides: bool [...], False for NaN."""
    return ((boxes[..., 2:] - boxes[..., :2]) > 0).all(-1)


def intersection(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Area that each of [N, 4] shares with each of [M, 4]: [N, M]."""
    x1, y1, x2, y2 = first[:, :, None].unbind(1)
    width = torch.minimum(x2, second[:, 2]) - torch.maximum(x1, second[:, 0])
    height = torch.minimum(y2, second[:, 3]) - torch.maximum(y1, second[:, 1])
    return width.clamp_(min=0) * height.clamp_(min=0)


def pairwise_iou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Intersection over union of each of [N, 4] with each of [M, 4]: [N, M]."""
    shared = intersection(first, second)
    union = box_area(first)[:, None] + box_area(second)[None] - shared
    return shared / union.clamp(min=EPSILON)


def covered_fraction(boxes: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
    """The fraction of each box of [N, 4] that each of the regions [M, 4] covers: [N, M]."""
    return intersection(boxes, regions) / box_area(boxes)[:, None].clamp(min=EPSILON)


def clip_boxes(boxes: torch.Tensor, size: torch.Tensor | tuple[int, int]) -> torch.Tensor:
    """Boxes [..., 4] cut at the border of an image of (h, w) pixels, or of several: a tensor [..., 2]."""
    if not isinstance(size, torch.Tensor):
        size = boxes.new_tensor(size)
    width_height = size.to(boxes.dtype).flip(-1)
    corners = boxes.unflatten(-1, (2, 2))  # [..., 4] -> [..., 2, 2]: two corners, x and y
    return torch.minimum(corners.clamp(min=0), width_height[..., None, :]).flatten(-2)
