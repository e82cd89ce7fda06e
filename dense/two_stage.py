"""Two-stage detectors: first regions, then the object in each."""

from collections.abc import Sequence

import torch
from torch import nn

from dense.boxes import finite_images
from dense.structures import Detections, ImageShape, Targets


class TwoStageDetector(nn.Module):
    """Backbone, neck, region proposals, and a head for regions.

    Args:
        backbone: has `forward_pyramid`.
        neck: levels to maps, see `dense.fpn`.
        rpn_head: `dense.rpn.RPNHead`.
        roi_head: `dense.mask_rcnn.MaskRCNNHead` or `dense.cascade.CascadeHead`.

    Shapes: images [B, 3, H, W], normalized and padded on the right and at the bottom. With targets, to the losses by
    name, each a scalar; without, to the detections of each image, in pixels of its file.
    """

    def __init__(self, backbone: nn.Module, neck: nn.Module, rpn_head: nn.Module, roi_head: nn.Module):
        super().__init__()
        self.backbone, self.neck, self.rpn_head, self.roi_head = backbone, neck, rpn_head, roi_head
        self.classifier_names = tuple(f"roi_head.{name}" for name in roi_head.classifier_names)

    @property
    def num_classes(self) -> int:
        """K, without the background."""
        heads = self.roi_head.bbox_head
        return (heads[0] if isinstance(heads, nn.ModuleList) else heads).num_classes

    def reset_classifier(self, num_classes: int) -> None:
        """Puts new, untrained output layers for this many classes on the heads."""
        self.roi_head.reset_classifier(num_classes)

    def forward(
        self,
        images: torch.Tensor,
        shapes: Sequence[ImageShape] | None = None,
        targets: Sequence[Targets] | None = None,
    ) -> dict[str, torch.Tensor] | list[Detections]:
        """Leave out `shapes` for images without padding that were not resized."""
        if len(images) == 0 and targets is None:
            return []
        shapes = shapes or whole_images(images)
        maps = self.neck(self.backbone.forward_pyramid(images))
        regions = self.rpn_head(maps)
        proposals = self.rpn_head.proposals(regions, shapes)
        if targets is None:
            detections = self.roi_head.detect(maps, proposals, shapes)
            finite = finite_images((*regions.scores, *regions.differences))
            return [
                found._replace(is_finite=found.is_finite & own) for found, own in zip(detections, finite, strict=True)
            ]
        losses = self.rpn_head.losses(regions, shapes, targets, tuple(images.shape[-2:]))
        return losses | self.roi_head.losses(maps, proposals, shapes, targets)


def whole_images(images: torch.Tensor) -> list[ImageShape]:
    """The shapes of images [B, 3, H, W] that fill their batch."""
    return [ImageShape(tuple(images.shape[-2:])) for _ in images]
