"""What the second stages of Mask R-CNN and Cascade R-CNN share: their parts, and the last steps of detection."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from dense.assign import MatchRule
from dense.bbox_head import BBoxHead, StageRule
from dense.mask_head import MaskHead, masks_of
from dense.proposals import DetectionRule, select_detections
from dense.regions import RegionSample
from dense.roi_pooling import pool_regions, with_batch_index
from dense.sample import SampleRule
from dense.structures import Detections, ImageShape, Targets


class RoIRule(NamedTuple):
    """How the second stage learns, and which detections it keeps."""

    stages: tuple[StageRule, ...] = (StageRule(),)
    sample: SampleRule = SampleRule(512, 0.25)
    detection: DetectionRule = DetectionRule()


def cascade_stage(iou: float, stds: tuple[float, float], weight: float) -> StageRule:
    """A stage of HorNet's cascades: matches from `iou` on; `stds` of centers and sides."""
    match = MatchRule(iou, iou, iou, low_quality_matches=False)
    return StageRule(match, (stds[0], stds[0], stds[1], stds[1]), "giou", 10.0, weight)


CASCADE_STAGES = (
    cascade_stage(0.5, (0.1, 0.2), 1.0),
    cascade_stage(0.6, (0.05, 0.1), 0.5),
    cascade_stage(0.7, (0.033, 0.067), 0.25),
)


class RoISizes(NamedTuple):
    """Layers of the heads."""

    box_convs: int = 0
    box_fcs: int = 2
    fc_channels: int = 1024
    box_norm: str | None = None
    """Of the box heads' convolutions, see `dense.layers.NORMS`."""
    mask_convs: int | None = 4
    """None: no mask head."""
    mask_norm: str | None = None

    def bbox_head(self, num_channels: int, num_classes: int) -> BBoxHead:
        return BBoxHead(num_channels, num_classes, self.box_convs, self.box_fcs, self.fc_channels, self.box_norm)

    def mask_head(self, num_channels: int, num_classes: int) -> MaskHead:
        return MaskHead(num_channels, num_classes, self.mask_convs, self.mask_norm)


def box_losses(
    head: BBoxHead,
    maps: Sequence[torch.Tensor],
    strides: Sequence[int],
    samples: Sequence[RegionSample],
    targets: Sequence[Targets],
    rule: StageRule,
) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """A stage's losses for boxes, and its logits [N, K + 1] and differences [N, 4 K] for all sampled regions."""
    regions = with_batch_index([sample.regions for sample in samples])
    if len(regions) == 0:  # batch norm does not accept an empty batch
        empty = regions.new_zeros(0, head.num_classes + 1), regions.new_zeros(0, 4 * head.num_classes)
        return head.no_losses(), *empty
    logits, differences = head(pool_regions(maps, regions, strides, head.region_size))
    return head.losses(logits, differences, samples, targets, rule), logits, differences


def mask_loss(
    head: MaskHead,
    maps: Sequence[torch.Tensor],
    strides: Sequence[int],
    samples: Sequence[RegionSample],
    targets: Sequence[Targets],
) -> torch.Tensor:
    """A stage's loss for masks, not yet weighted."""
    regions = with_batch_index([sample.positive for sample in samples])
    if len(regions) == 0:
        return head.no_loss()
    return head.loss(head(pool_regions(maps, regions, strides, head.region_size)), samples, targets)


def final_detections(
    head: BBoxHead,
    regions: Sequence[torch.Tensor],
    scores: Sequence[torch.Tensor],
    differences: Sequence[torch.Tensor],
    shapes: Sequence[ImageShape],
    stds: Sequence[float],
    rule: DetectionRule,
) -> list[Detections]:
    """The detections of each image, without masks.

    Args:
        regions, scores, differences: of each image, [N, 4], [N, K + 1] from 0 to 1, and [N, 4 K].
        stds: of the stage that computed the differences.
    """
    detections = []
    for own_regions, own_scores, own_differences, shape in zip(regions, scores, differences, shapes, strict=True):
        finite = own_scores.isfinite().all(1) & own_differences.isfinite().all(1)
        row, label = ((own_scores[:, :-1] > rule.score_threshold) & finite[:, None]).nonzero(as_tuple=True)
        boxes = head.regress(own_regions[row], own_differences[row], label, stds, shape.size)
        boxes = boxes / boxes.new_tensor(shape.scale * 2)
        found = Detections(*select_detections(boxes, own_scores[row, label], label, rule), is_finite=finite.all())
        detections.append(found)
    return detections


def with_masks(
    heads: Sequence[MaskHead],
    maps: Sequence[torch.Tensor],
    strides: Sequence[int],
    detections: Sequence[Detections],
    shapes: Sequence[ImageShape],
) -> list[Detections]:
    """The same detections with masks, the mean of the heads' probabilities."""
    boxes = [
        found.boxes * found.boxes.new_tensor(shape.scale * 2) for found, shape in zip(detections, shapes, strict=True)
    ]
    labels = torch.cat([found.labels for found in detections])
    pooled = pool_regions(maps, with_batch_index(boxes), strides, heads[0].region_size)
    masks = torch.stack([masks_of(head(pooled), labels).float().sigmoid() for head in heads]).mean(0)
    counts = [len(found.labels) for found in detections]
    return [
        found._replace(masks=own, is_finite=found.is_finite & own.isfinite().all())
        for found, own in zip(detections, masks.split(counts), strict=True)
    ]
