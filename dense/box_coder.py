r"""Boxes as differences from other boxes: what a detector's regression learns.

Faster R-CNN, arXiv 1506.01497, equation 2, for a box with center x, y and sides w, h relative to the anchor or proposal
a, each difference divided by a constant that brings it to unit size:

.. math::
    t_x = (x - x_a) / w_a / s_x, \quad t_y = (y - y_a) / h_a / s_y, \quad
    t_w = \log(w / w_a) / s_w, \quad t_h = \log(h / h_a) / s_h

Decoding lets a side grow or shrink by a factor of at most 1000 / 16.
"""

import math
from collections.abc import Sequence

import torch

MAX_LOG_RATIO = abs(math.log(16 / 1000))


def encode(anchors: torch.Tensor, boxes: torch.Tensor, stds: Sequence[float]) -> torch.Tensor:
    """Differences [N, 4] of boxes [N, 4] from anchors [N, 4]."""
    centres, sides = _centres_and_sides(anchors)
    box_centres, box_sides = _centres_and_sides(boxes)
    differences = torch.cat(((box_centres - centres) / sides, (box_sides / sides).log()), dim=-1)
    return differences / differences.new_tensor(stds)


def decode(anchors: torch.Tensor, differences: torch.Tensor, stds: Sequence[float]) -> torch.Tensor:
    """Boxes at `differences` [..., 4] from the anchors, which have the same shape or broadcast to it."""
    differences = differences * differences.new_tensor(stds)
    centres, sides = _centres_and_sides(anchors)
    centres = centres + sides * differences[..., :2]
    half_sides = 0.5 * sides * differences[..., 2:].clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    return torch.cat((centres - half_sides, centres + half_sides), dim=-1)


def _centres_and_sides(boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return 0.5 * (boxes[..., :2] + boxes[..., 2:]), boxes[..., 2:] - boxes[..., :2]
