"""Pictures of boxes, masks and label maps: what is drawn is where it belongs, and any input can be drawn."""

import itertools

import pytest
import torch

from datasets.dense.drawing import class_color, draw_scene, palette


@pytest.fixture
def image():
    return torch.full((3, 60, 80), 100, dtype=torch.uint8)


def changed(before, after):
    return (before != after).any(0)


def test_nothing_to_draw_leaves_the_image(image):
    assert torch.equal(draw_scene(image), image)
    empty = draw_scene(image, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 60, 80))
    assert torch.equal(empty, image)
    assert torch.equal(draw_scene(image, label_map=torch.full((60, 80), 255, dtype=torch.uint8)), image)


def test_masks_and_label_maps_color_their_pixels(image):
    masks = torch.zeros(2, 60, 80, dtype=torch.uint8)
    masks[0, 5:20, 5:30] = masks[1, 30:50, 40:70] = 1
    drawn = draw_scene(image, labels=torch.tensor([1, 4]), masks=masks)
    assert torch.equal(changed(image, drawn), masks.bool().any(0))
    assert drawn[:, 5, 5].tolist() == list(class_color(1)) and drawn[:, 49, 69].tolist() == list(class_color(4))
    inner = [round(0.55 * 100 + 0.45 * part) for part in class_color(1)]
    assert drawn[:, 10, 10].tolist() == pytest.approx(inner, abs=1)
    labels = torch.full((60, 80), 255, dtype=torch.uint8)
    labels[5:20, 5:30] = 1
    assert torch.equal(changed(image, draw_scene(image, label_map=labels)), labels == 1)


def test_boxes_are_drawn_in_the_color_of_their_class(image):
    boxes = torch.tensor([[10.0, 12, 60, 50]])
    drawn = draw_scene(image, boxes, torch.tensor([2]), class_names=("a", "b", "c"), scores=torch.tensor([0.5]))
    rows, columns = torch.where(changed(image, drawn))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (12, 50, 10, 60)
    assert drawn[:, 50, 30].tolist() == list(class_color(2)) and torch.equal(drawn[:, 45, 50], image[:, 45, 50])
    other = draw_scene(image, boxes, torch.tensor([2]), class_names=("a", "b", "c"), scores=torch.tensor([0.6]))
    assert not torch.equal(drawn, other)  # the score is written


def test_small_pictures_are_enlarged_so_that_text_can_be_read(image):
    masks = torch.zeros(1, 60, 80, dtype=torch.bool)
    masks[0, 5:20, 5:30] = True
    drawn = draw_scene(image, torch.tensor([[5.0, 5, 30, 20]]), torch.tensor([0]), masks, min_short_side=150)
    assert drawn.shape == (3, 180, 240)
    crowd = draw_scene(image, ignored=torch.tensor([[40.0, 30, 60, 50]]), min_short_side=150)
    rows, columns = torch.where((crowd != 100).any(0))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (90, 150, 120, 180)
    assert torch.equal(drawn[:, 61:, 91:], image.repeat_interleave(3, 1).repeat_interleave(3, 2)[:, 61:, 91:])


def test_any_box_and_any_name_is_drawn(image):
    boxes = torch.tensor([[-50.0, -50, 500, 500], [79.9, 59.9, 79.9, 59.9], [90, 90, 95, 95], [20, 20, 19, 19]])
    names = ("two\nlines", "\u732b", "x" * 500, "$5")
    drawn = draw_scene(image, boxes, torch.tensor([0, 1, 2, 9]), class_names=names, ignored=boxes)
    assert drawn.shape == image.shape and changed(image, drawn).any()


def test_colors_are_fixed_and_differ():
    colors = [class_color(label) for label in range(150)]
    assert len(set(colors)) == 150 and palette(150).tolist() == [list(color) for color in colors]
    near = [max(abs(a - b) for a, b in zip(*pair, strict=True)) for pair in itertools.pairwise(colors)]
    assert min(near) > 40
    assert palette(0).shape == (0, 3)


def test_where_masks_overlap_the_first_one_shows():
    image = torch.full((3, 20, 20), 100, dtype=torch.uint8)
    masks = torch.zeros(2, 20, 20, dtype=torch.bool)
    masks[0, 2:12, 2:12] = masks[1, 6:18, 6:18] = True
    drawn = draw_scene(image, labels=torch.tensor([0, 1]), masks=masks)
    alone = draw_scene(image, labels=torch.tensor([0]), masks=masks[:1])
    assert torch.equal(drawn[:, 3:11, 3:11], alone[:, 3:11, 3:11])
    assert not torch.equal(drawn[:, 13:17, 13:17], image[:, 13:17, 13:17])
