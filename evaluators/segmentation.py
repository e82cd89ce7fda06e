"""Scores of semantic segmentation: mean intersection over union, exact on any number of ranks.

Every image gives the (label, prediction) pairs of its pixels, with their counts. These are integers, so sums over
images and ranks are exact, and every score covers all pixels of all images together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluators.gather import Gathered
from evaluators.item_counts import ItemCounts, percent
from evaluators.resumable_predictions import Rows
from settings import some_of

IGNORED = 255
"""The label of ignored pixels."""
NO_CLASS = -1
"""The prediction for the pixels of an image whose outputs are NaN or infinite."""


def count_pairs(labels: torch.Tensor, predicted: torch.Tensor, num_classes: int) -> np.ndarray:
    """The pairs (label, prediction) of pixels and how often each occurs: int64 [P, 3].

    Args:
        labels, predicted: classes [H, W], integers; pixels with label 255 are ignored; `NO_CLASS` may be predicted.
        num_classes: K.
    """
    counted = labels != IGNORED
    codes = labels[counted].long() * (num_classes + 1) + predicted[counted].long() + 1
    counts = torch.bincount(codes, minlength=num_classes * (num_classes + 1))
    codes = counts.nonzero().flatten()
    pairs = torch.stack([codes // (num_classes + 1), codes % (num_classes + 1) - 1, counts[codes]], dim=1)
    return pairs.cpu().numpy()


def rows_of_images(
    index: torch.Tensor, labels: Sequence[torch.Tensor], predicted: Sequence[torch.Tensor], num_classes: int
) -> Rows:
    """Rows for `evaluators.gather.gather`: `index` [B], and `pairs`, one array [P, 3] per image (see `count_pairs`)."""
    pairs = zip(labels, predicted, strict=True)
    return {
        "index": index.cpu().numpy(),
        "pairs": [count_pairs(label.to(guess.device), guess, num_classes) for label, guess in pairs],
    }


@dataclass(frozen=True)
class PixelScores:
    """Scores of a confusion matrix of pixels, as fractions in 0..1; NaN where there is nothing to divide by."""

    confusion: np.ndarray
    """int64 [K, K]: row = label, column = prediction."""
    num_without_class: np.ndarray
    """int64 [K]: pixels with prediction `NO_CLASS`, by label."""

    @property
    def pixels(self) -> np.ndarray:
        """[K]: pixels with each label."""
        return self.confusion.sum(axis=1) + self.num_without_class

    @property
    def iou(self) -> np.ndarray:
        """[K]: pixels with label and prediction k over those with either; NaN for a class with neither."""
        both = np.diag(self.confusion)
        return _divide(both, self.pixels + self.confusion.sum(axis=0) - both)

    @property
    def accuracy(self) -> np.ndarray:
        """[K]: fraction of the pixels of each class that are predicted correctly; NaN without such pixels."""
        return _divide(np.diag(self.confusion), self.pixels)

    @property
    def mean_iou(self) -> float:
        return _mean(self.iou)

    @property
    def mean_accuracy(self) -> float:
        return _mean(self.accuracy)

    @property
    def pixel_accuracy(self) -> float:
        return float(_divide(np.trace(self.confusion), self.pixels.sum()))


def score_pairs(pairs: np.ndarray, num_classes: int) -> PixelScores:
    """Scores of the pixels counted in `pairs` [P, 3], from one image or several."""
    matrix = np.zeros((num_classes, num_classes + 1), dtype=np.int64)
    np.add.at(matrix, (pairs[:, 0], pairs[:, 1] + 1), pairs[:, 2])
    return PixelScores(matrix[:, 1:], matrix[:, 0])


def _divide(numerator: Any, denominator: Any) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(numerator, dtype=np.float64) / denominator


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


@dataclass(frozen=True)
class SegmentationEvaluation(ItemCounts):
    """The scores of predicted label maps, as an `engine.task.Evaluation`."""

    gathered: Gathered
    """The rows of `rows_of_images`; if predictions are to be written, `png` with an encoded label map each."""
    class_names: Sequence[str]
    items: Sequence[tuple[str, str]]
    """Id and path of each image of the list."""
    max_non_finite: float
    """There is no score if a larger fraction of images has NaN or infinite outputs."""

    @cached_property
    def scores(self) -> PixelScores:
        """Of all pixels of all images together."""
        pairs = self.gathered.rows.get("pairs", [])
        return score_pairs(np.concatenate([np.zeros((0, 3), dtype=np.int64), *pairs]), len(self.class_names))

    @property
    def num_non_finite(self) -> int:
        return sum(bool((pairs[:, 1] == NO_CLASS).any()) for pairs in self.gathered.rows.get("pairs", []))

    @property
    def score(self) -> float:
        """Mean IoU; -inf if no pixel has a label, NaN with too many NaN or infinite outputs."""
        if self.has_too_many_non_finite:
            return float("nan")
        return self.scores.mean_iou if self.scores.pixels.any() else float("-inf")

    @property
    def tie_break(self) -> float:
        return self.scores.pixel_accuracy

    def summary(self) -> dict[str, float]:
        """Fractions in 0..1, counts, and images per second over all ranks."""
        scores = self.scores
        return {
            "mean_iou": scores.mean_iou,
            "mean_accuracy": scores.mean_accuracy,
            "pixel_accuracy": scores.pixel_accuracy,
            **self.counts(),
        }

    def headline(self) -> str:
        scores = self.scores
        shown = f"{100 * scores.mean_iou:.2f} % mean IoU, {100 * scores.pixel_accuracy:.2f} % of the pixels"
        return self.headline_of(shown)

    def lines(self) -> list[str]:
        summary = self.summary()
        lines = [
            f"  {name.replace('_', ' '):<20} " + percent(summary[name])
            for name in ("mean_iou", "mean_accuracy", "pixel_accuracy")
        ]
        missing = [name for name, count in zip(self.class_names, self.scores.pixels, strict=True) if not count]
        if missing:
            lines.append(f"  {'without a pixel':<20} {some_of(missing, len(self.class_names))}")
        return [*lines, *self.count_lines("their pixels count as wrong")]

    def write(self, folder: Path) -> None:
        from evaluators.segmentation_report import write_report

        write_report(folder, self)
