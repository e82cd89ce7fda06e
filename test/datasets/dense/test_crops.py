"""Where random crops lie."""

import numpy as np
import pytest

from datasets.dense.crops import absolute_range_crop, varied_crop


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("size", [(800, 1000), (450, 300), (384, 384), (700, 20)])
def test_an_absolute_range_crop_lies_in_the_image(size):
    draws = [absolute_range_crop(size, (384, 600), rng(seed)) for seed in range(300)]
    for top, left, (height, width) in draws:
        assert min(384, size[0]) <= height <= min(600, size[0]) and min(384, size[1]) <= width <= min(600, size[1])
        assert 0 <= top <= size[0] - height and 0 <= left <= size[1] - width
    if size == (800, 1000):
        heights, widths = zip(*(sides for _, _, sides in draws), strict=True)
        assert min(heights) < 390 and max(heights) > 595 and abs(np.corrcoef(heights, widths)[0, 1]) < 0.2
        assert min(left for _, left, _ in draws) < 20 and max(left for _, left, _ in draws) > 500


def test_a_varied_crop_shows_two_classes_where_it_can():
    labels = np.zeros((100, 100), np.uint8)
    labels[:, 50:] = 1
    shares = []
    for seed in range(300):
        top, left, (height, width) = varied_crop(labels, (40, 40), 0.75, rng(seed))
        assert (height, width) == (40, 40) and 0 <= top <= 60 and 0 <= left <= 60
        shares.append(labels[top : top + 40, left : left + 40].mean())
    fit = np.abs(np.array(shares) - 0.5) < 0.25
    assert fit.mean() > 0.97  # a single draw fits in a third of the cases: 1 - (2 / 3) ** 11
    once = [varied_crop(labels, (40, 40), 1.0, rng(seed))[1] for seed in range(300)]
    assert np.mean([abs(left + 20 - 50) < 10 for left in once]) < 0.5


def test_ignored_pixels_do_not_count_as_a_class():
    labels = np.full((60, 60), 255, np.uint8)
    labels[:, :20] = 0
    labels[:, 30:32] = 1
    draws = [varied_crop(labels, (30, 30), 0.95, rng(seed))[1] for seed in range(50)]
    assert np.mean([1 <= left < 20 for left in draws]) > 0.9  # the crops that show both; a single draw: 61 %


def test_one_class_alone_is_taken_in_the_end():
    top, left, sides = varied_crop(np.zeros((50, 60), np.uint8), (20, 20), 0.75, rng())
    assert sides == (20, 20) and 0 <= top <= 30 and 0 <= left <= 40


def test_smaller_images_keep_their_sides():
    assert varied_crop(np.zeros((50, 600), np.uint8), (512, 512), 0.75, rng())[2] == (50, 512)
