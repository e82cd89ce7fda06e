"""Whole detectors of two stages, on a backbone of two convolutions: losses, detections, precision, training."""

import pytest
import torch
from detection_scenes import gradients, made_batch, without_objects
from torch import nn

from dense.anchors import AnchorRule
from dense.cascade import CascadeHead
from dense.fpn import FPN
from dense.mask_rcnn import MaskRCNNHead
from dense.paste import paste_masks
from dense.proposals import DetectionRule, ProposalRule
from dense.roi_head import CASCADE_STAGES, RoIRule, RoISizes
from dense.rpn import RPNHead, RPNRule
from dense.sample import SampleRule
from dense.structures import ImageShape
from dense.two_stage import TwoStageDetector

RPN = RPNRule(
    AnchorRule((4.0,)), sample=SampleRule(64, 0.5), train_proposals=ProposalRule(60, 24),
    test_proposals=ProposalRule(60, 24),
)  # fmt: skip
SIZES = RoISizes(fc_channels=64, mask_convs=1)


class Pyramid(nn.Module):
    """Strides 8 and 16."""

    def __init__(self, width: int = 32):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 8, 8)
        self.down = nn.Conv2d(width, width, 3, 2, 1)

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = self.stem(x).relu()
        return [x, self.down(x).relu()]


def made_detector(kind: str = "mask_rcnn", score_threshold: float = 0.05) -> TwoStageDetector:
    torch.manual_seed(0)
    rule = DetectionRule(score_threshold, max_per_image=20)
    neck = FPN((32, 32), (8, 16), 32, 3)
    rpn = RPNHead(32, neck.strides, RPN)
    if kind == "cascade":
        sizes = SIZES._replace(box_convs=1, box_fcs=1, box_norm="batch")
        head = CascadeHead(32, 3, (8, 16), RoIRule(CASCADE_STAGES, SampleRule(32, 0.25), rule), sizes)
    else:
        head = MaskRCNNHead(32, 3, (8, 16), RoIRule(sample=SampleRule(32, 0.25), detection=rule), SIZES)
    return TwoStageDetector(Pyramid(), neck, rpn, head)


@pytest.mark.parametrize("kind", ["mask_rcnn", "cascade"])
def test_every_parameter_gets_a_gradient_with_and_without_objects(kind):
    images, shapes, targets = made_batch()
    model = made_detector(kind)
    for own in (targets, [without_objects(target) for target in targets]):
        losses = model(images, shapes, own)
        assert list(losses)[:2] == ["loss_rpn_cls", "loss_rpn_bbox"]
        found = gradients(model, losses)
        assert all(gradient is not None and gradient.isfinite().all() for gradient in found.values())


@pytest.mark.parametrize("kind", ["mask_rcnn", "cascade"])
def test_bfloat16_losses_and_detections_are_finite_and_in_single_precision(kind):
    images, shapes, targets = made_batch()
    model = made_detector(kind, 0.0)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(images, shapes, targets)
        found = model.eval()(images, shapes)
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())
    assert all(gradient.isfinite().all() for gradient in gradients(model, losses).values())
    for detections in found:
        assert len(detections.scores) > 0
        assert detections.boxes.dtype == detections.scores.dtype == detections.masks.dtype == torch.float32
        assert detections.is_finite
        assert all(field.isfinite().all() for field in detections[:4])


@pytest.mark.parametrize("kind", ["mask_rcnn", "cascade"])
def test_networks_in_float64_stay_there(kind):
    images, shapes, targets = made_batch()
    model = made_detector(kind).double()
    assert all(value.dtype == torch.float64 for value in model(images.double(), shapes, targets).values())


@pytest.mark.parametrize("kind", ["mask_rcnn", "cascade"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_an_image_with_outputs_that_are_not_finite_is_marked(kind, value):
    images, shapes, _ = made_batch()
    model = made_detector(kind, 0.0).eval()
    with torch.inference_mode():
        for images_to_spoil, expected in (((), [True, True]), ((1,), [True, False])):
            for image in images_to_spoil:
                images[image, 0, 30, 30] = value
            found = model(images, shapes)
            assert [bool(own.is_finite) for own in found] == expected
            assert all(field.isfinite().all() for own in found for field in own[:4])


@pytest.mark.parametrize("kind", ["mask_rcnn", "cascade"])
@pytest.mark.parametrize("part", ["rpn_head.rpn_cls", "rpn_head.rpn_reg", "fc_cls", "fc_reg", "conv_logits"])
def test_a_head_that_is_not_finite_is_marked_and_finds_nothing(kind, part):
    images, shapes, targets = made_batch()
    model = made_detector(kind, 0.0)
    for name, parameter in model.named_parameters():
        if part in name:
            parameter.data.fill_(torch.nan)
    losses = model(images, shapes, targets)
    assert not sum(losses.values()).isfinite()
    found = model.eval()(images, shapes)
    assert not any(own.is_finite for own in found)
    assert part == "conv_logits" or all(len(own.scores) == 0 for own in found)


def test_padding_does_not_change_what_is_found():
    images, shapes, _ = made_batch()
    model = made_detector(score_threshold=0.0).eval()
    wider = torch.nn.functional.pad(images, (0, 32, 0, 64))
    with torch.inference_mode():
        both = model(images, shapes), model(wider, shapes)
    for narrow, wide in zip(*both, strict=True):
        assert (narrow.boxes[:, 2] <= 104).all()
        assert len(wide.scores) == len(narrow.scores) == 20


def test_images_are_whole_unless_said_otherwise():
    images, _, _ = made_batch()
    model = made_detector(score_threshold=0.0).eval()
    with torch.inference_mode():
        for found, expected in zip(model(images), model(images, [ImageShape((72, 104))] * 2), strict=True):
            assert torch.equal(found.boxes, expected.boxes)


def test_a_few_steps_of_training_find_the_rectangles():
    images, shapes, targets = made_batch()
    model = made_detector(score_threshold=0.5)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    first = None
    for _ in range(60):
        losses = model(images, shapes, targets)
        total = sum(losses.values())
        first = first or total.item()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert total < 0.3 * first
    with torch.inference_mode():
        found = model.eval()(images, shapes)
    for detections, target, shape in zip(found, targets, shapes, strict=True):
        assert set(detections.labels.tolist()) == set(target.labels.tolist())
        best = torch.stack([(detections.labels == label).nonzero()[0, 0] for label in target.labels])
        boxes = detections.boxes[best] * torch.tensor(shape.scale * 2)
        assert (boxes - target.boxes).abs().max() < 10
        masks, drawn = paste_masks(detections.masks[best], boxes, shape.size), target.masks.bool()
        assert ((masks & drawn).sum((1, 2)) / (masks | drawn).sum((1, 2))).min() > 0.7
