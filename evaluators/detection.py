"""Scores of detection: COCO's average precision of boxes and masks, exact on any number of ranks.

Protocol: https://cocodataset.org/#detection-eval, computed by faster-coco-eval, which a test compares with pycocotools.
Detections are gathered by image and scored all at once on the main rank.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluators.gather import Gathered
from evaluators.item_counts import ItemCounts, percent
from evaluators.resumable_predictions import Rows

STATS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large",
         "ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large")  # fmt: skip
"""COCO's twelve scores, in its order: average precision over IoU .5 to .95, at .5, at .75, by the area of objects;
average recall with at most 1, 10 and 100 detections per image, and by area."""
MAX_SCORED = 100
"""Detections of an image, the best first, that the scores count."""
KINDS = {"bbox": "box", "segm": "mask"}
"""COCO's word for what is compared -> ours."""


def rows_of_images(index: torch.Tensor, detections: Sequence[Any]) -> Rows:
    """Rows for `evaluators.gather.gather`, with lists of one array per image.

    Args:
        index: [B], the indices of the images.
        detections: per image an object with `boxes` [N, 4] (x1, y1, x2, y2 in the file's pixels), `scores` [N],
            `labels` [N], and `rles`: N run-length encoded masks as bytes, or None without masks.
    """
    rows: Rows = {"index": index.cpu().numpy()}
    for name in ("boxes", "scores", "labels"):
        rows[name] = [getattr(one, name).cpu().numpy() for one in detections]
    if all(one.rles is not None for one in detections):
        rows["rles"] = [np.frombuffer(b"".join(one.rles), dtype=np.uint8) for one in detections]
        rows["rle_lengths"] = [np.array([len(rle) for rle in one.rles], dtype=np.int64) for one in detections]
    return rows


def results_of(
    rows: Rows, image_ids: Sequence[int], sizes: Sequence[tuple[int, int]], category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """The detections as COCO results: dicts with image_id, category_id, bbox, score and, with masks, segmentation.

    Args:
        rows: those of `rows_of_images`, merged.
        image_ids, sizes: of each image of the list: its id in the ground truth, and (height, width).
        category_ids: id of each class in the ground truth.
    """
    results = []
    for row, index in enumerate(rows["index"].tolist() if rows else ()):
        boxes = rows["boxes"][row].astype(np.float64)
        corners, sides = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
        bboxes = np.concatenate([corners, sides], axis=1).tolist()
        columns = zip(bboxes, rows["scores"][row].tolist(), rows["labels"][row].tolist(), strict=True)
        found = [
            {"image_id": image_ids[index], "category_id": category_ids[label], "bbox": bbox, "score": score}
            for bbox, score, label in columns
        ]
        if "rles" in rows:
            ends = np.cumsum(rows["rle_lengths"][row])[:-1]
            for result, rle in zip(found, np.split(rows["rles"][row], ends), strict=False):
                result["segmentation"] = {"size": list(sizes[index]), "counts": rle.tobytes().decode("ascii")}
        results += found
    return results


@dataclass(frozen=True)
class AveragePrecision:
    """COCO's scores for one kind, as fractions in 0..1; NaN where there is no such object."""

    stats: Mapping[str, float]
    """By name, see `STATS`."""
    per_class: np.ndarray
    """[K]: average precision of each class."""
    precision50: np.ndarray
    """[101, K]: precision at IoU .5 for recalls 0, .01, ..., 1."""

    @property
    def per_class50(self) -> np.ndarray:
        """[K]: average precision of each class at IoU .5."""
        return self.precision50.mean(axis=0)


def average_precision(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], image_ids: Sequence[int], kind: str
) -> AveragePrecision:
    """Compares COCO results with a ground truth.

    Args:
        ground_truth: COCO's json as a dict, with every annotation of the images.
        results: see `results_of`.
        image_ids: the images that count.
        kind: "bbox" or "segm".
    """
    from faster_coco_eval import COCO, COCOeval_faster  # imported here: only evaluations need it

    truth = COCO(dict(ground_truth), print_function=_say_nothing)
    # With a box beside the mask, an object would get the area of the box.
    left_out = {"bbox"} if kind == "segm" else set()
    found = truth.loadRes([{name: value for name, value in one.items() if name not in left_out} for one in results])
    evaluation = COCOeval_faster(truth, found, iouType=kind, print_function=_say_nothing)
    evaluation.params.imgIds = sorted(image_ids)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    precision = evaluation.eval["precision"][..., 0, -1]  # [IoU, recall, class, area, detections] -> [10, 101, K]
    ids = [category["id"] for category in ground_truth["categories"]]
    precision = precision[:, :, np.argsort(np.argsort(ids))]  # from the order of ids to that of classes
    precision = np.where(precision < 0, np.nan, precision)
    values = [float("nan") if value < 0 else float(value) for value in np.asarray(evaluation.stats)[: len(STATS)]]
    # A class without objects is NaN at every recall.
    return AveragePrecision(dict(zip(STATS, values, strict=True)), precision.mean(axis=(0, 1)), precision[0])


