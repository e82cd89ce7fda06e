"""Scores of items that may have several classes: mean average precision, the Charades metric.

The scores of an item are the sigmoids of the logits, averaged over its views. Each class is evaluated separately: items
are sorted by score, and average precision is the mean, over the items of the class, of the precision among all items
with the same or a higher score. An item with NaN or infinite outputs is never found, whatever its classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from evaluators.class_scores import NO_GUESS, NO_RANK, mean_or_nan
from evaluators.classification import MAX_NON_FINITE, ClassificationEvaluation, Naming, Predictions
from evaluators.gather import to_columns
from evaluators.resumable_predictions import Rows


def average_precision(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Average precision per class [C] from `scores` [N, C] and `targets` bool [N, C]; NaN for classes without items.

    It is the area under the stepwise precision-recall curve. Items with tied scores form one step. An item of the class
    whose score is NaN is never found: it lowers the recall.
    """
    order = np.argsort(-scores, axis=0, kind="stable")  # NaN comes last
    found = np.cumsum(np.take_along_axis(targets, order, axis=0), axis=0)  # [N, C]: hits among the n + 1 highest
    precision = found / np.arange(1, len(scores) + 1)[:, None]
    result = np.full(scores.shape[1], np.nan)
    for label in np.flatnonzero(targets.any(axis=0)):
        ranked = scores[order[:, label], label]
        ends_tie = np.append(ranked[1:] != ranked[:-1], True)  # last of each group of tied scores
        gained = np.diff(found[ends_tie, label], prepend=0) * ~np.isnan(ranked[ends_tie])
        result[label] = (gained * precision[ends_tie, label]).sum() / found[-1, label]
    return result


@dataclass(frozen=True)
class MultiLabelScores:
    """Scores of items with several classes, as fractions in 0..1; NaN without items."""

    top1: float  # fraction of items with a best guess that is one of their classes
    top5: float  # fraction of items with one of their classes among the five best guesses
    average_precision: np.ndarray  # [C], NaN for classes without items
    count: np.ndarray  # [C]: items of each class

    @property
    def mean_average_precision(self) -> float:
        """The mean over all classes with items."""
        present = self.count > 0
        return mean_or_nan(self.average_precision[present])


@dataclass(frozen=True)
class MultiLabelEvaluation(ClassificationEvaluation):
    """A `ClassificationEvaluation` of items that may have several classes.

    `targets`: bool [N, C], one row per prediction.
    """

    item_scores: MultiLabelScores
    targets: np.ndarray

    @property
    def main_score(self) -> float:
        return self.item_scores.mean_average_precision

    @property
    def is_labeled(self) -> np.ndarray:
        return self.targets.any(axis=1)

    def accuracies(self) -> dict[str, float]:
        mean_average_precision = self.item_scores.mean_average_precision
        return {"mean_average_precision": mean_average_precision, **self.topk_accuracies()}

    def _headline_scores(self) -> str:
        return f"{super()._headline_scores()}, mean average precision {100 * self.main_score:.2f} %"

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
    """Like `evaluators.classification.score_views`; a view is correct if its best guess is any class of the item.

    All classes are kept as guesses, because average precision needs them. `label_rank` is the rank of the best-ranked
    class of the item. `targets_of(index) -> bool [B, C]` returns the classes of the items.
    """
    targets = torch.from_numpy(targets_of(index.tolist())).to(logits.device)  # [B, C]
    known = targets.any(dim=1)
    finite_views = logits.isfinite().all(dim=-1)  # [B, V]
    is_finite = finite_views.all(dim=1)  # [B]
    view_targets = targets[:, None].expand_as(logits)  # [B, V, C]
    loss = F.binary_cross_entropy_with_logits(logits, view_targets.to(logits.dtype), reduction="none").mean(dim=(1, 2))
    hits = view_targets.gather(2, logits.argsort(dim=2, descending=True, stable=True)[..., :5])  # [B, V, 5]
    probabilities = logits.sigmoid().mean(dim=1)  # [B, V, C] -> [B, C]
    best = probabilities.sort(dim=-1, descending=True, stable=True)
    return to_columns(
        index=index,
        label=labels,
        guesses=best.indices.masked_fill(~is_finite[:, None], NO_GUESS),
        probabilities=best.values.masked_fill(~is_finite[:, None], torch.nan),
        label_rank=targets.gather(1, best.indices).int().argmax(dim=1).masked_fill(~is_finite, NO_RANK),
        view_loss=loss.masked_fill(~is_finite, torch.nan).masked_fill(~known, 0),
        view_top1=(hits[..., 0] & finite_views).double().mean(dim=1),
        view_top5=(hits.any(dim=2) & finite_views).double().mean(dim=1),
    )


def evaluate_multi_label(
    predictions: Predictions, targets: np.ndarray, naming: Naming, max_non_finite: float = MAX_NON_FINITE
) -> MultiLabelEvaluation:
    """Scores the items with a label; NaN if there are none. `targets` [N, C]: one row per prediction."""
    known, is_finite = targets.any(axis=1), predictions.is_finite
    probabilities = np.full(predictions.probabilities.shape, np.nan)  # [N, C], in the order of the classes
    rows = np.flatnonzero(is_finite)[:, None]
    probabilities[rows, predictions.guesses[is_finite]] = predictions.probabilities[is_finite]

    return MultiLabelEvaluation(
        predictions=predictions,
        naming=naming,
        item_scores=MultiLabelScores(
            top1=mean_or_nan(predictions.label_rank[known] < 1),
            top5=mean_or_nan(predictions.label_rank[known] < 5),
            average_precision=average_precision(probabilities[known], targets[known]),
            count=targets.sum(axis=0),
        ),
        view_top1=mean_or_nan(predictions.view_top1[known]),
        view_top5=mean_or_nan(predictions.view_top5[known]),
        loss=mean_or_nan(predictions.view_loss[known & is_finite]),
        max_non_finite=max_non_finite,
        targets=targets,
    )
