"""Losses against torchvision's and against their definitions."""

import torch
import torch.nn.functional as F
from detection_scenes import random_boxes
from torch import nn
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from dense.losses import binary_cross_entropy, connected_zero, cross_entropy, giou, sigmoid_focal, smooth_l1


def test_smooth_l1_is_quadratic_near_zero():
    prediction, target = torch.tensor([0.0, 0.05, 1.0]), torch.zeros(3)
    beta = 0.1
    torch.testing.assert_close(smooth_l1(prediction, target, beta), torch.tensor(0.05**2 / 2 / beta + 1 - beta / 2))
    torch.testing.assert_close(smooth_l1(prediction, target), torch.tensor(1.05))


def test_generalized_iou_is_torchvisions():
    torch.manual_seed(0)
    first, second = random_boxes(60) * 1.0, random_boxes(60)
    torch.testing.assert_close(giou(first, second), generalized_box_iou_loss(first, second, reduction="sum"))


def test_generalized_iou_of_boxes_without_area_is_finite():
    point = torch.tensor([[3.0, 3, 3, 3]], requires_grad=True)
    loss = giou(point, torch.tensor([[3.0, 3, 3, 3]]))
    loss.backward()
    assert loss.isfinite()
    assert point.grad.isfinite().all()


def test_focal_loss_is_torchvisions():
    torch.manual_seed(1)
    logits, target = 3 * torch.randn(20, 5, dtype=torch.float64), torch.rand(20, 5) < 0.2
    expected = sigmoid_focal_loss(logits, target.double(), 0.3, 1.5, reduction="sum")
    torch.testing.assert_close(sigmoid_focal(logits, target, 0.3, 1.5), expected)


def test_half_precision_is_summed_in_single():
    torch.manual_seed(2)
    logits = torch.randn(4096, 9).bfloat16()
    labels, ones = torch.arange(4096) % 9, torch.ones(4096, 9)
    for loss, expected in (
        (cross_entropy(logits, labels), F.cross_entropy(logits.float(), labels, reduction="sum")),
        (binary_cross_entropy(logits, ones), F.softplus(-logits.float()).sum()),
        (smooth_l1(logits, ones), (logits.float() - 1).abs().sum()),
        (sigmoid_focal(logits, ones, 1.0, 0.0), F.softplus(-logits.float()).sum()),
    ):
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, expected)


def test_zero_connects_all_parameters():
    layer = nn.Linear(3, 2)
    connected_zero(layer.parameters()).backward()
    assert all(torch.equal(parameter.grad, torch.zeros_like(parameter)) for parameter in layer.parameters())
