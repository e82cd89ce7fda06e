"""Region proposal network: finds where there may be an object of any class.

Paper: Ren et al., Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks, NeurIPS 2015,
https://arxiv.org/abs/1506.01497 (section 3.1), on the pyramid of https://arxiv.org/abs/1612.03144
Reference: OpenMMLab's mmdetection 2.25, whose parameter names these are.

Done differently here: losses are computed only at the sampled anchors, not at all anchors with weights of 0.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from dense.anchors import AnchorRule, flatten_maps, pyramid_anchors, usable_anchors
from dense.assign import MatchRule, assign
from dense.box_coder import decode, encode
from dense.boxes import in_full_precision
from dense.losses import binary_cross_entropy, smooth_l1
from dense.proposals import ProposalRule, best_of_level, select_proposals
from dense.sample import SampleRule, sample
from dense.structures import ImageShape, Targets

STDS = (1.0, 1.0, 1.0, 1.0)


class RPNRule(NamedTuple):
    """How the region proposal network learns and proposes."""

    anchors: AnchorRule = AnchorRule()
    match: MatchRule = MatchRule(0.7, 0.3, min_positive_iou=0.3)
    sample: SampleRule = SampleRule(256, 0.5)
    beta: float = 0.0
    """Smooth L1's beta; 0: L1."""
    train_proposals: ProposalRule = ProposalRule(2000, 1000)
    test_proposals: ProposalRule = ProposalRule(1000, 1000)


class RPNOutput(NamedTuple):
    """For each level: scores (logits) [B, A, H_i, W_i] and differences from the anchors [B, 4 A, H_i, W_i]."""

    scores: list[torch.Tensor]
    differences: list[torch.Tensor]


class RPNHead(nn.Module):
    r"""A 3 x 3 convolution with ReLU, then a score and four differences for each anchor of each position.

    The losses are, over the sampled anchors of all images, with N their number (as if each image had at least one
    positive and one negative),

    .. math::
        L_{cls} = \frac{1}{N} \sum BCE(s, s^*), \qquad
        L_{bbox} = \frac{1}{N} \sum_{positive} \sum_{x, y, w, h} L1(t - t^*)

    Args:
        num_channels: of the maps.
        strides: of each level.
    """

    def __init__(self, num_channels: int, strides: Sequence[int], rule: RPNRule):
        super().__init__()
        num_anchors = len(rule.anchors.scales) * len(rule.anchors.ratios)
        self.rule = rule
        self.strides = tuple(strides)
        self.rpn_conv = nn.Conv2d(num_channels, num_channels, kernel_size=3, padding=1)
        self.rpn_cls = nn.Conv2d(num_channels, num_anchors, kernel_size=1)
        self.rpn_reg = nn.Conv2d(num_channels, 4 * num_anchors, kernel_size=1)
        for layer in (self.rpn_conv, self.rpn_cls, self.rpn_reg):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, maps: Sequence[torch.Tensor]) -> RPNOutput:
        hidden = [F.relu(self.rpn_conv(x), inplace=True) for x in maps]
        return RPNOutput([self.rpn_cls(x) for x in hidden], [self.rpn_reg(x) for x in hidden])

    def proposals(self, output: RPNOutput, shapes: Sequence[ImageShape]) -> list[torch.Tensor]:
        """Regions [P, 4] of every image, best first, without gradient."""
        return [boxes for boxes, _ in self.scored_proposals(output, shapes)]

    @torch.no_grad()
    def scored_proposals(
        self, output: RPNOutput, shapes: Sequence[ImageShape]
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The same with their scores [P], from 0 to 1."""
        rule = self.rule.train_proposals if self.training else self.rule.test_proposals
        scores = [in_full_precision(x.detach())[..., 0].sigmoid() for x in flatten_maps(output.scores, 1)]
        differences = [in_full_precision(x.detach()) for x in flatten_maps(output.differences, 4)]
        anchors = pyramid_anchors(output.scores, self.strides, self.rule.anchors, scores[0].dtype)
        best = [best_of_level(*level, rule.max_per_level) for level in zip(scores, differences, anchors, strict=True)]
        levels = torch.cat([torch.full_like(x[0], i, dtype=torch.long) for i, (x, _, _) in enumerate(best)])
        scores, differences, anchors = (torch.cat(parts, dim=1) for parts in zip(*best, strict=True))
        boxes = decode(anchors, differences, STDS)
        return select_proposals(boxes, scores, levels, [shape.size for shape in shapes], rule)

    def losses(
        self,
        output: RPNOutput,
        shapes: Sequence[ImageShape],
        targets: Sequence[Targets],
        batch_size: tuple[int, int],
    ) -> dict[str, torch.Tensor]:
        """`loss_rpn_cls` and `loss_rpn_bbox` for a batch padded to (h, w) pixels."""
        logits = torch.cat(flatten_maps(output.scores, 1), dim=1)[..., 0]  # [B, N]
        differences = torch.cat(flatten_maps(output.differences, 4), dim=1)  # [B, N, 4]
        # float32 even in a float64 model: which anchors tie for the best overlap depends on the rounding.
        anchors = torch.cat(pyramid_anchors(output.scores, self.strides, self.rule.anchors))
        classification, regression, num_samples = [], [], 0
        for own_logits, own_differences, shape, target in zip(logits, differences, shapes, targets, strict=True):
            usable = usable_anchors(anchors, output.scores, self.strides, self.rule.anchors, shape.size, batch_size)
            assigned = assign(anchors[usable], target.boxes, self.rule.match, target.ignored)
            positive, negative = sample(assigned, self.rule.sample)
            objects = target.boxes[assigned[positive]]
            positive, negative = usable[positive], usable[negative]
            truth = encode(anchors[positive], objects, STDS).to(anchors.dtype)
            chosen = own_logits[torch.cat((positive, negative))]
            is_object = torch.arange(len(chosen), device=chosen.device) < len(positive)
            classification.append(binary_cross_entropy(chosen, is_object))
            regression.append(smooth_l1(own_differences[positive], truth, self.rule.beta))
            num_samples += max(len(positive), 1) + max(len(negative), 1)
        return {
            "loss_rpn_cls": torch.stack(classification).sum() / num_samples,
            "loss_rpn_bbox": torch.stack(regression).sum() / num_samples,
        }
