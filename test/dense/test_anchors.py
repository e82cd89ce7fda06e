"""Anchors written out by hand, and which of them an image is learned from."""

import math

import torch

from dense.anchors import (
    AnchorRule,
    base_anchors,
    flatten_maps,
    grid_anchors,
    inside_image,
    inside_padding,
    pyramid_anchors,
    usable_anchors,
)


def test_shapes_have_one_area_and_centres_at_the_corners_of_cells():
    base = base_anchors(4, (8.0,), (0.5, 1.0, 2.0))
    wide, tall = 32 * math.sqrt(2), 32 / math.sqrt(2)
    expected = torch.tensor(
        [[-wide, -tall, wide, tall], [-32.0, -32, 32, 32], [-tall, -wide, tall, wide]], dtype=torch.float64
    )
    torch.testing.assert_close(base.double(), expected / 2, rtol=1e-6, atol=0)


def test_ratios_come_before_scales():
    base = base_anchors(2, (1.0, 3.0), (1.0, 4.0))
    sides = (base[:, 2:] - base[:, :2]).tolist()
    assert sides == [[2.0, 2.0], [6.0, 6.0], [1.0, 4.0], [3.0, 12.0]]


def test_the_grid_goes_row_by_row_with_all_anchors_of_a_position_together():
    base = torch.tensor([[-1.0, -1, 1, 1], [-2.0, -1, 2, 1]])
    anchors = grid_anchors(base, (2, 3), 8)
    expected = [
        [x + left, y + top, x + right, y + bottom]
        for y in (0, 8)
        for x in (0, 8, 16)
        for left, top, right, bottom in base.tolist()
    ]
    assert anchors.tolist() == expected


def test_maps_are_flattened_in_the_order_of_the_anchors():
    x = torch.arange(2 * 6 * 2 * 3).reshape(2, 6, 2, 3)  # three anchors of two values
    (flat,) = flatten_maps([x], 2)
    assert flat.shape == (2, 18, 2)
    for row, column, anchor, value in ((0, 0, 0, 0), (1, 2, 1, 1), (0, 1, 2, 0)):
        assert flat[1, (row * 3 + column) * 3 + anchor, value] == x[1, anchor * 2 + value, row, column]


def test_positions_beyond_the_padded_image_are_left_out():
    inside = inside_padding((4, 5), 2, 8, padded=(20, 32))
    assert inside.reshape(4, 5, 2).all(-1).tolist() == [[True] * 4 + [False]] * 3 + [[False] * 5]


def test_a_border_limits_how_far_anchors_stick_out():
    anchors = torch.tensor([[0.0, 0, 9, 9], [-1.0, 0, 5, 5], [0.0, 0, 10, 5], [0.0, -3, 5, 5]])
    assert inside_image(anchors, (10, 10), 0).tolist() == [True, False, False, False]
    assert inside_image(anchors, (10, 10), 2).tolist() == [True, True, True, False]
    assert inside_image(anchors, (10, 10), -1).tolist() == [True] * 4


def test_usable_anchors_are_those_inside_the_padding_and_the_border():
    maps = [torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 4, 4)]
    rule = AnchorRule(scales=(1.0,), ratios=(1.0,), pad_multiple=16)
    anchors = torch.cat(pyramid_anchors(maps, (8, 16), rule))
    usable = usable_anchors(anchors, maps, (8, 16), rule, (30, 17), (64, 64))  # padded to 32 x 32
    positions = [row * 8 + column for row in range(4) for column in range(4)]
    positions += [64 + row * 4 + column for row in range(2) for column in range(2)]
    assert usable.tolist() == positions
    everything = rule._replace(pad_multiple=None)
    assert len(usable_anchors(anchors, maps, (8, 16), everything, (30, 17), (64, 64))) == 80
    narrow = rule._replace(allowed_border=0)
    chosen = anchors[usable_anchors(anchors, maps, (8, 16), narrow, (30, 17), (64, 64))]
    assert chosen.tolist() == [[4.0, 4, 12, 12], [4.0, 12, 12, 20], [4.0, 20, 12, 28]]
