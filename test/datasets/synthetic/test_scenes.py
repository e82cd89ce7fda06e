"""Scenes: what hides what, and what counts as hidden."""

import numpy as np
import pytest

from datasets.dense.segmentation import box_of
from datasets.synthetic.drawing import SHAPES, draw_mask, draw_shape
from datasets.synthetic.scenes import (
    IGNORED,
    SceneObject,
    draw_scene_frames,
    label_map,
    size_phase,
    visible_masks,
)

SIZE = (48, 64)
COLORS = np.float32([[200, 0, 0], [200, 0, 0]])


def square(x, y, radius=0.25, is_crowd=False):
    return SceneObject("square", [np.array([[x, y, size_phase(radius), 0.0]])], [COLORS], is_crowd)


def masks_of(*objects):
    visible, is_object = visible_masks(objects, SIZE, num_frames=1)
    return visible[:, 0], is_object[:, 0]


def test_later_shapes_hide_earlier_ones():
    (below, above), is_object = masks_of(square(0.5, 0.5), square(0.6, 0.5))
    (whole,), _ = masks_of(square(0.5, 0.5))
    (alone,), _ = masks_of(square(0.6, 0.5))
    assert np.array_equal(above, alone) and not (below & above).any()
    assert np.array_equal(below | (whole & above), whole) and is_object.all()
    assert box_of(alone) == [29, 14, 19, 20] or abs(box_of(alone)[2] - box_of(alone)[3]) <= 1


def test_a_nearly_hidden_shape_is_no_object():
    _, is_object = masks_of(square(0.5, 0.5), square(0.52, 0.5))
    assert is_object.tolist() == [False, True]
    _, is_object = masks_of(square(0.5, 0.5), square(0.8, 0.5))
    assert is_object.tolist() == [True, True]


def test_masks_are_where_the_picture_changes():
    background = np.full((3, 1, *SIZE), 90, np.float32)
    objects = [square(0.2, 0.3), square(0.9, 0.9)]
    picture = draw_scene_frames(background, objects)[0]
    visible, _ = masks_of(*objects)
    shown = visible.any(0)
    assert (picture[shown, 0] >= 145).all() and (picture[~shown, 0] <= 145).all()  # halfway from 90 to 200


def test_the_label_map_ignores_rims_crowds_and_what_is_nearly_hidden():
    objects = [square(0.25, 0.5), square(0.25, 0.52), square(0.75, 0.5, is_crowd=True)]
    visible, is_object = masks_of(*objects)
    labels = label_map(objects, visible, is_object)
    assert is_object.tolist() == [False, True, True]
    assert (labels[visible[0]] == IGNORED).all() and (labels[visible[2]] == IGNORED).all()
    x, y, width, height = box_of(visible[1])
    inner = np.zeros(SIZE, bool)
    inner[y + 1 : y + height - 1, x + 1 : x + width - 1] = True
    assert np.array_equal(labels == 1 + list(SHAPES).index("square"), inner)
    assert (labels[~visible.any(0)] == 0).all()


def test_the_edge_of_the_picture_is_no_rim():
    objects = [square(0.0, 0.5)]
    visible, is_object = masks_of(*objects)
    labels = label_map(objects, visible, is_object)
    assert labels[24, 0] == 1 + list(SHAPES).index("square")


@pytest.mark.parametrize("kind", SHAPES)
def test_a_shape_is_cut_off_at_the_edge_or_wraps(kind):
    phases = np.array([[0.98, 0.02, 0.8, 0.1]])
    cut, wrapped = (draw_mask([(kind, phases)], SIZE, 1, wraps=wraps)[0] for wraps in (False, True))
    assert np.array_equal(cut[:24, 32:], wrapped[:24, 32:])  # the corner that the center is in
    assert not cut[24:].any() and not cut[:, :32].any() and wrapped[24:].any() and wrapped[:, :32].any()
    outside = np.zeros((1, 1, *SIZE), np.float32)
    draw_shape(outside, kind, np.array([[-0.5, 1.7, 0.8, 0]]), np.ones((2, 1)), wraps=False)
    assert not outside.any()
