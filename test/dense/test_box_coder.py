"""Encoding and decoding undo each other, and decoding has limits."""

import torch
from detection_scenes import random_boxes

from dense.box_coder import decode, encode


def test_decoding_undoes_encoding():
    torch.manual_seed(0)
    anchors, boxes = random_boxes(50), random_boxes(50)
    sides = torch.tensor([0.0, 0, 5, 5], dtype=torch.float64)  # no side is near 0
    stds = (0.1, 0.1, 0.2, 0.2)
    torch.testing.assert_close(
        decode(anchors + sides, encode(anchors + sides, boxes + sides, stds), stds), boxes + sides
    )


def test_differences_by_hand():
    anchors, boxes = torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[10.0, 5, 20, 45]])
    expected = torch.tensor([[1.0, 15 / 20, 0.0, torch.tensor(2.0).log()]]) / torch.tensor([0.1, 0.1, 0.2, 0.2])
    torch.testing.assert_close(encode(anchors, boxes, (0.1, 0.1, 0.2, 0.2)), expected)


def test_sides_change_by_a_limited_factor():
    anchor = torch.tensor([[0.0, 0, 16, 16]], dtype=torch.float64)
    huge = decode(anchor, torch.tensor([[0.0, 0, 50, -50]], dtype=torch.float64), (1, 1, 1, 1))
    sides = huge[0, 2:] - huge[0, :2]
    torch.testing.assert_close(sides, torch.tensor([1000, 0.256], dtype=torch.float64))


def test_one_anchor_serves_the_boxes_of_all_classes():
    torch.manual_seed(1)
    anchors, differences = random_boxes(4), torch.randn(4, 3, 4, dtype=torch.float64)
    together = decode(anchors[:, None], differences, (1, 1, 1, 1))
    for number in range(3):
        torch.testing.assert_close(together[:, number], decode(anchors, differences[:, number], (1, 1, 1, 1)))
