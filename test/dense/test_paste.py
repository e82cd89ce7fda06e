"""Pasted masks against a pixel-by-pixel computation."""

import math

import pytest
import torch
from detection_scenes import random_boxes

from dense.paste import _paste, paste_masks


def paste_by_loops(mask, box, size):
    """Bilinear between the centres of the mask's cells, 0 outside of the mask."""
    rows, columns = mask.shape
    x1, y1, x2, y2 = box.tolist()
    values = torch.zeros(size)
    for i in range(size[0]):
        for j in range(size[1]):
            y = (i + 0.5 - y1) / (y2 - y1) * rows - 0.5
            x = (j + 0.5 - x1) / (x2 - x1) * columns - 0.5
            for r in (math.floor(y), math.floor(y) + 1):
                for c in (math.floor(x), math.floor(x) + 1):
                    if 0 <= r < rows and 0 <= c < columns:
                        values[i, j] += (1 - abs(y - r)) * (1 - abs(x - c)) * mask[r, c]
    return values


def test_masks_are_stretched_over_their_boxes():
    torch.manual_seed(0)
    masks, boxes = torch.rand(6, 5, 5), random_boxes(6, 30) - 4
    pasted = paste_masks(masks, boxes, (24, 19))
    assert pasted.shape == (6, 24, 19)
    for mask, box, found in zip(masks, boxes, pasted, strict=True):
        expected = paste_by_loops(mask, box, (24, 19))
        clear = (expected - 0.5).abs() > 1e-5
        assert torch.equal(found[clear], (expected >= 0.5)[clear])
    assert 0 < pasted.sum() < pasted.numel() / 2


def test_a_full_mask_covers_its_box():
    pasted = paste_masks(torch.ones(1, 28, 28), torch.tensor([[3.0, 2, 11, 8]]), (20, 20))
    expected = torch.zeros(1, 20, 20, dtype=torch.bool)
    expected[:, 2:8, 3:11] = True
    assert torch.equal(pasted, expected)


def test_the_threshold():
    masks, boxes = torch.full((1, 28, 28), 0.4), torch.tensor([[0.0, 0, 10, 10]])
    assert paste_masks(masks, boxes, (10, 10)).sum() == 0
    assert paste_masks(masks, boxes, (10, 10), threshold=0.3).sum() > 80


@pytest.mark.parametrize("box", [[30.0, 30, 40, 40], [-9.0, -9, -5, -5], [5.0, 5, 5, 5], [5.2, 5.2, 5.2, 9.0]])
def test_boxes_outside_of_the_image_or_without_area_mark_next_to_nothing(box):
    assert paste_masks(torch.ones(1, 28, 28), torch.tensor([box]), (20, 20)).sum() <= 20


def test_many_boxes_at_once_give_the_same_as_one_by_one():
    """A GPU takes them together, a CPU one by one, each within its own part of the image."""
    torch.manual_seed(1)
    masks, boxes = torch.rand(9, 28, 28), random_boxes(9, 40).float()
    together = torch.zeros(9, 33, 47, dtype=torch.bool)
    _paste(masks, boxes, together, 0.5)
    assert (together != paste_masks(masks, boxes, (33, 47))).sum() <= 1  # rounding at the threshold


def test_no_masks():
    assert paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), (7, 9)).shape == (0, 7, 9)
