"""The views of the recipes: functions of their generator, aligned, and of the stated sizes."""

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.dense.transforms import make_sample
from datasets.dense.views import (
    COCO_SHORT_SIDES,
    DetectionView,
    DetectionViewSettings,
    EvalView,
    EvalViewSettings,
    RangeCropSettings,
    SegmentationView,
    SegmentationViewSettings,
)

DETECTION = {
    "short_sides": (48, 64),
    "max_long_side": 90,
    "crop": RangeCropSettings(short_sides=(50, 70), max_long_side=400, sides=(30, 60)),
}
SEGMENTATION = {"short_side": 60, "max_long_side": 240, "crop": (40, 48)}


def rng(seed):
    return np.random.default_rng(seed)


@pytest.fixture
def sample():
    """A white rectangle in a black picture, known as a box, a mask and a class of pixels; and a crowd."""
    pixels = np.zeros((60, 90, 3), np.uint8)
    pixels[20:44, 30:62] = 255
    labels = pixels[..., 0] // 255
    return make_sample(
        Image.fromarray(pixels), [[30, 20, 62, 44]], [3], [[0, 0, 20, 20]], labels[None].copy(), labels.copy()
    )


def parts(sample):
    return [sample.image, sample.boxes, sample.labels, sample.ignored, sample.masks, sample.label_map]


