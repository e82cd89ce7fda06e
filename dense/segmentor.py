"""Semantic segmentation: a backbone, an optional neck, a head, and in training an auxiliary head."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import nn

from dense.upernet import resize


class SegmentationLogits(NamedTuple):
    """What a segmentor returns in training, at the resolution of each head."""

    decode: torch.Tensor
    """[B, K, h, w]"""
    auxiliary: torch.Tensor | None
    """[B, K, h', w']; None if there is no auxiliary head."""


class Segmentor(nn.Module):
    """Images to logits for every pixel.

    Args:
        backbone: has `forward_pyramid`, see `models.Pyramid`.
        decode_head: levels -> logits [B, K, h, w].
        auxiliary_head: the same, from some inner level; used only in training. None: none.
        neck: levels -> levels, between the backbone and both heads.

    Shapes: images [B, 3, H, W], normalized, to logits [B, K, H, W]; in training to `SegmentationLogits`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        decode_head: nn.Module,
        auxiliary_head: nn.Module | None = None,
        neck: nn.Module | None = None,
    ):
        super().__init__()
        self.backbone, self.decode_head = backbone, decode_head
        self.neck = neck
        self.auxiliary_head = auxiliary_head
        heads = {"decode_head.": decode_head, "auxiliary_head.": auxiliary_head}
        self.classifier_names = tuple(
            prefix + name for prefix, head in heads.items() if head is not None for name in head.classifier_names
        )

    @property
    def num_classes(self) -> int:
        return self.decode_head.num_classes

    def reset_classifier(self, num_classes: int) -> None:
        """Puts new, untrained classifiers for this many classes on the heads."""
        for head in filter(None, (self.decode_head, self.auxiliary_head)):
            head.reset_classifier(num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor | SegmentationLogits:
        levels = self.backbone.forward_pyramid(images)
        if self.neck is not None:
            levels = self.neck(levels)
        logits = self.decode_head(levels)
        if not self.training:
            return resize(logits, images.shape[-2:])
        return SegmentationLogits(logits, None if self.auxiliary_head is None else self.auxiliary_head(levels))


def slide(
    model: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, crop: Sequence[int], stride: Sequence[int]
) -> torch.Tensor:
    """Logits of windows that slide over the images, averaged where they overlap: [B, 3, H, W] -> [B, K, H, W].

    The last window of a row or column ends at the border, so it overlaps more. An image smaller than `crop` is one
    window.

    Args:
        model: images [B, 3, h, w] to logits [B, K, h, w].
        crop, stride: height and width of a window, and the steps between windows, in pixels.
    """
    height, width = images.shape[-2:]
    total, count = None, images.new_zeros(1, 1, height, width)
    for top in _starts(height, crop[0], stride[0]):
        for left in _starts(width, crop[1], stride[1]):
            place = (..., slice(top, top + crop[0]), slice(left, left + crop[1]))
            logits = model(images[place])
            if total is None:
                total = logits.new_zeros(*logits.shape[:2], height, width)
            total[place] += logits
            count[place] += 1
    return total / count


def _starts(size: int, crop: int, stride: int) -> list[int]:
    """Where windows of `crop` pixels start along a side of `size`."""
    last = max(size - crop, 0)
    return [*range(0, last, stride), last]
