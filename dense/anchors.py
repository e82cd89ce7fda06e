"""Anchors: boxes of several sizes and shapes around every position of a map, which a detector moves and scales.

Faster R-CNN, arXiv 1506.01497, section 3.1.1. Corners are not rounded, and an anchor's center is the top left corner
of its position's cell, as in OpenMMLab's mmdetection.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch


def base_anchors(
    stride: float, scales: Sequence[float], ratios: Sequence[float], device: torch.device | None = None
) -> torch.Tensor:
    """The anchors around the origin, [num_ratios * num_scales, 4], ratios first; float32.

    Args:
        stride: pixels between neighbors of the map.
        scales: the side of a square anchor, in strides.
        ratios: height over width; the area stays the same.
    """
    height_factors = torch.tensor(ratios, dtype=torch.float32, device=device).sqrt()
    sides = torch.tensor(scales, dtype=torch.float32, device=device)
    widths = (stride * (1 / height_factors)[:, None] * sides).flatten()
    heights = (stride * height_factors[:, None] * sides).flatten()
    return torch.stack((-0.5 * widths, -0.5 * heights, 0.5 * widths, 0.5 * heights), dim=-1)


def grid_anchors(
    base: torch.Tensor, size: tuple[int, int], stride: int, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """The base anchors [A, 4] around every position of a map of `size` (H, W): [H * W * A, 4], row by row."""
    height, width = size
    x = torch.arange(width, device=base.device) * stride
    y = torch.arange(height, device=base.device) * stride
    y, x = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack((x, y, x, y), dim=-1).to(dtype)  # [H, W, 4]
    return (shifts[:, :, None] + base.to(dtype)).reshape(-1, 4)


def inside_padding(
    size: tuple[int, int], num_anchors: int, stride: int, padded: tuple[int, int], device: torch.device | None = None
) -> torch.Tensor:
    """Which anchors of a map belong to positions with cells that begin inside the image padded to (h, w) pixels.

    The others belong to the padding for larger images of the batch. [H * W * num_anchors], bool.
    """
    height, width = size
    rows = torch.arange(height, device=device) * stride < padded[0]
    columns = torch.arange(width, device=device) * stride < padded[1]
    return (rows[:, None] & columns).flatten().repeat_interleave(num_anchors)


def inside_image(anchors: torch.Tensor, size: tuple[int, int], border: int) -> torch.Tensor:
    """Which anchors [N, 4] stay within `border` pixels around an image of (h, w) pixels; all if it is negative."""
    if border < 0:
        return anchors.new_ones(len(anchors), dtype=torch.bool)
    height, width = size
    x1, y1, x2, y2 = anchors.unbind(-1)
    return (x1 >= -border) & (y1 >= -border) & (x2 < width + border) & (y2 < height + border)


class AnchorRule(NamedTuple):
    """The anchors of every level, and which of them are trained on."""

    scales: tuple[float, ...] = (8.0,)
    """Sides of square anchors, in strides of their level."""
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Height over width."""
    allowed_border: int = -1
    """Train only on anchors within this many pixels around the image. Negative: all anchors."""
    pad_multiple: int | None = 32
    """Train only on anchors at positions of the image, padded so that this divides its sides. None: of the batch."""


def pyramid_anchors(
    maps: Sequence[torch.Tensor], strides: Sequence[int], rule: AnchorRule, dtype: torch.dtype = torch.float32
) -> list[torch.Tensor]:
    """The anchors of each level, for maps [B, C, H_i, W_i]: a list of [H_i * W_i * A, 4]."""
    return [
        grid_anchors(base_anchors(stride, rule.scales, rule.ratios, x.device), tuple(x.shape[2:]), stride, dtype)
        for x, stride in zip(maps, strides, strict=True)
    ]


def usable_anchors(
    anchors: torch.Tensor,
    maps: Sequence[torch.Tensor],
    strides: Sequence[int],
    rule: AnchorRule,
    size: tuple[int, int],
    batch_size: tuple[int, int],
) -> torch.Tensor:
    """The indices of the anchors to train on for an image.

    Args:
        anchors: of all levels, [N, 4].
        size, batch_size: (h, w) of the image, and of the batch that it is padded to.
    """
    multiple = rule.pad_multiple
    padded = batch_size if multiple is None else tuple(-(-side // multiple) * multiple for side in size)
    num_anchors = len(rule.scales) * len(rule.ratios)
    inside = [
        inside_padding(tuple(x.shape[2:]), num_anchors, stride, padded, anchors.device)
        for x, stride in zip(maps, strides, strict=True)
    ]
    return (torch.cat(inside) & inside_image(anchors, size, rule.allowed_border)).nonzero().flatten()


def flatten_maps(maps: Sequence[torch.Tensor], num_values: int) -> list[torch.Tensor]:
    """Maps [B, A * num_values, H_i, W_i] to [B, H_i * W_i * A, num_values], in the order of the anchors."""
    return [x.permute(0, 2, 3, 1).reshape(len(x), -1, num_values) for x in maps]
