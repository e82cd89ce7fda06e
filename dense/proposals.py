"""Selects a few of many scored boxes: the best of each level of the pyramid, without near-duplicates of better ones."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torchvision.ops import batched_nms

from dense.boxes import clip_boxes, has_area


class ProposalRule(NamedTuple):
    """How many regions of an image go on to the second stage."""

    max_per_level: int
    """Number of the best of each level before non-maximum suppression."""
    max_per_image: int
    """Number of the best of all levels after it."""
    iou_threshold: float = 0.7
    """Of two boxes of one level that overlap by more than this, the better one is kept."""


class DetectionRule(NamedTuple):
    """Which detections of an image are kept."""

    score_threshold: float = 0.05
    """Their score is above this."""
    iou_threshold: float = 0.5
    """Of two boxes of one class that overlap by more than this, the better one is kept."""
    max_per_image: int = 100


def best_of_level(
    scores: torch.Tensor, differences: torch.Tensor, anchors: torch.Tensor, number: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The best `number` of a level with scores [B, N], differences [B, N, 4], anchors [N, 4]; all, if there are fewer.

    Returns:
        The same, the anchors as [B, N', 4]; sorted by score if any were left out.
    """
    if scores.shape[1] <= number:
        return scores, differences, anchors.expand_as(differences)
    scores, index = scores.topk(number, dim=1)
    return scores, differences.gather(1, index[..., None].expand(-1, -1, 4)), anchors[index]


def select_proposals(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    levels: torch.Tensor,
    sizes: Sequence[tuple[int, int]],
    rule: ProposalRule,
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The proposals of every image, best first, clipped to it.

    Args:
        boxes, scores: [B, N, 4], [B, N].
        levels: [N], the level of each box.
        sizes: (h, w) of each image.

    Returns:
        Boxes [P, 4] and scores [P] of each image.
    """
    boxes = clip_boxes(boxes, boxes.new_tensor(sizes)[:, None])
    usable = has_area(boxes) & scores.isfinite()
    proposals = []
    for own_boxes, own_scores, wanted in zip(boxes, scores, usable, strict=True):
        own_boxes, own_scores = own_boxes[wanted], own_scores[wanted]
        kept = batched_nms(own_boxes, own_scores, levels[wanted], rule.iou_threshold)[: rule.max_per_image]
        proposals.append((own_boxes[kept], own_scores[kept]))
    return proposals


def select_detections(
    boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor, rule: DetectionRule
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Boxes [N, 4] of one image with scores [N] and classes [N], best first, without duplicates of better ones."""
    kept = batched_nms(boxes, scores, labels, rule.iou_threshold)[: rule.max_per_image]
    return boxes[kept], scores[kept], labels[kept]
