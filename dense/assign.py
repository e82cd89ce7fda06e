"""Which object each anchor or proposal should find: the one that it overlaps most, if it overlaps it enough.

Faster R-CNN, arXiv 1506.01497, section 3.1.2.
"""

from typing import NamedTuple

import torch

from dense.boxes import covered_fraction, has_area, pairwise_iou

BACKGROUND = -1
IGNORED = -2


class MatchRule(NamedTuple):
    """Limits of intersection over union, from 0 to 1."""

    positive_iou: float
    """From this overlap on, a box is an example of the object that it overlaps most."""
    negative_iou: float
    """Below this, it is an example of the background. Between the two, it is ignored."""
    min_positive_iou: float = 0.0
    """The minimum overlap at which the best boxes of an object are its examples."""
    low_quality_matches: bool = True
    """The best boxes of an object, including ties, become its examples whatever else they overlap."""
    ignored_fraction: float | None = None
    """A box of which a crowd covers more than this is ignored. None: crowds change nothing, as in the authors' runs."""


def assign(
    boxes: torch.Tensor, objects: torch.Tensor, rule: MatchRule, ignored: torch.Tensor | None = None
) -> torch.Tensor:
    """For each box, the index of its object, `BACKGROUND` or `IGNORED`.

    Args:
        boxes: [N, 4].
        objects: boxes [G, 4] of the image's objects; those without area get no boxes.
        ignored: crowds [M, 4], used if the rule has an `ignored_fraction` and the image an object.

    Returns:
        [N], int64. If two objects claim a box as their best, the later one gets it.
    """
    if len(objects) == 0 or len(boxes) == 0:
        return torch.full((len(boxes),), BACKGROUND, dtype=torch.long, device=boxes.device)
    overlaps = pairwise_iou(objects, boxes)  # [G, N]
    if rule.ignored_fraction is not None and ignored is not None and len(ignored) > 0:
        in_crowd = covered_fraction(boxes, ignored).amax(1) > rule.ignored_fraction
        overlaps = overlaps.masked_fill(in_crowd, -1)
    best, index = overlaps.max(0)
    background = torch.where((best >= 0) & (best < rule.negative_iou), BACKGROUND, IGNORED)
    assigned = torch.where(best >= rule.positive_iou, index, background)
    if rule.low_quality_matches:
        best_of_object = overlaps.amax(1, keepdim=True)  # [G, 1]
        is_best = (overlaps == best_of_object) & (best_of_object >= rule.min_positive_iou) & has_area(objects)[:, None]
        numbers, claimed = is_best.nonzero(as_tuple=True)
        last = torch.full_like(assigned, -1).scatter_reduce(0, claimed, numbers, "amax")
        assigned = torch.where(last >= 0, last, assigned)
    return assigned
