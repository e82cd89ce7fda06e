"""Under every operation image, boxes, masks and label map stay aligned: a known rectangle tells."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from datasets.dense.transforms import crop, drop_small, flip, keep_ratio_size, make_sample, resize

BOXES = ((10, 8, 30, 28), (44, 20, 60, 50))


def rectangles(boxes=BOXES, size=(64, 80), ignored=((2, 40, 12, 60),)):
    """White rectangles on black, with their boxes, masks and label map; the n-th is of class n."""
    pixels, label_map = np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)
    masks = np.zeros((len(boxes), *size), np.uint8)
    for number, (x1, y1, x2, y2) in enumerate(boxes):
        pixels[y1:y2, x1:x2] = 255
        masks[number, y1:y2, x1:x2] = 1
        label_map[y1:y2, x1:x2] = number + 1
    labels = np.arange(len(boxes))
    return make_sample(Image.fromarray(pixels), np.float32(boxes), labels, np.float32(ignored), masks, label_map)


def assert_aligned(sample, tolerance=1.0):
    """The box of each mask is its box, the masks are where the image is white, and where the label map says so."""
    height, width = sample.size
    assert sample.masks.shape == (len(sample.boxes), height, width) and sample.label_map.shape == (height, width)
    assert sample.boxes.canvas_size == sample.ignored.canvas_size == (height, width)
    assert len(sample.labels) == len(sample.boxes) and sample.boxes.dtype == torch.float32
    for mask, box, label in zip(sample.masks, sample.boxes, sample.labels, strict=True):
        rows, columns = torch.where(mask.as_subclass(torch.Tensor))
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert [float(side) for side in found] == pytest.approx(box.tolist(), abs=tolerance)
        assert torch.equal(mask == 1, sample.label_map == label + 1)
        assert (sample.image[0][mask == 1] > 127).float().mean() > 0.8
    outside = ~sample.masks.bool().any(0) & (sample.label_map == 0)
    assert (sample.image[0][outside] < 128).float().mean() > 0.97


def test_a_sample_is_aligned_and_typed():
    sample = rectangles()
    assert_aligned(sample, tolerance=0)
    assert isinstance(sample.image, tv_tensors.Image) and isinstance(sample.masks, tv_tensors.Mask)
    assert sample.image.dtype == torch.uint8 and sample.size == (64, 80) and sample.scale == (1, 1)


def test_flipping_twice_is_the_identity():
    sample = rectangles()
    once, twice = flip(sample), flip(flip(sample))
    assert_aligned(once, tolerance=0)
    assert once.boxes.tolist() == [[50, 8, 70, 28], [20, 20, 36, 50]] and once.ignored.tolist() == [[68, 40, 78, 60]]
    for name in ("image", "boxes", "masks", "label_map", "ignored"):
        assert torch.equal(getattr(twice, name), getattr(sample, name))


@pytest.mark.parametrize("size", [(128, 160), (47, 91), (32, 40), (200, 81)])
def test_resizing(size):
    sample = resize(rectangles(), size)
    assert sample.size == size and sample.scale == (size[1] / 80, size[0] / 64)
    assert_aligned(sample)
    scale = np.tile(sample.scale, 2)
    np.testing.assert_allclose(sample.boxes.numpy(), np.array(BOXES) * scale, rtol=1e-5)
    np.testing.assert_allclose(sample.ignored.numpy(), np.array([[2, 40, 12, 60]]) * scale, rtol=1e-5)
    assert set(sample.label_map.unique().tolist()) == {0, 1, 2} and sample.masks.dtype == torch.uint8


@pytest.mark.parametrize("size", [(128, 160), (47, 91), (32, 40), (200, 81), (5, 2)])
def test_masks_are_resized_by_the_nearest_center(size):
    rows, columns = np.mgrid[:64, :80].astype(np.uint8)
    sample = resize(make_sample(Image.new("RGB", (80, 64)), masks=np.stack([rows, columns])), size)
    places = np.mgrid[: size[0], : size[1]] + 0.5
    for seen, place, new, old in zip(sample.masks.numpy(), places, size, (64, 80), strict=True):
        assert np.abs(seen + 0.5 - place * old / new).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("size", [(33, 41), (128, 160), (91, 23)])
def test_resizing_and_flipping_commute(size):
    """So masks are not shifted against their image."""
    one, other = flip(resize(rectangles(), size)), resize(flip(rectangles()), size)
    assert torch.equal(one.masks, other.masks) and torch.equal(one.label_map, other.label_map)
    assert (one.image.int() - other.image.int()).abs().max() <= 1
    torch.testing.assert_close(one.boxes, other.boxes)


def test_resizing_with_antialias_averages():
    noise = np.random.default_rng(1).integers(0, 2, (64, 80, 1), np.uint8).repeat(3, 2) * 255
    sample = make_sample(Image.fromarray(noise))
    sharp, smooth = resize(sample, (16, 20)), resize(sample, (16, 20), antialias=True)
    assert smooth.image.float().std() < 0.6 * sharp.image.float().std()
    assert resize(sample, (64, 80)) is sample


def test_cropping():
    sample = crop(rectangles(), top=18, left=20, size=(30, 30))
    assert_aligned(sample, tolerance=0)
    assert sample.boxes.tolist() == [[0, 0, 10, 10], [24, 2, 30, 30]] and sample.ignored.shape == (0, 4)
    only = crop(rectangles(), top=30, left=40, size=(20, 40))
    assert_aligned(only, tolerance=0)
    assert only.labels.tolist() == [1] and only.boxes.tolist() == [[4, 0, 20, 20]]
    nothing = crop(rectangles(), top=0, left=70, size=(6, 8))
    assert nothing.boxes.shape == (0, 4) and nothing.masks.shape == (0, 6, 8) and nothing.labels.shape == (0,)


def test_a_box_that_only_touches_the_crop_is_dropped():
    sample = crop(rectangles(), top=0, left=30, size=(64, 14))  # between the two boxes
    assert len(sample.boxes) == 0


def test_boxes_are_not_recomputed_from_masks():
    """A box may be larger than what a crop leaves of its mask, as in mmdet."""
    masks = np.zeros((1, 20, 20), np.uint8)
    masks[0, 2:4, 2:18] = masks[0, 2:18, 2:4] = 1  # an L
    sample = make_sample(Image.new("RGB", (20, 20)), np.float32([[2, 2, 18, 18]]), np.array([0]), masks=masks)
    cropped = crop(sample, top=8, left=0, size=(12, 20))
    assert cropped.boxes.tolist() == [[2, 0, 18, 10]] and cropped.masks.sum() == 20


def test_operations_do_without_objects():
    empty = make_sample(Image.new("RGB", (20, 10)), masks=np.zeros((0, 10, 20), np.uint8))
    for sample in (flip(empty), resize(empty, (20, 40)), crop(empty, 0, 0, (5, 5))):
        assert sample.boxes.shape == sample.ignored.shape == (0, 4) and sample.masks.shape == (0, *sample.size)
    bare = make_sample(Image.new("RGB", (20, 10)))
    assert resize(flip(bare), (30, 60)).masks is None and crop(bare, 0, 0, (3, 4)).size == (3, 4)


def test_small_objects_are_dropped_with_their_masks_and_labels():
    sample = resize(rectangles(boxes=(*BOXES, (0, 0, 3, 40))), (16, 20))  # the last is 0.75 pixels wide
    kept = drop_small(sample, min_side=1)
    assert kept.labels.tolist() == [0, 1] and len(kept.masks) == 2
    assert torch.equal(kept.masks, sample.masks[:2]) and len(drop_small(sample, min_side=0).labels) == 3
    assert len(drop_small(sample, min_side=6).labels) == 0


@pytest.mark.parametrize(
    ("size", "short", "long", "expected"),
    [
        ((480, 640), 800, 1333, (800, 1067)),
        ((640, 480), 800, 1333, (1067, 800)),
        ((427, 640), 800, 1333, (800, 1199)),
        ((300, 900), 800, 1333, (444, 1333)),
        ((1024, 2048), 512, 2048, (512, 1024)),
        ((333, 500), None, None, (333, 500)),
        ((333, 500), 512, None, (512, 769)),
        ((333, 500), None, 100, (67, 100)),
        ((1, 1000), 8, 100, (2, 100)),
        ((1, 1), None, None, (1, 1)),
    ],
)
def test_sizes_that_keep_the_aspect(size, short, long, expected):
    assert keep_ratio_size(size, short, long) == expected


def test_the_smallest_size_can_be_resized_to():
    size = keep_ratio_size((64, 80), 0.01, None)
    assert resize(rectangles(), size).image.shape == (3, *size)
