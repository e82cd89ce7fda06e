"""Mask R-CNN's second stage: losses of batches with and without objects, detections of batches with and without any."""

import pytest
import torch
from detection_scenes import gradients, second_stage_inputs, without_objects

from dense.assign import MatchRule
from dense.bbox_head import StageRule
from dense.mask_rcnn import MaskRCNNHead
from dense.proposals import DetectionRule
from dense.roi_head import RoIRule, RoISizes
from dense.sample import SampleRule

RULE = RoIRule(sample=SampleRule(16, 0.25), detection=DetectionRule(0.0, 1.0, 10))
SIZES = RoISizes(fc_channels=16, mask_convs=1)


def made_head(rule: RoIRule = RULE, sizes: RoISizes = SIZES) -> MaskRCNNHead:
    torch.manual_seed(0)
    return MaskRCNNHead(8, 3, (8, 16), rule, sizes)


def test_all_parameters_learn_from_a_batch_with_objects():
    head = made_head()
    maps, proposals, shapes, targets = second_stage_inputs()
    losses = head.losses(maps, proposals, shapes, targets)
    assert list(losses) == ["loss_cls", "loss_bbox", "loss_mask"]
    assert all(value.dim() == 0 and value > 0 for value in losses.values())
    assert all(gradient.abs().sum() > 0 for gradient in gradients(head, losses).values())


def test_all_parameters_get_a_gradient_without_objects_and_without_regions():
    head = made_head()
    maps, proposals, shapes, targets = second_stage_inputs()
    targets = [without_objects(target) for target in targets]
    losses = head.losses(maps, proposals, shapes, targets)
    assert losses["loss_cls"] > 0
    assert (losses["loss_bbox"], losses["loss_mask"]) == (0, 0)
    found = gradients(head, losses)
    assert all(gradient is not None for gradient in found.values())
    assert found["bbox_head.fc_cls.weight"].abs().sum() > 0
    losses = head.losses(maps, [own[:0] for own in proposals], shapes, targets)
    assert all(value == 0 for value in losses.values())
    assert all(gradient is not None and not gradient.any() for gradient in gradients(head, losses).values())


def test_an_image_without_objects_beside_one_with_objects():
    head = made_head()
    maps, proposals, shapes, targets = second_stage_inputs()
    losses = head.losses(maps, proposals, shapes, [targets[0], without_objects(targets[1])])
    assert all(value > 0 for value in losses.values())


def test_the_seed_decides_what_is_drawn():
    head = made_head()
    inputs = second_stage_inputs()
    torch.manual_seed(1)
    first, other = head.losses(*inputs), head.losses(*inputs)
    torch.manual_seed(1)
    assert first == head.losses(*inputs)
    assert first["loss_cls"] != other["loss_cls"]


def test_detections_are_the_best_of_the_file():
    head = made_head().eval()
    maps, proposals, shapes, _ = second_stage_inputs()
    with torch.inference_mode():
        found = head.detect(maps, proposals, shapes)
    for detections, shape in zip(found, shapes, strict=True):
        assert detections.boxes.shape == (10, 4)
        assert detections.masks.shape == (10, 28, 28)
        assert (detections.scores.diff() <= 0).all()
        height, width = shape.original or shape.size
        assert (detections.boxes.amin(0) >= 0).all()
        assert (detections.boxes[:, 2:].amax(0) <= torch.tensor([width, height])).all()


def test_an_image_does_not_change_with_its_batch():
    head = made_head().eval()
    maps, proposals, shapes, _ = second_stage_inputs()
    with torch.inference_mode():
        _, together = head.detect(maps, proposals, shapes)
        (alone,) = head.detect([x[1:] for x in maps], proposals[1:], shapes[1:])
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b)


def test_images_without_proposals_or_detections():
    head = made_head().eval()
    maps, proposals, shapes, _ = second_stage_inputs()
    none = [own[:0] for own in proposals]
    for regions in (none, [none[0], proposals[1]]):
        found = head.detect(maps, regions, shapes)
        assert [len(own.boxes) for own in found] == [min(10, 10 * len(own)) for own in regions]
        assert found[0].masks.shape == (0, 28, 28)
    strict = made_head(RULE._replace(detection=DetectionRule(0.99))).eval()
    assert all(len(own.scores) == 0 for own in strict.detect(maps, proposals, shapes))


def test_without_a_mask_head():
    head = made_head(sizes=SIZES._replace(mask_convs=None))
    maps, proposals, shapes, targets = second_stage_inputs()
    targets = [target._replace(masks=None) for target in targets]
    assert list(head.losses(maps, proposals, shapes, targets)) == ["loss_cls", "loss_bbox"]
    assert head.eval().detect(maps, proposals, shapes)[0].masks is None
    assert not any("mask" in name for name in (*head.state_dict(), *head.classifier_names))


def test_a_mask_head_needs_masks():
    head = made_head()
    maps, proposals, shapes, targets = second_stage_inputs()
    with pytest.raises(ValueError, match="the targets have none"):
        head.losses(maps, proposals, shapes, [target._replace(masks=None) for target in targets])


def test_crowds_take_regions_from_the_background_if_asked_for():
    maps, proposals, shapes, targets = second_stage_inputs()
    everywhere = torch.tensor([[0.0, 0, 200, 200]])
    targets = [target._replace(ignored=everywhere) for target in targets]
    far = [torch.tensor([[1.0, 60, 9, 70]]).repeat(8, 1) for _ in proposals]
    rule = RULE._replace(stages=(StageRule(MatchRule(0.5, 0.5, 0.5, ignored_fraction=0.5)),))
    for own_rule, is_learned in ((RULE, True), (rule, False)):
        head = made_head(own_rule)
        torch.nn.init.constant_(head.bbox_head.fc_cls.bias, 0.0)
        with_crowd = head.losses(maps, far, shapes, targets)["loss_cls"]
        alone = head.losses(maps, [own[:0] for own in far], shapes, targets)["loss_cls"]
        assert (with_crowd == alone) == (not is_learned)
