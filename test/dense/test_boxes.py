"""Overlaps against torchvision's, and where boxes have no area."""

import torch
from detection_scenes import random_boxes
from torchvision.ops import box_iou, clip_boxes_to_image

from dense.boxes import (
    clip_boxes,
    covered_fraction,
    finite_images,
    has_area,
    in_full_precision,
    intersection,
    pairwise_iou,
)


def test_overlaps_are_torchvisions():
    torch.manual_seed(0)
    first, second = random_boxes(40), random_boxes(30)
    torch.testing.assert_close(pairwise_iou(first, second), box_iou(first, second))


def test_the_covered_fraction_is_the_shared_area_of_the_box():
    box = torch.tensor([[0.0, 0, 10, 10]])
    regions = torch.tensor([[5.0, 5, 30, 30], [-5.0, -5, 50, 50], [20.0, 20, 30, 30]])
    assert covered_fraction(box, regions).tolist() == [[0.25, 1.0, 0.0]]


def test_boxes_without_area_overlap_with_nothing():
    point = torch.tensor([[3.0, 3, 3, 3]])
    assert pairwise_iou(point, point).tolist() == [[0.0]]
    assert covered_fraction(point, torch.tensor([[0.0, 0, 9, 9]])).tolist() == [[0.0]]
    assert intersection(point.new_zeros(0, 4), point).shape == (0, 1)


def test_boxes_have_an_area_if_both_sides_are_positive():
    boxes = torch.tensor([[0.0, 0, 1, 1], [0.0, 0, 0, 1], [0.0, 1, 1, 1], [1.0, 1, 0, 0], [0.0, 0, torch.nan, 1]])
    assert has_area(boxes).tolist() == [True, False, False, False, False]


def test_clipping_is_torchvisions_for_one_and_for_several_images():
    torch.manual_seed(1)
    boxes = random_boxes(20, 80) - 20
    torch.testing.assert_close(clip_boxes(boxes, (30, 25)), clip_boxes_to_image(boxes, (30, 25)))
    both = clip_boxes(torch.stack((boxes, boxes)), torch.tensor([[30, 25], [9, 40]])[:, None])
    torch.testing.assert_close(both[0], clip_boxes_to_image(boxes, (30, 25)))
    torch.testing.assert_close(both[1], clip_boxes_to_image(boxes, (9, 40)))


def test_images_with_a_value_that_is_not_finite():
    outputs = torch.zeros(4, 2, 3, 3), torch.zeros(4, 5)
    outputs[0][1, 0, 2, 2], outputs[1][3, 4] = torch.nan, torch.inf
    assert finite_images(outputs).tolist() == [True, False, True, False]


def test_half_precision_becomes_single_and_double_stays():
    assert in_full_precision(torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert in_full_precision(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64
