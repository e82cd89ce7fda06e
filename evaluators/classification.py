"""Scores of items with one class each: top-1, top-5, per class.

An item (a video, an image) has one or more views. Its probabilities are the softmax averaged over the views. Only the
best few probabilities and the rank of the label are kept.

An item with a NaN or infinite logit in any of its views has no guess and counts as wrong. If the fraction of such items
exceeds `max_non_finite`, the evaluation has no score.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from evaluators import non_finite
from evaluators.class_scores import (
    NO_GUESS,
    NO_RANK,
    ClassScores,
    best_classes,
    mean_or_nan,
    rank_of_label,
    ranks_worth_counting,
    score_classes,
)
from evaluators.classification_report import NUM_GUESSES, summary_lines, write_report
from evaluators.gather import Gathered, to_columns
from evaluators.non_finite import MAX_NON_FINITE
from evaluators.resumable_predictions import Rows

ViewScorer = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Rows]
"""(index, labels, logits) -> rows, like `score_views`."""


@dataclass(frozen=True)
class Naming:
    """The names that reports use."""

    item: str
    """The classified item, such as "video"."""
    view: str
    """One input of the network, such as "clip"."""
    class_names: Sequence[str]
    describe: Callable[[int], tuple[str, str]]
    """Index of an item -> its id and path."""


@dataclass(frozen=True)
class Predictions:
    """Predictions, one row per readable item, ordered by item index."""

    index: np.ndarray  # [N] int64: position in the list
    label: np.ndarray  # [N] int64, -1 if unknown
    guesses: np.ndarray  # [N, G] int64: the most probable classes, best first; ties go to the lower class
    probabilities: np.ndarray  # [N, G] float64: probabilities of the guesses, averaged over views
    label_rank: np.ndarray  # [N] int64: rank of the label among all classes, from 0 (0 if unknown)
    view_loss: np.ndarray  # [N] float64: cross entropy averaged over views (0 if the label is unknown)
    view_top1: np.ndarray  # [N] float64: fraction of views with a correct best guess
    view_top5: np.ndarray  # [N] float64: fraction of views with the label among the five best guesses
    # A row whose outputs are not finite has guesses NO_GUESS, probabilities NaN, label_rank NO_RANK and view_loss NaN.
    failures: list[dict[str, Any]]  # items that could not be read: index, path, reason
    num_items: int  # items in the list, readable or not
    num_views: int  # views per item
    num_classes: int
    seconds: float  # wall-clock time
    num_kept: int = 0  # items restored from an interrupted evaluation, which cost no time

    @property
    def is_finite(self) -> np.ndarray:
        """[N] bool: whether all outputs for an item are finite."""
        return np.isfinite(self.probabilities).all(axis=1)

    @property
    def num_non_finite(self) -> int:
        return int((~self.is_finite).sum())

    def has_too_many_non_finite(self, max_share: float) -> bool:
        """Whether the fraction of items with NaN or infinite outputs exceeds `max_share`."""
        return non_finite.too_many(self.num_non_finite, len(self.index), max_share)

    def say_non_finite(self, max_share: float) -> str:
        """How many items have NaN or infinite outputs, and whether there are too many; "" without any."""
        return non_finite.describe(self.num_non_finite, len(self.index), max_share)


def predictions_from(gathered: Gathered, num_views: int, num_classes: int) -> Predictions:
    """Predictions from the rows of a `ViewScorer`, merged by `evaluators.gather.gather`."""
    return Predictions(
        **(gathered.rows or _no_rows(num_classes)),
        failures=gathered.failures,
        num_items=gathered.num_items,
        num_views=num_views,
        num_classes=num_classes,
        seconds=gathered.seconds,
        num_kept=gathered.num_kept,
    )


@dataclass(frozen=True)
class ClassificationEvaluation:
    """The scores of predictions, as an `engine.task.Evaluation`."""

    predictions: Predictions
    naming: Naming
    item_scores: ClassScores  # of the probabilities averaged over views
    view_top1: float
    view_top5: float
    loss: float  # of the items with finite outputs
    max_non_finite: float  # there is no score if a larger fraction of items has NaN or infinite outputs

    @property
    def failures(self) -> list[dict[str, Any]]:
        return self.predictions.failures

    @property
    def num_read(self) -> int:
        return len(self.predictions.index)

    @property
    def score(self) -> float:
        """Ranks checkpoints: `main_score`; -inf if no item can be scored, NaN with too many NaN or infinite outputs."""
        if self.predictions.has_too_many_non_finite(self.max_non_finite):
            return float("nan")
        return self.main_score if (self.is_labeled & self.predictions.is_finite).any() else float("-inf")

    @property
    def tie_break(self) -> float:
        """Weights with equal scores are ranked by their loss."""
        return -self.loss

    @property
    def main_score(self) -> float:
        return self.item_scores.top1

    @property
    def is_labeled(self) -> np.ndarray:
        """[N] bool: whether the class of an item is known."""
        return self.predictions.label >= 0

    def accuracies(self) -> dict[str, float]:
        """The scores by name, as fractions in 0..1, those of the views first."""
        return {**self.topk_accuracies(), "mean_class_accuracy": self.item_scores.mean_class_accuracy}

    def topk_accuracies(self) -> dict[str, float]:
        """Top-1 and, with more than five classes, top-5 of views and items, by name."""
        of_views = {1: self.view_top1, 5: self.view_top5}
        of_items = {1: self.item_scores.top1, 5: self.item_scores.top5}
        ranks = ranks_worth_counting(self.predictions.num_classes)
        return {
            f"{what}_top{k}": scores[k]
            for what, scores in ((self.naming.view, of_views), (self.naming.item, of_items))
            for k in ranks
        }

    def labels_of(self, row: int) -> list[int]:
        """The classes of the item in a row of the predictions; [] if unknown."""
        label = int(self.predictions.label[row])
        return [label] if label >= 0 else []

    def class_scores(self) -> tuple[str, np.ndarray, np.ndarray]:
        """Per class: name of the score, number of items [C], and scores [C], NaN without items."""
        return "accuracy", self.item_scores.per_class_count, self.item_scores.per_class_accuracy

    def summary(self) -> dict[str, float]:
        """Fractions in 0..1, counts, and views per second over all ranks."""
        predictions, item, view = self.predictions, self.naming.item, self.naming.view
        return {
            "top1": self.item_scores.top1,
            **self.accuracies(),
            "loss": self.loss,
            f"{item}s_read": self.num_read,
            f"{item}s_scored": int((predictions.label >= 0).sum()),
            f"{item}s_non_finite": predictions.num_non_finite,
            f"{item}s_listed": predictions.num_items,
            "coverage": self.num_read / max(1, predictions.num_items),
            f"{view}s_per_{item}": predictions.num_views,
            f"{view}s_per_second": (self.num_read - predictions.num_kept)
            * (predictions.num_views / max(predictions.seconds, 1e-9)),
        }

    def headline(self) -> str:
        counts = f"{self.num_read} of {self.predictions.num_items} {self.naming.item}s"
        parts = [f"{self._headline_scores()} on {counts}", self.predictions.say_non_finite(self.max_non_finite)]
        return "; ".join(filter(None, parts))

    def _headline_scores(self) -> str:
        scores = {1: self.item_scores.top1, 5: self.item_scores.top5}
        ranks = ranks_worth_counting(self.predictions.num_classes)
        return ", ".join(f"{100 * scores[k]:.2f} % top-{k}" for k in ranks)

    def lines(self) -> list[str]:
        return summary_lines(self)

    def write(self, folder: Path) -> None:
        write_report(folder, self)


def score_views(
    index: torch.Tensor, labels: torch.Tensor, logits: torch.Tensor, num_guesses: int = NUM_GUESSES
) -> Rows:
    """The columns `index` to `view_top5` of `Predictions`, for items [B] with logits [B, V, C] of their views."""
    num_items, num_views, _ = logits.shape
    finite_views = logits.isfinite().all(dim=-1)  # [B, V]
    is_finite = finite_views.all(dim=1)  # [B]
    labels = labels.to(logits.device)
    known = labels >= 0
    valid_labels = labels.clamp(min=0)  # unknown labels become 0 and are masked by `known`
    view_labels = valid_labels[:, None].expand(-1, num_views)  # [B] -> [B, V]
    loss = F.cross_entropy(logits.flatten(0, 1), view_labels.flatten(), reduction="none").view(num_items, num_views)
    view_rank = rank_of_label(logits, view_labels)  # [B, V]
    probabilities = logits.softmax(dim=-1).mean(dim=1)  # [B, V, C] -> [B, C]
    best_probabilities, guesses = best_classes(probabilities, num_guesses)
    return to_columns(
        index=index,
        label=labels,
        guesses=guesses.masked_fill(~is_finite[:, None], NO_GUESS),
        probabilities=best_probabilities.masked_fill(~is_finite[:, None], torch.nan),
        label_rank=rank_of_label(probabilities, valid_labels).masked_fill(~is_finite, NO_RANK) * known,
        view_loss=loss.mean(dim=1).masked_fill(~is_finite, torch.nan).masked_fill(~known, 0),
        view_top1=((view_rank < 1) & finite_views).double().mean(dim=1) * known,
        view_top5=((view_rank < 5) & finite_views).double().mean(dim=1) * known,
    )


def _no_rows(num_classes: int) -> Rows:
    empty = torch.zeros(0, dtype=torch.int64)
    return score_views(empty, empty, torch.zeros(0, 1, num_classes, dtype=torch.float64))


def evaluate_predictions(
    predictions: Predictions, naming: Naming, max_non_finite: float = MAX_NON_FINITE
) -> ClassificationEvaluation:
    """Scores the items with a label; NaN if there are none."""
    known = predictions.label >= 0

    return ClassificationEvaluation(
        predictions=predictions,
        naming=naming,
        item_scores=score_classes(
            predictions.guesses[known, 0],
            predictions.label_rank[known],
            predictions.label[known],
            predictions.num_classes,
        ),
        view_top1=mean_or_nan(predictions.view_top1[known]),
        view_top5=mean_or_nan(predictions.view_top5[known]),
        loss=mean_or_nan(predictions.view_loss[known & predictions.is_finite]),
        max_non_finite=max_non_finite,
    )
