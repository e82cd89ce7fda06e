"""Classifies regions and refines their boxes.

Papers: Girshick, Fast R-CNN, ICCV 2015, https://arxiv.org/abs/1504.08083 (section 2.3); Cai and Vasconcelos, Cascade
R-CNN, CVPR 2018, https://arxiv.org/abs/1712.00726
Reference: OpenMMLab's mmdetection 2.25, whose parameter names these are. The background is the last class.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from dense.assign import MatchRule
from dense.box_coder import decode, encode
from dense.boxes import clip_boxes, in_full_precision
from dense.layers import ConvNormAct
from dense.losses import connected_zero, cross_entropy, giou, smooth_l1
from dense.regions import RegionSample
from dense.structures import Targets


class StageRule(NamedTuple):
    """How one stage learns."""

    match: MatchRule = MatchRule(0.5, 0.5, min_positive_iou=0.5)
    stds: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    """Differences between boxes are divided by these, see `dense.box_coder`."""
    regression: Literal["l1", "giou"] = "l1"
    """L1 on differences, or generalized IoU on boxes."""
    regression_weight: float = 1.0
    weight: float = 1.0
    """Of all the stage's losses."""


class BBoxHead(nn.Module):
    r"""Convolutions, linear layers, then logits of all classes, and differences for each class except the background.

    The losses are, over all N regions of a batch,

    .. math::
        L_{cls} = \frac{1}{N} \sum CE(s, c), \qquad L_{bbox} = \frac{1}{N} \sum_{positive} L1(t_c - t^*)

    or, with generalized IoU, a weighted mean of 1 - GIoU of the decoded boxes in place of L1.

    Args:
        num_channels: of the pooled regions, and of the convolutions.
        num_classes: K, without the background.
        num_convs, num_fcs: 3 x 3 convolutions with norm and ReLU; linear layers with ReLU. At least one of the latter.
        fc_channels: of the linear layers.
        norm: of the convolutions, see `dense.layers.NORMS`.
        region_size: side of the pooled regions.

    Shapes: [N, C, region_size, region_size] to logits [N, K + 1] and differences [N, 4 K].
    """

    def __init__(
        self,
        num_channels: int,
        num_classes: int,
        num_convs: int = 0,
        num_fcs: int = 2,
        fc_channels: int = 1024,
        norm: str | None = None,
        region_size: int = 7,
    ):
        super().__init__()
        self.region_size = region_size
        self.shared_convs = nn.ModuleList(ConvNormAct(num_channels, num_channels, 3, norm) for _ in range(num_convs))
        widths = [num_channels * region_size**2, *[fc_channels] * num_fcs]
        self.shared_fcs = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.reset_classifier(num_classes)
        for conv in self.shared_convs:
            nn.init.kaiming_normal_(conv.conv.weight, mode="fan_out", nonlinearity="relu")
        for layer in self.shared_fcs:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def reset_classifier(self, num_classes: int) -> None:
        """Puts new, untrained output layers on top."""
        self.num_classes = num_classes
        width, device = self.shared_fcs[-1].out_features, self.shared_fcs[-1].weight.device
        self.fc_cls = nn.Linear(width, num_classes + 1, device=device)
        self.fc_reg = nn.Linear(width, 4 * num_classes, device=device)
        for layer, std in ((self.fc_cls, 0.01), (self.fc_reg, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for conv in self.shared_convs:
            x = conv(x)
        x = x.flatten(1)
        for layer in self.shared_fcs:
            x = F.relu(layer(x), inplace=True)
        return self.fc_cls(x), self.fc_reg(x)

    def losses(
        self,
        logits: torch.Tensor,
        differences: torch.Tensor,
        samples: Sequence[RegionSample],
        targets: Sequence[Targets],
        rule: StageRule,
    ) -> dict[str, torch.Tensor]:
        """`loss_cls` and `loss_bbox` of what `forward` returned for the samples of a batch."""
        labels = torch.cat([sample.labels for sample in samples])
        positive = (labels < self.num_classes).nonzero().flatten()
        regions = torch.cat([sample.positive for sample in samples])
        objects = torch.cat([target.boxes[own.objects] for own, target in zip(samples, targets, strict=True)])
        chosen = in_full_precision(differences.unflatten(1, (-1, 4))[positive, labels[positive]])
        if rule.regression == "giou":
            regression = giou(decode(regions, chosen, rule.stds), objects)
        else:
            regression = smooth_l1(chosen, encode(regions, objects, rule.stds))
        return {
            "loss_cls": rule.weight * cross_entropy(logits, labels) / len(labels),
            "loss_bbox": rule.weight * rule.regression_weight * regression / len(labels),
        }

    def no_losses(self) -> dict[str, torch.Tensor]:
        """The losses of a batch without regions: 0, with a gradient of 0 for every parameter."""
        zero = connected_zero(self.parameters())
        return {"loss_cls": zero, "loss_bbox": zero}

    def regress(
        self,
        regions: torch.Tensor,
        differences: torch.Tensor,
        labels: torch.Tensor,
        stds: Sequence[float],
        size: tuple[int, int],
    ) -> torch.Tensor:
        """The regions [N, 4] of one image of (h, w) pixels, refined for the classes `labels` [N].

        A NaN difference is replaced by 0, because no region could be read there.
        """
        chosen = differences.unflatten(1, (-1, 4))[torch.arange(len(labels), device=labels.device), labels]
        return clip_boxes(decode(regions, in_full_precision(chosen).nan_to_num(0.0), stds), size)