def _say_nothing(*_: Any) -> None:
    """Keeps the library from logging its own table."""


@dataclass(frozen=True)
class DetectionEvaluation(ItemCounts):
    """The scores of detections, as an `engine.task.Evaluation`."""

    gathered: Gathered
    """The rows of `rows_of_images`; a column `finite` [N] says whether all outputs for an image are finite."""
    ground_truth: Mapping[str, Any]
    """COCO's json of the validation images, with a category for each class, in their order."""
    class_names: Sequence[str]
    items: Sequence[tuple[str, str]]
    """Id and path of each image of the list."""
    image_ids: Sequence[int]
    sizes: Sequence[tuple[int, int]]
    max_non_finite: float
    """There is no score if a larger fraction of images has NaN or infinite outputs."""

    @cached_property
    def results(self) -> list[dict[str, Any]]:
        categories = [category["id"] for category in self.ground_truth["categories"]]
        return results_of(self.gathered.rows, self.image_ids, self.sizes, categories)

    @cached_property
    def precisions(self) -> dict[str, AveragePrecision]:
        """By our word for the kind: box, and with masks mask."""
        read = [self.image_ids[index] for index in self.gathered.rows.get("index", np.zeros(0, int)).tolist()]
        kinds = ["bbox", "segm"] if "rles" in self.gathered.rows else ["bbox"]
        return {KINDS[kind]: average_precision(self.ground_truth, self.results, read, kind) for kind in kinds}

    @property
    def num_non_finite(self) -> int:
        return int((~self.gathered.rows["finite"]).sum()) if self.gathered.rows else 0

    @property
    def score(self) -> float:
        """Average precision of boxes; -inf if the images have no object, NaN with too many NaN or infinite outputs."""
        if self.has_too_many_non_finite:
            return float("nan")
        value = self.precisions["box"].stats["ap"]
        return float("-inf") if np.isnan(value) else value

    @property
    def tie_break(self) -> float:
        masks = self.precisions.get("mask")
        return masks.stats["ap"] if masks else 0.0

    def summary(self) -> dict[str, float]:
        """Fractions in 0..1, counts, and images per second over all ranks."""
        scores = {
            f"{kind}_{name}": value
            for kind, precision in self.precisions.items()
            for name, value in precision.stats.items()
        }
        return {
            **scores,
            "detections": len(self.results),
            **self.counts(),
        }

    def headline(self) -> str:
        shown = [
            f"{kind} AP {100 * precision.stats['ap']:.2f} % (AP50 {100 * precision.stats['ap50']:.2f} %)"
            for kind, precision in self.precisions.items()
        ]
        return self.headline_of(", ".join(shown))

    def lines(self) -> list[str]:
        lines = []
        for kind, precision in self.precisions.items():
            for name, value in precision.stats.items():
                lines.append(f"  {f'{kind} {name}'.replace('_', ' '):<20} {percent(value)}")
        return [*lines, *self.count_lines("they count as without a detection")]

    def write(self, folder: Path) -> None:
        from evaluators.detection_report import write_report

        write_report(folder, self)
