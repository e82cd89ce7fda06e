"""The second stage of Mask R-CNN and, without masks, of Faster R-CNN.

Paper: He et al., Mask R-CNN, ICCV 2017, https://arxiv.org/abs/1703.06870
Reference: OpenMMLab's mmdetection 2.25 with EurNet's and HorNet's configurations; parameter names are mmdetection's.
"""

from collections.abc import Sequence

import torch
from torch import nn

from dense.boxes import in_full_precision
from dense.regions import sample_regions
from dense.roi_head import RoIRule, RoISizes, box_losses, final_detections, mask_loss, with_masks
from dense.roi_pooling import pool_regions, with_batch_index
from dense.structures import Detections, ImageShape, Targets


class MaskRCNNHead(nn.Module):
    """A head for boxes and one for masks, each reading regions from the maps of the pyramid.

    Args:
        num_channels: of the maps.
        num_classes: K.
        strides: of the levels that regions are read from.
        rule: with one stage.
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
        (self.stage,) = rule.stages
        self.bbox_head = sizes.bbox_head(num_channels, num_classes)
        self.mask_head = None
        self.classifier_names = ("bbox_head.fc_cls.", "bbox_head.fc_reg.")
        if sizes.mask_convs is not None:
            self.mask_head = sizes.mask_head(num_channels, num_classes)
            self.classifier_names += ("mask_head.conv_logits.",)

    def reset_classifier(self, num_classes: int) -> None:
        """Puts new, untrained output layers on the heads."""
        for head in filter(None, (self.bbox_head, self.mask_head)):
            head.reset_classifier(num_classes)

    def losses(
        self,
        maps: Sequence[torch.Tensor],
        proposals: Sequence[torch.Tensor],
        shapes: Sequence[ImageShape],
        targets: Sequence[Targets],
    ) -> dict[str, torch.Tensor]:
        """`loss_cls`, `loss_bbox` and `loss_mask` for proposals [P, 4] of each image."""
        samples = [
            sample_regions(own, target, self.bbox_head.num_classes, self.stage.match, self.rule.sample)
            for own, target in zip(proposals, targets, strict=True)
        ]
        losses, _, _ = box_losses(self.bbox_head, maps, self.strides, samples, targets, self.stage)
        if self.mask_head is not None:
            losses["loss_mask"] = mask_loss(self.mask_head, maps, self.strides, samples, targets)
        return losses

    @torch.no_grad()
    def detect(
        self, maps: Sequence[torch.Tensor], proposals: Sequence[torch.Tensor], shapes: Sequence[ImageShape]
    ) -> list[Detections]:
        """The detections of each image among its proposals [P, 4]."""
        counts = [len(own) for own in proposals]
        pooled = pool_regions(maps, with_batch_index(proposals), self.strides, self.bbox_head.region_size)
        logits, differences = self.bbox_head(pooled)
        scores = in_full_precision(logits).softmax(-1)
        detections = final_detections(
            self.bbox_head,
            proposals,
            scores.split(counts),
            differences.split(counts),
            shapes,
            self.stage.stds,
            self.rule.detection,
        )
        if self.mask_head is None:
            return detections
        return with_masks([self.mask_head], maps, self.strides, detections, shapes)
