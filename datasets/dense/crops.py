"""Positions of random crops: functions of sizes and a generator.

absolute range   detection, as in DETR's and mmdet's recipes: each side of the crop is drawn from a range of pixels
varied           segmentation, as in mmsegmentation: a crop is drawn again while one class fills too much of it
"""

import numpy as np

from datasets.dense.label_values import IGNORED

MAX_TRIES = 10  # of a varied crop


def absolute_range_crop(
    size: tuple[int, int], sides: tuple[int, int], rng: np.random.Generator
) -> tuple[int, int, tuple[int, int]]:
    """(top, left, (h, w)) of a crop of an image of `size` (H, W).

    Height and width are drawn from `sides` (smallest, largest), each independently; an image that is smaller keeps its
    own side.
    """
    height, width = (int(rng.integers(min(side, sides[0]), min(side, sides[1]), endpoint=True)) for side in size)
    return *_place(size, (height, width), rng), (height, width)


def varied_crop(
    label_map: np.ndarray, sides: tuple[int, int], max_share: float, rng: np.random.Generator
) -> tuple[int, int, tuple[int, int]]:
    """(top, left, (h, w)) of a crop of `sides`, or of the whole side where the image is smaller.

    A crop with a single class, or with a class that has a fraction `max_share` or more of the pixels that are not
    ignored, is drawn again; after `MAX_TRIES` tries the last one is taken. A fraction of 1 accepts any crop.

    Args:
        label_map: uint8 [H, W], 255 where ignored.
        sides: height and width of the crop, in pixels.
        max_share: fraction of one class, over 0 and up to 1.
        rng: the generator.
    """
    height, width = (min(side, wanted) for side, wanted in zip(label_map.shape, sides, strict=True))
    top, left = _place(label_map.shape, (height, width), rng)
    for _ in range(MAX_TRIES if max_share < 1 else 0):
        counts = np.bincount(label_map[top : top + height, left : left + width].ravel(), minlength=IGNORED)[:IGNORED]
        if np.count_nonzero(counts) > 1 and counts.max() < max_share * counts.sum():
            break
        top, left = _place(label_map.shape, (height, width), rng)
    return top, left, (height, width)


def _place(size: tuple[int, int], sides: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    return tuple(int(rng.integers(side - wanted, endpoint=True)) for side, wanted in zip(size, sides, strict=True))
