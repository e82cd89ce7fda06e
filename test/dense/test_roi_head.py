"""What the second stages share: boxes of every class, in pixels of the file, and masks of the class that was found."""

import torch

from dense.bbox_head import BBoxHead
from dense.box_coder import decode
from dense.mask_head import MaskHead
from dense.proposals import DetectionRule
from dense.roi_head import CASCADE_STAGES, RoISizes, final_detections, with_masks
from dense.roi_pooling import pool_regions
from dense.structures import Detections, ImageShape

SHAPES = [ImageShape((60, 80), (2.0, 1.5)), ImageShape((50, 80), (1.0, 1.0))]


def test_a_region_can_be_several_classes_each_with_its_own_box():
    torch.manual_seed(0)
    head = BBoxHead(4, 3, fc_channels=8)
    regions = [torch.tensor([[10.0, 10, 40, 50]]), torch.tensor([[0.0, 0, 20, 20], [30.0, 30, 70, 45]])]
    scores = [torch.tensor([[0.3, 0.1, 0.4, 0.2]]), torch.tensor([[0.0, 0.0, 0.0, 1.0], [0.01, 0.9, 0.04, 0.05]])]
    differences = [torch.randn(1, 12), torch.randn(2, 12)]
    rule, stds = DetectionRule(0.05, 0.5, 100), (0.1, 0.1, 0.2, 0.2)
    first, second = final_detections(head, regions, scores, differences, SHAPES, stds, rule)
    assert first.labels.tolist() == [2, 0, 1]
    torch.testing.assert_close(first.scores, torch.tensor([0.4, 0.3, 0.1]))
    for box, label in zip(first.boxes, first.labels, strict=True):
        own = decode(regions[0][0], differences[0][0, 4 * label : 4 * label + 4], stds)
        own = own.clamp(min=0).minimum(torch.tensor([80.0, 60, 80, 60]))
        torch.testing.assert_close(box, own / torch.tensor([2.0, 1.5, 2.0, 1.5]))
    assert second.labels.tolist() == [1]
    assert second.masks is None


def test_masks_are_the_mean_probability_of_the_heads_at_the_found_class():
    torch.manual_seed(1)
    heads = [MaskHead(8, 3), MaskHead(8, 3)]
    maps = [torch.randn(2, 8, 15, 20)]
    boxes = [torch.tensor([[3.0, 4, 20, 30], [1.0, 2, 30, 33]]), torch.tensor([[5.0, 5, 60, 45]])]
    labels = [torch.tensor([2, 0]), torch.tensor([1])]
    found = [Detections(own, torch.ones(len(own)), label) for own, label in zip(boxes, labels, strict=True)]
    result = with_masks(heads, maps, (4,), found, SHAPES)
    for image, (detections, shape) in enumerate(zip(result, SHAPES, strict=True)):
        regions = boxes[image] * torch.tensor(shape.scale * 2)
        pooled = pool_regions(
            [maps[0][image : image + 1]], torch.cat((torch.zeros(len(regions), 1), regions), 1), (4,), 14
        )
        for row, label in enumerate(labels[image]):
            mean = sum(head(pooled)[row, label].sigmoid() for head in heads) / 2
            torch.testing.assert_close(detections.masks[row], mean)


def test_the_cascades_stages_want_ever_closer_regions():
    assert [stage.match.positive_iou for stage in CASCADE_STAGES] == [0.5, 0.6, 0.7]
    assert [stage.weight for stage in CASCADE_STAGES] == [1.0, 0.5, 0.25]
    assert CASCADE_STAGES[2].stds == (0.033, 0.033, 0.067, 0.067)
    assert not any(stage.match.low_quality_matches for stage in CASCADE_STAGES)


def test_sizes_reach_the_heads():
    sizes = RoISizes(box_convs=3, box_fcs=1, fc_channels=32, box_norm="group", mask_convs=2, mask_norm="group")
    box, mask = sizes.bbox_head(16, 5), sizes.mask_head(16, 5)
    assert (len(box.shared_convs), len(box.shared_fcs), box.fc_cls.in_features) == (3, 1, 32)
    assert "shared_convs.0.gn.weight" in box.state_dict()
    assert "convs.1.gn.weight" in mask.state_dict()
