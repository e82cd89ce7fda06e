"""Run lengths equal those of pycocotools, and damaged ones are refused."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from datasets.dense.segmentation import box_of, decode_segmentation, encode_mask, read_counts, segmentation_fault


@pytest.mark.parametrize("density", [0, 0.02, 0.5, 0.97, 1])
@pytest.mark.parametrize("size", [(1, 1), (37, 53), (200, 7)])
def test_masks_survive_a_round_trip(size, density):
    mask = np.random.default_rng(1).random(size) < density
    encoded = encode_mask(mask)
    assert np.array_equal(decode_segmentation(encoded, size), mask)
    assert encoded["size"] == list(size) and coco_mask.area({**encoded, "counts": encoded["counts"].encode()}) == (
        mask.sum()
    )


def test_long_runs_and_differences_are_read_as_pycocotools_writes_them():
    mask = np.zeros((500, 400), bool)
    mask[3:490, 5:390:7] = True
    mask[200, 100:300] = True
    encoded = encode_mask(mask)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.ravel("F"), [2]])))
    assert read_counts(encoded["counts"]) == np.diff(np.concatenate([[0], edges])).tolist()


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ("", "the text ends early"),
        ("0`n", "the text ends early"),
        ("0`n\u20ac", "the character"),
        ("0`n2", "pixels, but its image has 2000"),
        ("00", "add up to 0 pixels"),
    ],
)
def test_damaged_run_lengths(counts, message):
    assert message in segmentation_fault({"size": [40, 50], "counts": counts}, (40, 50))


def test_polygons_are_drawn_as_pycocotools_draws_them():
    polygons = [[1.5, 2, 30, 4.2, 17, 33.3], [20, 20, 39, 20, 39, 29]]
    runs = coco_mask.merge(coco_mask.frPyObjects(polygons, 35, 40))
    mask = decode_segmentation(polygons, (35, 40))
    assert mask.dtype == np.uint8 and mask.shape == (35, 40) and mask.sum() == coco_mask.area(runs)
    assert box_of(mask) == coco_mask.toBbox(runs).tolist()
