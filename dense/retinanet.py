"""RetinaNet: a class and a box at every anchor, in one stage.

Paper: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, https://arxiv.org/abs/1708.02002
Reference: OpenMMLab's mmdetection 2.25 (retinanet_r50_fpn), whose parameter names these are: L1 for boxes, and the
first further level of the pyramid from the backbone's last map. We assume that GLNet's authors, who published no
detector, would use it.

Done differently here: losses are computed only at the anchors that count, not at all anchors with weights of 0.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from dense.anchors import AnchorRule, flatten_maps, pyramid_anchors, usable_anchors
from dense.assign import IGNORED, MatchRule, assign
from dense.box_coder import decode, encode
from dense.boxes import clip_boxes, finite_images, in_full_precision
from dense.layers import ConvNormAct
from dense.losses import sigmoid_focal, smooth_l1
from dense.proposals import DetectionRule, select_detections
from dense.structures import Detections, ImageShape, Targets
from dense.two_stage import whole_images

STDS = (1.0, 1.0, 1.0, 1.0)
PRIOR = 0.01
"""The probability of every class at every anchor before training, so that the background does not dominate at first."""


class RetinaRule(NamedTuple):
    """How RetinaNet learns, and which detections it keeps."""

    anchors: AnchorRule = AnchorRule(scales=tuple(4 * 2 ** (i / 3) for i in range(3)))
    match: MatchRule = MatchRule(0.5, 0.4)
    alpha: float = 0.25
    gamma: float = 2.0
    """Of the focal loss."""
    beta: float = 0.0
    """Smooth L1's beta; 0: L1."""
    max_per_level: int = 1000
    """Pairs of box and class of each level that go into non-maximum suppression."""
    detection: DetectionRule = DetectionRule()


class RetinaOutput(NamedTuple):
    """For each level: logits [B, A K, H_i, W_i] and differences from the anchors [B, 4 A, H_i, W_i]."""

    logits: list[torch.Tensor]
    differences: list[torch.Tensor]


