"""What detectors take besides images, and what they return.

Boxes are x1 y1 x2 y2 in pixels. An object that fills a whole image of h x w pixels has the box 0 0 w h.
"""

from typing import NamedTuple

import torch


class ImageShape(NamedTuple):
    """Where an image is in its batch, and how it was resized."""

    size: tuple[int, int]
    """(h, w): the image fills the top left h x w pixels of its padded place in the batch."""
    scale: tuple[float, float] = (1.0, 1.0)
    """(sx, sy): pixels of the batch per pixel of the file, along x and y."""
    original: tuple[int, int] | None = None
    """(H, W) of the file. None: the same size as here."""


class Targets(NamedTuple):
    """The objects of one image, in pixels of the batch."""

    boxes: torch.Tensor
    """[N, 4]. Those whose sides are not positive are not trained on."""
    labels: torch.Tensor
    """[N], from 0."""
    masks: torch.Tensor | None = None
    """[N, h, w], 0 or 1. None: no masks."""
    ignored: torch.Tensor | None = None
    """[M, 4]: crowds, in which objects are not annotated separately."""


class Detections(NamedTuple):
    """The objects that were found in one image, best first."""

    boxes: torch.Tensor
    """[N, 4], in pixels of the file."""
    scores: torch.Tensor
    """[N], from 0 to 1."""
    labels: torch.Tensor
    """[N], from 0."""
    masks: torch.Tensor | None = None
    """[N, 28, 28]: the probability that each cell of the box belongs to the object; `dense.paste` draws them."""
    is_finite: bool | torch.Tensor = True
    """Whether all outputs for the image are finite. Regions with other outputs are not detected."""
