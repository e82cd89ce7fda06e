"""The second stage of Cascade Mask R-CNN: three stages in a row, each starting from the boxes of the previous one.

Paper: Cai and Vasconcelos, Cascade R-CNN: High Quality Object Detection and Instance Segmentation, TPAMI 2019,
https://arxiv.org/abs/1906.09756
Reference: OpenMMLab's mmdetection 2.25 with HorNet's configurations; parameter names are mmdetection's.
"""

from collections.abc import Sequence

import torch
from torch import nn

from dense.bbox_head import BBoxHead, StageRule
from dense.boxes import in_full_precision
from dense.regions import RegionSample, sample_regions
from dense.roi_head import (
    RoIRule,
    RoISizes,
    box_losses,
    final_detections,
    mask_loss,
    with_masks,
)
from dense.roi_pooling import pool_regions, with_batch_index
from dense.structures import Detections, ImageShape, Targets


class CascadeHead(nn.Module):
    """A head for boxes and one for masks in each stage; later stages require closer proposals.

    Scores are the softmax of the three stages' mean logits, boxes those of the last stage, masks the mean of the three
    heads' probabilities.

    Args:
        num_channels: of the maps.
        num_classes: K.
        strides: of the levels that regions are read from.
        rule: with the stages, such as `dense.roi_head.CASCADE_STAGES`.
        sizes: layers of the heads.
    """

    def __init__(
        self,
        num_channels: int,
        num_classes: int,
        strides: Sequence[int],
        rule: RoIRule,
        sizes: RoISizes,
    ):
        super().__init__()
        self.rule, self.strides = rule, tuple(strides)
        numbers = range(len(rule.stages))
        self.bbox_head = nn.ModuleList(sizes.bbox_head(num_channels, num_classes) for _ in numbers)
        self.mask_head = None
        outputs = [f"bbox_head.{i}.{name}." for i in numbers for name in ("fc_cls", "fc_reg")]
        if sizes.mask_convs is not None:
            self.mask_head = nn.ModuleList(sizes.mask_head(num_channels, num_classes) for _ in numbers)
            outputs += [f"mask_head.{i}.conv_logits." for i in numbers]
        self.classifier_names = tuple(outputs)

    def reset_classifier(self, num_classes: int) -> None:
        """Puts new, untrained output layers on the heads."""
        for head in (*self.bbox_head, *(self.mask_head or ())):
            head.reset_classifier(num_classes)

    def losses(
        self,
        maps: Sequence[torch.Tensor],
        proposals: Sequence[torch.Tensor],
        shapes: Sequence[ImageShape],
        targets: Sequence[Targets],
    ) -> dict[str, torch.Tensor]:
        """`s0.loss_cls`, `s0.loss_bbox`, `s0.loss_mask`, `s1.loss_cls` ... for proposals [P, 4] of each image."""
        losses = {}
        for number, (stage, head) in enumerate(zip(self.rule.stages, self.bbox_head, strict=True)):
            samples = [
                sample_regions(own, target, head.num_classes, stage.match, self.rule.sample)
                for own, target in zip(proposals, targets, strict=True)
            ]
            own_losses, logits, differences = box_losses(head, maps, self.strides, samples, targets, stage)
            if self.mask_head is not None:
                own_losses["loss_mask"] = stage.weight * mask_loss(
                    self.mask_head[number], maps, self.strides, samples, targets
                )
            losses |= {f"s{number}.{name}": value for name, value in own_losses.items()}
            if number + 1 < len(self.bbox_head):
                proposals = refined_samples(head, samples, logits, differences, shapes, stage)
        return losses

    @torch.no_grad()
    def detect(
        self, maps: Sequence[torch.Tensor], proposals: Sequence[torch.Tensor], shapes: Sequence[ImageShape]
    ) -> list[Detections]:
        """The detections of each image among its proposals [P, 4]."""
        counts = [len(own) for own in proposals]
        total = 0
        for number, (stage, head) in enumerate(zip(self.rule.stages, self.bbox_head, strict=True)):
            pooled = pool_regions(maps, with_batch_index(proposals), self.strides, head.region_size)
            logits, differences = head(pooled)
            total = total + in_full_precision(logits)
            logits, differences = logits.split(counts), differences.split(counts)
            if number + 1 < len(self.bbox_head):
                proposals = [
                    head.regress(own, own_differences, own_logits[:, :-1].argmax(1), stage.stds, shape.size)
                    for own, own_differences, own_logits, shape in zip(
                        proposals, differences, logits, shapes, strict=True
                    )
                ]
        scores = (total / len(self.bbox_head)).softmax(-1).split(counts)
        detections = final_detections(head, proposals, scores, differences, shapes, stage.stds, self.rule.detection)
        if self.mask_head is None:
            return detections
        return with_masks(self.mask_head, maps, self.strides, detections, shapes)


@torch.no_grad()
def refined_samples(
    head: BBoxHead,
    samples: Sequence[RegionSample],
    logits: torch.Tensor,
    differences: torch.Tensor,
    shapes: Sequence[ImageShape],
    rule: StageRule,
) -> list[torch.Tensor]:
    """The next stage's proposals in training: the sampled regions of each image, moved, without the objects' own boxes.

    A region moves as predicted for its class; a background region, as predicted for the likeliest class.
    """
    counts = [len(sample.labels) for sample in samples]
    proposals = []
    for sample, own_logits, own_differences, shape in zip(
        samples, logits.split(counts), differences.split(counts), shapes, strict=True
    ):
        is_background = sample.labels == head.num_classes
        labels = torch.where(is_background, own_logits[:, :-1].argmax(1), sample.labels)
        moved = head.regress(sample.regions, own_differences, labels, rule.stds, shape.size)
        is_proposal = torch.ones_like(is_background)
        is_proposal[: len(sample.is_object)] = ~sample.is_object
        proposals.append(moved[is_proposal])
    return proposals