class RetinaHead(nn.Module):
    r"""Two towers of 3 x 3 convolutions with ReLU, one for classes and one for boxes, the same at every level.

    The losses are, with P the number of positive anchors of the batch, at least 1 per image,

    .. math::
        L_{cls} = \frac{1}{P} \sum_{anchors, classes} FL(p_t), \qquad
        L_{bbox} = \frac{1}{P} \sum_{positive} L1(t - t^*)

    Args:
        num_channels: of the maps and towers.
        num_classes: K.
        strides: of each level.
        num_convs: of each tower.
        norm: of the towers, see `dense.layers.NORMS`; None: none, and convolutions have biases.
    """

    classifier_names = ("retina_cls.",)

    def __init__(
        self,
        num_channels: int,
        num_classes: int,
        strides: Sequence[int],
        rule: RetinaRule,
        num_convs: int = 4,
        norm: str | None = None,
    ):
        super().__init__()
        self.rule, self.strides = rule, tuple(strides)
        self.num_anchors = len(rule.anchors.scales) * len(rule.anchors.ratios)
        self.cls_convs = nn.ModuleList(ConvNormAct(num_channels, num_channels, 3, norm) for _ in range(num_convs))
        self.reg_convs = nn.ModuleList(ConvNormAct(num_channels, num_channels, 3, norm) for _ in range(num_convs))
        self.retina_reg = nn.Conv2d(num_channels, 4 * self.num_anchors, kernel_size=3, padding=1)
        for layer in (*self.cls_convs, *self.reg_convs, self.retina_reg):
            _init(getattr(layer, "conv", layer))
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a new, untrained output layer for classes on top; boxes do not depend on them."""
        self.num_classes = num_classes
        weight = self.retina_reg.weight
        self.retina_cls = nn.Conv2d(weight.shape[1], num_classes * self.num_anchors, 3, padding=1, device=weight.device)
        _init(self.retina_cls, bias=-math.log((1 - PRIOR) / PRIOR))

    def forward(self, maps: Sequence[torch.Tensor]) -> RetinaOutput:
        output = RetinaOutput([], [])
        for x in maps:
            for_class = for_box = x
            for conv in self.cls_convs:
                for_class = conv(for_class)
            for conv in self.reg_convs:
                for_box = conv(for_box)
            output.logits.append(self.retina_cls(for_class))
            output.differences.append(self.retina_reg(for_box))
        return output

    def losses(
        self,
        output: RetinaOutput,
        shapes: Sequence[ImageShape],
        targets: Sequence[Targets],
        batch_size: tuple[int, int],
    ) -> dict[str, torch.Tensor]:
        """`loss_cls` and `loss_bbox` for a batch padded to (h, w) pixels."""
        rule = self.rule
        logits = torch.cat(flatten_maps(output.logits, self.num_classes), dim=1)  # [B, N, K]
        differences = torch.cat(flatten_maps(output.differences, 4), dim=1)  # [B, N, 4]
        anchors = torch.cat(pyramid_anchors(output.logits, self.strides, rule.anchors))
        classification, regression, num_positive = [], [], 0
        for own_logits, own_differences, shape, target in zip(logits, differences, shapes, targets, strict=True):
            usable = usable_anchors(anchors, output.logits, self.strides, rule.anchors, shape.size, batch_size)
            assigned = assign(anchors[usable], target.boxes, rule.match, target.ignored)
            counted = assigned != IGNORED
            usable, assigned = usable[counted], assigned[counted]
            positive = (assigned >= 0).nonzero().flatten()
            objects = assigned[positive]
            truth = torch.zeros(len(usable), self.num_classes, dtype=torch.bool, device=usable.device)
            truth[positive, target.labels[objects]] = True
            classification.append(sigmoid_focal(own_logits[usable], truth, rule.alpha, rule.gamma))
            positive = usable[positive]
            distances = encode(anchors[positive], target.boxes[objects], STDS)
            regression.append(smooth_l1(own_differences[positive], distances, rule.beta))
            num_positive += max(len(positive), 1)
        return {
            "loss_cls": torch.stack(classification).sum() / num_positive,
            "loss_bbox": torch.stack(regression).sum() / num_positive,
        }

    @torch.no_grad()
    def detect(self, output: RetinaOutput, shapes: Sequence[ImageShape]) -> list[Detections]:
        """The detections of each image."""
        scores = [in_full_precision(x).sigmoid() for x in flatten_maps(output.logits, self.num_classes)]
        differences = [in_full_precision(x) for x in flatten_maps(output.differences, 4)]
        anchors = pyramid_anchors(output.logits, self.strides, self.rule.anchors, scores[0].dtype)
        finite = finite_images((*output.logits, *output.differences))
        detections = []
        for image, shape in enumerate(shapes):
            levels = zip((x[image] for x in scores), (x[image] for x in differences), anchors, strict=True)
            boxes, own_scores, labels = (
                torch.cat(parts) for parts in zip(*(self._best(*level) for level in levels), strict=True)
            )
            boxes = clip_boxes(boxes, shape.size) / boxes.new_tensor(shape.scale * 2)
            found = select_detections(boxes, own_scores, labels, self.rule.detection)
            detections.append(Detections(*found, is_finite=finite[image]))
        return detections

    def _best(
        self, scores: torch.Tensor, differences: torch.Tensor, anchors: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Boxes, scores and classes of the best pairs of one level, from [N, K], [N, 4] and [N, 4]."""
        wanted = (scores > self.rule.detection.score_threshold) & differences.isfinite().all(1, keepdim=True)
        row, label = wanted.nonzero(as_tuple=True)
        chosen = scores[row, label]
        if len(chosen) > self.rule.max_per_level:
            chosen, best = chosen.topk(self.rule.max_per_level)
            row, label = row[best], label[best]
        return decode(anchors[row], differences[row], STDS), chosen, label


class RetinaNet(nn.Module):
    """Backbone, neck and `RetinaHead`; the interface of `dense.two_stage.TwoStageDetector`, without masks."""

    def __init__(self, backbone: nn.Module, neck: nn.Module, bbox_head: RetinaHead):
        super().__init__()
        self.backbone, self.neck, self.bbox_head = backbone, neck, bbox_head
        self.classifier_names = tuple(f"bbox_head.{name}" for name in bbox_head.classifier_names)

    @property
    def num_classes(self) -> int:
        """K."""
        return self.bbox_head.num_classes

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a new, untrained output layer for this many classes on the head."""
        self.bbox_head.reset_classifier(num_classes)

    def forward(
        self,
        images: torch.Tensor,
        shapes: Sequence[ImageShape] | None = None,
        targets: Sequence[Targets] | None = None,
    ) -> dict[str, torch.Tensor] | list[Detections]:
        """`shapes` is left out for images without padding that were not resized."""
        if len(images) == 0 and targets is None:
            return []
        shapes = shapes or whole_images(images)
        output = self.bbox_head(self.neck(self.backbone.forward_pyramid(images)))
        if targets is None:
            return self.bbox_head.detect(output, shapes)
        return self.bbox_head.losses(output, shapes, targets, tuple(images.shape[-2:]))


def _init(layer: nn.Conv2d, bias: float = 0.0) -> None:
    nn.init.normal_(layer.weight, std=0.01)
    if layer.bias is not None:
        nn.init.constant_(layer.bias, bias)
