"""The head for boxes: layers, losses by hand, decoding."""

import pytest
import torch
import torch.nn.functional as F
from detection_scenes import random_boxes
from torchvision.ops import generalized_box_iou_loss

from dense.bbox_head import BBoxHead, StageRule
from dense.box_coder import decode, encode
from dense.regions import RegionSample
from dense.structures import Targets


def made_samples(num_classes: int = 3) -> tuple[list[RegionSample], list[Targets]]:
    """Two images with 3 and 1 positive regions of 7 and 5."""
    torch.manual_seed(0)
    samples, targets = [], []
    for num_positive, number in ((3, 7), (1, 5)):
        boxes = random_boxes(2).float() + torch.tensor([0.0, 0, 5, 5])
        labels = torch.randint(num_classes, (2,))
        objects = torch.randint(2, (num_positive,))
        background = torch.full((number - num_positive,), num_classes)
        regions = random_boxes(number).float() + torch.tensor([0.0, 0, 5, 5])
        regions[:num_positive] = boxes[objects] + torch.rand(num_positive, 4)
        own = torch.cat((labels[objects], background))
        samples.append(RegionSample(regions, own, objects, torch.zeros(num_positive, dtype=torch.bool)))
        targets.append(Targets(boxes, labels))
    return samples, targets


@pytest.mark.parametrize("rule", [StageRule(), StageRule(regression="giou", regression_weight=10, weight=0.5)])
def test_losses_are_means_over_all_regions(rule):
    samples, targets = made_samples()
    head = BBoxHead(4, 3, fc_channels=8)
    logits, differences = torch.randn(12, 4), torch.randn(12, 12)
    losses = head.losses(logits, differences, samples, targets, rule)
    labels = torch.cat([sample.labels for sample in samples])
    torch.testing.assert_close(losses["loss_cls"], rule.weight * F.cross_entropy(logits, labels))
    expected, row = 0, 0
    for sample, target in zip(samples, targets, strict=True):
        for region, label, number in zip(sample.regions, sample.labels, sample.objects, strict=False):
            chosen = differences[row, 4 * label : 4 * label + 4]
            if rule.regression == "giou":
                expected += generalized_box_iou_loss(decode(region, chosen, rule.stds), target.boxes[number])
            else:
                expected += (chosen - encode(region, target.boxes[number], rule.stds)).abs().sum()
            row += 1
        row += len(sample.labels) - len(sample.objects)
    expected *= rule.weight * rule.regression_weight / 12
    torch.testing.assert_close(losses["loss_bbox"], expected)


def test_layers_and_their_names():
    head = BBoxHead(8, 3, num_convs=2, num_fcs=1, fc_channels=16, norm="batch")
    assert {name: tuple(tensor.shape) for name, tensor in head.named_parameters()} == {
        **{f"shared_convs.{i}.conv.weight": (8, 8, 3, 3) for i in range(2)},
        **{f"shared_convs.{i}.bn.{name}": (8,) for i in range(2) for name in ("weight", "bias")},
        "shared_fcs.0.weight": (16, 8 * 49),
        "shared_fcs.0.bias": (16,),
        "fc_cls.weight": (4, 16),
        "fc_cls.bias": (4,),
        "fc_reg.weight": (12, 16),
        "fc_reg.bias": (12,),
    }
    logits, differences = head(torch.randn(5, 8, 7, 7))
    assert (logits.shape, differences.shape) == ((5, 4), (5, 12))


def test_regions_move_by_the_differences_of_their_class_and_stay_inside_the_image():
    torch.manual_seed(1)
    head = BBoxHead(4, 3, fc_channels=8)
    regions, differences, labels = random_boxes(6), torch.randn(6, 12).double(), torch.tensor([0, 2, 1, 1, 0, 2])
    moved = head.regress(regions, differences, labels, (0.1, 0.1, 0.2, 0.2), (30, 40))
    for row, label in enumerate(labels):
        free = decode(regions[row], differences[row, 4 * label : 4 * label + 4], (0.1, 0.1, 0.2, 0.2))
        torch.testing.assert_close(moved[row], free.clamp(min=0).minimum(torch.tensor([40, 30, 40, 30])))


def test_without_positive_regions_and_without_any_all_parameters_get_a_gradient():
    samples, targets = made_samples()
    samples = [
        sample._replace(labels=torch.full_like(sample.labels, 3), objects=sample.objects[:0]) for sample in samples
    ]
    head = BBoxHead(4, 3, fc_channels=8)
    losses = head.losses(*head(torch.randn(12, 4, 7, 7)), samples, targets, StageRule())
    assert losses["loss_bbox"] == 0
    for own in (losses, head.no_losses()):
        head.zero_grad()
        sum(own.values()).backward()
        assert all(parameter.grad is not None for parameter in head.parameters())


def test_a_new_classifier_leaves_the_rest():
    head = BBoxHead(4, 3, fc_channels=8)
    before = head.shared_fcs[0].weight.clone()
    head.reset_classifier(7)
    assert (head.fc_cls.out_features, head.fc_reg.out_features, head.num_classes) == (8, 28, 7)
    assert torch.equal(head.shared_fcs[0].weight, before)
