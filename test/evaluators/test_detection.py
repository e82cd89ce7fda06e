"""Scores of detection: faster-coco-eval equals pycocotools, and nothing is lost on the way through the rows."""

import contextlib
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from evaluators.detection import (
    STATS,
    DetectionEvaluation,
    average_precision,
    results_of,
    rows_of_images,
)
from evaluators.gather import Gathered

CATEGORIES = [{"id": number, "name": f"class {number}"} for number in (1, 3, 4)]
IMAGE_IDS = [7, 11, 12, 30, 31, 42]
SIZE = (80, 100)


def encode(masks: np.ndarray) -> list[bytes]:
    from pycocotools import mask

    return [rle["counts"] for rle in mask.encode(np.asfortranarray(masks.transpose(1, 2, 0)))]


def draw_boxes(rng: np.random.Generator, number: int) -> np.ndarray:
    corner = rng.uniform(0, 60, (number, 2))
    return np.concatenate([corner, corner + rng.uniform(3, 35, (number, 2))], axis=1)


def masks_of(boxes: np.ndarray) -> np.ndarray:
    """The half of each box below its diagonal: the areas of box and mask are not the same."""
    rows, columns = np.arange(SIZE[0])[:, None] + 0.5, np.arange(SIZE[1]) + 0.5
    x1, y1, x2, y2 = boxes.T[:, :, None, None]
    is_below = (columns - x1) * (y2 - y1) <= (rows - y1) * (x2 - x1)
    return ((rows > y1) & (rows < y2) & (columns > x1) & (columns < x2) & is_below).astype(np.uint8)


def made_set(seed: int):
    """A ground truth with crowds and images without objects, and detections: shifted objects, wrong ones, doubles."""
    rng = np.random.default_rng(seed)
    annotations, detections = [], []
    for image_id in IMAGE_IDS:
        number = 0 if image_id in (11, 42) else int(rng.integers(1, 6))
        boxes, labels = draw_boxes(rng, number), rng.integers(0, len(CATEGORIES), number)
        masks = masks_of(boxes)
        for box, label, mask, rle in zip(boxes, labels, masks, encode(masks) if number else [], strict=True):
            sides = box[2:] - box[:2]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": CATEGORIES[label]["id"],
                    "bbox": [*box[:2].tolist(), *sides.tolist()],
                    "area": float(mask.sum()),
                    "iscrowd": int(rng.uniform() < 0.25),
                    "segmentation": {"size": list(SIZE), "counts": rle.decode()},
                }
            )
        extra = 0 if image_id == 42 else int(rng.integers(0, 4))
        found = np.concatenate([boxes + rng.normal(0, 2, boxes.shape), boxes[:1], draw_boxes(rng, extra)])
        guessed = np.concatenate([labels, labels[:1], rng.integers(0, len(CATEGORIES), extra)])
        detections.append(
            SimpleNamespace(
                boxes=torch.from_numpy(found),
                scores=torch.from_numpy(rng.uniform(size=len(found))),
                labels=torch.from_numpy(guessed),
                rles=encode(masks_of(found)) if len(found) else [],
            )
        )
    images = [{"id": number, "height": SIZE[0], "width": SIZE[1], "file_name": f"{number}.png"} for number in IMAGE_IDS]
    return {"images": images, "categories": CATEGORIES, "annotations": annotations}, detections


def made_evaluation(truth, detections, **columns) -> DetectionEvaluation:
    rows = rows_of_images(torch.arange(len(detections)), detections)
    rows = rows | {"finite": np.ones(len(detections), dtype=bool)} | columns
    items = [(str(number), f"/data/{number}.png") for number in IMAGE_IDS]
    return DetectionEvaluation(
        gathered=Gathered(rows, [], len(detections), seconds=1.0),
        ground_truth=truth,
        class_names=[category["name"] for category in CATEGORIES],
        items=items,
        image_ids=IMAGE_IDS,
        sizes=[SIZE] * len(IMAGE_IDS),
        max_non_finite=0.0,
    )


def by_pycocotools(truth, results, kind: str) -> np.ndarray:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    if kind == "segm":  # as its users do: with a box, an object has the area of the box
        results = [{name: value for name, value in one.items() if name != "bbox"} for one in results]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(4))
