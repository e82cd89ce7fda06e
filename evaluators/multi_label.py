"""Scores of items that may have several classes: mean average precision, as Charades is scored.

A view's scores are the sigmoids of its logits, an item's the mean over its views. Each class is scored by itself: items
are sorted by their score, and average precision is the mean, over the items that have the class, of the precision among
all items with that score or a higher one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from evaluators.classification import ClassificationEvaluation, Naming, Predictions
from evaluators.gather import to_columns
from evaluators.resumable_predictions import Rows


def average_precision(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Average precision of each class [C] from `scores` [N, C] and `targets` bool [N, C]; NaN where none has it.

    The area below the steps of precision over recall; items of equal score come at once.
    """
    order = np.argsort(-scores, axis=0, kind="stable")
    found = np.cumsum(np.take_along_axis(targets, order, axis=0), axis=0)  # [N, C]: of the n + 1 highest
    precision = found / np.arange(1, len(scores) + 1)[:, None]
    result = np.full(scores.shape[1], np.nan)
    for label in np.flatnonzero(targets.any(axis=0)):
        ranked = scores[order[:, label], label]
        last = np.append(ranked[1:] != ranked[:-1], True)  # of those of equal score
        gained = np.diff(found[last, label], prepend=0)
        result[label] = (gained * precision[last, label]).sum() / found[-1, label]
    return result


@dataclass(frozen=True)
class MultiLabelScores:
    """Scores of items with several classes; fractions in 0..1, NaN where there is nothing to count."""

    top1: float  # share of items whose best guess is one of their classes
    top5: float  # one of whose five best guesses is
    average_precision: np.ndarray  # [C], NaN for classes that no item has
    count: np.ndarray  # [C] items that have the class

    @property
    def mean_average_precision(self) -> float:
        """Over the classes that some item has."""
        present = self.count > 0
        return float(self.average_precision[present].mean()) if present.any() else float("nan")


@dataclass(frozen=True)
class MultiLabelEvaluation(ClassificationEvaluation):
    """As `ClassificationEvaluation`, of items that may have several classes.

    `targets`: bool [N, C], a row for each prediction.
    """

    item_scores: MultiLabelScores
    targets: np.ndarray

    @property
    def score(self) -> float:
        """The one number by which weights are compared: mean average precision, -inf where no item has a label."""
        return self.item_scores.mean_average_precision if self.targets.any() else float("-inf")

    def accuracies(self) -> dict[str, float]:
        return {
            "mean_average_precision": self.item_scores.mean_average_precision,
            f"{self.naming.view}_top1": self.view_top1,
            f"{self.naming.view}_top5": self.view_top5,
            f"{self.naming.item}_top1": self.item_scores.top1,
            f"{self.naming.item}_top5": self.item_scores.top5,
        }

    def headline(self) -> str:
        return f"{super().headline()}, mean average precision {100 * self.item_scores.mean_average_precision:.2f} %"

    def labels_of(self, row: int) -> list[int]:
        return np.flatnonzero(self.targets[row]).tolist()

    def class_scores(self) -> tuple[str, np.ndarray, np.ndarray]:
        return "average_precision", self.item_scores.count, self.item_scores.average_precision


def score_multi_label_views(
    index: torch.Tensor,
    labels: torch.Tensor,
    logits: torch.Tensor,
    targets_of: Callable[[Sequence[int]], np.ndarray],
) -> Rows:
    """As `evaluators.classification.score_views`: a view is right where its best guess is one of the item's classes.

    All classes are kept as guesses, since average precision needs them; `label_rank` is that of the item's class that
    comes first. `targets_of(index) -> bool [B, C]`: the classes of the items.
    """
    targets = torch.from_numpy(targets_of(index.tolist())).to(logits.device)  # [B, C]
    known = targets.any(dim=1)
    each = targets[:, None].expand_as(logits)  # [B, V, C]
    loss = F.binary_cross_entropy_with_logits(logits, each.to(logits.dtype), reduction="none").mean(dim=(1, 2))
    hits = each.gather(2, logits.argsort(dim=2, descending=True, stable=True)[..., :5])  # [B, V, 5]
    probabilities = logits.sigmoid().mean(dim=1)  # [B, V, C] -> [B, C]
    best = probabilities.sort(dim=-1, descending=True, stable=True)
    return to_columns(
        index=index,
        label=labels,
        guesses=best.indices,
        probabilities=best.values,
        label_rank=targets.gather(1, best.indices).int().argmax(dim=1),
        view_loss=loss * known,
        view_top1=hits[..., 0].double().mean(dim=1),
        view_top5=hits.any(dim=2).double().mean(dim=1),
    )


def evaluate_multi_label(predictions: Predictions, targets: np.ndarray, naming: Naming) -> MultiLabelEvaluation:
    """Scores of the items that have a label; NaN where there is none. `targets` [N, C]: a row for each prediction."""
    known = targets.any(axis=1)
    probabilities = np.empty_like(predictions.probabilities)  # [N, C], of each class at its place
    np.put_along_axis(probabilities, predictions.guesses, predictions.probabilities, axis=1)

    def mean(values: np.ndarray) -> float:
        return float(values[known].mean()) if known.any() else float("nan")

    return MultiLabelEvaluation(
        predictions=predictions,
        naming=naming,
        item_scores=MultiLabelScores(
            top1=mean(predictions.label_rank < 1),
            top5=mean(predictions.label_rank < 5),
            average_precision=average_precision(probabilities[known], targets[known]),
            count=targets.sum(axis=0),
        ),
        view_top1=mean(predictions.view_top1),
        view_top5=mean(predictions.view_top5),
        loss=mean(predictions.view_loss),
        targets=targets,
    )