def test_a_detection_view_is_a_function_of_its_generator(sample):
    view = DetectionView(DetectionViewSettings(**DETECTION))
    first, again, other = (view(sample, rng(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(parts(first), parts(again), strict=True))
    assert first.size != other.size or not torch.equal(first.image, other.image)


def test_detection_views_are_aligned_and_of_the_stated_sizes(sample):
    view = DetectionView(DetectionViewSettings(**DETECTION))
    num_cropped = 0
    for seed in range(200):
        seen = view(sample, rng(seed))
        short, long = min(seen.size), max(seen.size)
        assert short in (48, 64) or long == 90
        num_cropped += abs(seen.scale[0] / (min(seen.size) / 60) - 1) > 0.05
        for mask, box in zip(seen.masks, seen.boxes, strict=True):
            rows, columns = torch.where(mask.as_subclass(torch.Tensor))
            found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert [float(side) for side in found] == pytest.approx(box.tolist(), abs=2)
            assert (seen.image[0][mask == 1] > 127).float().mean() > 0.8
        assert len(seen.boxes) == len(seen.labels) == len(seen.masks) <= 1
    assert 60 < num_cropped < 140


def test_half_of_the_images_are_mirrored(sample):
    view = DetectionView(DetectionViewSettings(short_sides=(60,), max_long_side=90, crop=None))
    lefts = [view(sample, rng(seed)).boxes[0, 0].item() for seed in range(200)]
    assert set(lefts) == {28, 30} and 70 < lefts.count(28) < 130


def test_without_crop_and_flip_the_view_is_a_resize(sample):
    view = DetectionView(DetectionViewSettings(flip=0, short_sides=(120,), max_long_side=500, crop=None))
    seen = view(sample, rng(0))
    assert seen.size == (120, 180) and seen.boxes.tolist() == [[60, 40, 124, 88]] and seen.scale == (2, 2)


def test_scale_jitter_and_small_boxes(sample):
    settings = DetectionViewSettings(
        flip=0, short_sides=(60,), max_long_side=90, crop=None, scale_jitter=(0.1, 2), min_box_side=8
    )
    seen = [DetectionView(settings)(sample, rng(seed)) for seed in range(60)]
    sides = [min(view.size) for view in seen]
    assert min(sides) < 15 and max(sides) > 100
    assert all((len(view.boxes) == 1) == (24 * view.scale[1] >= 8) for view in seen)


def test_defaults_are_the_papers_recipes():
    detection, segmentation = DetectionViewSettings(), SegmentationViewSettings()
    assert detection.short_sides == COCO_SHORT_SIDES == (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
    assert detection.max_long_side == 1333 and detection.flip == segmentation.flip == 0.5
    assert detection.crop.short_sides == (400, 500, 600) and detection.crop.sides == (384, 600)
    assert (segmentation.short_side, segmentation.max_long_side, segmentation.scale) == (512, 2048, (0.5, 2))
    assert segmentation.crop == (512, 512) and segmentation.max_class_share == 0.75
    assert segmentation.colors.model_dump() == {
        "brightness": 32, "contrast": (0.5, 1.5), "saturation": (0.5, 1.5), "hue": 18
    }  # fmt: skip


def test_segmentation_views_are_aligned_and_fit_the_crop(sample):
    view = SegmentationView(SegmentationViewSettings(**SEGMENTATION, colors=None))
    sizes = set()
    for seed in range(60):
        seen = view(sample, rng(seed))
        sizes.add(seen.size)
        assert seen.size[0] <= 40 and seen.size[1] <= 48 and seen.label_map.shape == seen.size
        assert ((seen.image[0] > 127) == (seen.label_map == 1)).float().mean() > 0.93
    assert (40, 48) in sizes and len(sizes) > 3  # some are smaller than the crop


def test_segmentation_views_are_mirrored_and_recolored_half_of_the_time(sample):
    plain = {"short_side": 60, "max_long_side": 90, "scale": (1, 1), "crop": (60, 90)}
    view = SegmentationView(SegmentationViewSettings(**plain, colors=None))
    lefts = [int(view(sample, rng(seed)).label_map.any(0).int().argmax()) for seed in range(100)]
    assert set(lefts) == {28, 30} and 30 < lefts.count(28) < 70
    view = SegmentationView(SegmentationViewSettings(**plain, flip=0))
    same = [torch.equal(view(sample, rng(seed)).image, sample.image) for seed in range(40)]
    assert 0 < sum(same) < 20 and torch.equal(view(sample, rng(1)).label_map, sample.label_map)


def test_a_segmentation_view_is_a_function_of_its_generator(sample):
    view = SegmentationView(SegmentationViewSettings(**SEGMENTATION))
    first, again, other = (view(sample, rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.image, again.image) and torch.equal(first.label_map, again.label_map)
    assert first.image.dtype == torch.uint8 and first.label_map.dtype == torch.uint8
    assert first.size != other.size or not torch.equal(first.image, other.image)


@pytest.mark.parametrize(
    ("settings", "size", "expected"),
    [
        ({}, (60, 90), [(60, 90)]),
        ({"short_side": 800, "max_long_side": 1333}, (480, 640), [(800, 1067)]),
        ({"short_side": 512, "max_long_side": 2048}, (60, 90), [(512, 768)]),
        ({"scales": (0.5, 1, 1.75)}, (60, 90), [(30, 45), (60, 90), (105, 158)]),
        ({"short_side": 30, "scales": (0.5, 1)}, (60, 90), [(15, 23), (30, 45)]),
    ],
)
def test_sizes_of_evaluation(settings, size, expected):
    image = torch.zeros(3, *size, dtype=torch.uint8)
    view = EvalView(EvalViewSettings(**settings))
    assert [tuple(seen.shape[1:]) for seen in view(image)] == expected and view.num_views == len(expected)
    assert [view.size(size, scale) for scale in view.settings.scales] == expected


def test_mirror_images_follow_their_originals():
    image = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8)
    view = EvalView(EvalViewSettings(scales=(1, 2), flip=True))
    views = view(image)
    assert len(views) == view.num_views == 4 and torch.equal(views[0], image)
    assert all(torch.equal(views[at + 1], views[at].flip(-1)) for at in (0, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RangeCropSettings(sides=(600, 384)), r"sides is \(600, 384\); expected the lower end first"),
        (lambda: DetectionViewSettings(scale_jitter=(2, 1)), r"scale_jitter is \(2, 1\); expected the lower end"),
        (lambda: SegmentationViewSettings(scale=(2, 0.5)), r"scale is \(2, 0.5\); expected the lower end first"),
        (lambda: DetectionViewSettings(short_sides=()), "short_sides"),
        (lambda: EvalViewSettings(scales=(1, 1)), r"scales are \[1.0, 1.0\]; each must appear once"),
        (lambda: SegmentationViewSettings(max_class_share=0), "max_class_share"),
    ],
)
def test_wrong_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()