def test_all_numbers_equal_those_of_pycocotools(kind, seed):
    truth, detections = made_set(seed)
    evaluation = made_evaluation(truth, detections)
    theirs = by_pycocotools(json.loads(json.dumps(truth)), json.loads(json.dumps(evaluation.results)), kind)
    ours = average_precision(truth, evaluation.results, IMAGE_IDS, kind).stats
    # They add the same numbers up in another order.
    assert [0 if np.isnan(value) else value for value in ours.values()] == pytest.approx(theirs.clip(0), abs=1e-14)
    assert [name for name, value in ours.items() if np.isnan(value)] == [
        name for name, value in zip(STATS, theirs, strict=True) if value == -1
    ]
    assert 0.1 < ours["ap"] < 0.95


def test_results_are_the_detections():
    _, detections = made_set(0)
    rows = rows_of_images(torch.arange(len(detections)), detections)
    results = results_of(rows, IMAGE_IDS, [SIZE] * len(IMAGE_IDS), [1, 3, 4])
    assert len(results) == sum(len(one.boxes) for one in detections)
    of_first = [result for result in results if result["image_id"] == IMAGE_IDS[0]]
    for result, box, score, label, rle in zip(of_first, *vars(detections[0]).values(), strict=True):
        x, y, width, height = result["bbox"]
        assert [x, y] == box[:2].tolist() and [x + width, y + height] == pytest.approx(box[2:].tolist())
        assert result["score"] == score.item() and result["category_id"] == [1, 3, 4][label]
        assert result["segmentation"] == {"size": [80, 100], "counts": rle.decode()}


def test_the_right_detections_are_perfect_and_none_at_all_is_zero():
    truth, _ = made_set(1)
    results = [
        {key: one[key] for key in ("image_id", "category_id", "bbox", "segmentation")} | {"score": 0.9}
        for one in truth["annotations"]
        if not one["iscrowd"]
    ]
    for kind in ("bbox", "segm"):
        assert average_precision(truth, results, IMAGE_IDS, kind).stats["ap"] == pytest.approx(1.0)
        nothing = average_precision(truth, [], IMAGE_IDS, kind)
        assert nothing.stats["ap"] == 0 and nothing.stats["ar100"] == 0


def test_images_that_were_not_read_do_not_count():
    truth, detections = made_set(2)
    some = made_evaluation(truth, detections[:3])
    image_ids = IMAGE_IDS[:3]
    part = {**truth, "annotations": [one for one in truth["annotations"] if one["image_id"] in image_ids]}
    alone = average_precision(part, some.results, image_ids, "bbox").stats
    assert some.precisions["box"].stats == pytest.approx(dict(alone), nan_ok=True)


def test_outputs_that_are_not_finite_leave_no_score():
    truth, detections = made_set(0)
    assert made_evaluation(truth, detections).score > 0
    broken = made_evaluation(truth, detections, finite=np.array([True, False, True, True, True, True]))
    assert np.isnan(broken.score) and "NaN or infinite outputs for 1 of 6, more than" in broken.headline()


def test_the_report(tmp_path):
    truth, detections = made_set(3)
    evaluation = made_evaluation(truth, detections)
    evaluation.write(tmp_path)
    assert json.loads((tmp_path / "predictions.json").read_text()) == evaluation.results
    header, *rows = (tmp_path / "per_class.csv").read_text().splitlines()
    assert header == "label,class,objects,detections,box_ap,box_ap50,mask_ap,mask_ap50" and len(rows) == 3
    of_class = np.array([row.split(",")[4:] for row in rows], dtype=float)
    for column, name in enumerate(("box_ap", "box_ap50", "mask_ap", "mask_ap50")):
        assert of_class[:, column].mean() == pytest.approx(evaluation.summary()[name], abs=1e-6)
    assert len((tmp_path / "images.csv").read_text().splitlines()) == 1 + len(IMAGE_IDS)
    assert (tmp_path / "precision.png").stat().st_size > 0
    assert "box ap50" in "\n".join(evaluation.lines()) and "box AP" in evaluation.headline()
