"""Scores of items that have one class each: top-1, top-5, per class.

An item (a video, an image) is seen through one or several views; its probabilities are the mean of the softmax of its
views. Of these the best few are kept, and the rank of its label among all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from evaluators.class_scores import ClassScores, rank_of_label, score_classes
from evaluators.classification_report import NUM_GUESSES, summary_lines, write_report
from evaluators.gather import Gathered, to_columns
from evaluators.resumable_predictions import Rows

ViewScorer = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Rows]
"""As `score_views`."""


@dataclass(frozen=True)
class Naming:
    """What a task calls its things."""

    item: str
    """What is classified, such as video."""
    view: str
    """What the network sees of it at once, such as clip."""
    class_names: Sequence[str]
    describe: Callable[[int], tuple[str, str]]
    """From the number of an item to its id and its path."""


@dataclass(frozen=True)
class Predictions:
    """What was predicted, one row for each item that was read, ordered by item index."""

    index: np.ndarray  # [N] int64: position in the list
    label: np.ndarray  # [N] int64, -1 where unknown
    guesses: np.ndarray  # [N, G] int64: the most probable classes, best first, ties to the lower class
    probabilities: np.ndarray  # [N, G] float64: theirs, mean over views
    label_rank: np.ndarray  # [N] int64: rank of the label among all classes, from 0 (0 where it is unknown)
    view_loss: np.ndarray  # [N] float64, mean cross entropy of the views (0 where the label is unknown)
    view_top1: np.ndarray  # [N] float64, share of views that are right
    view_top5: np.ndarray  # [N] float64
    failures: list[dict[str, Any]]  # items that could not be read: index, path, reason
    num_items: int  # items in the list, read or not
    num_views: int  # views per item
    num_classes: int
    seconds: float  # wall-clock time
    num_kept: int = 0  # items whose predictions an interrupted evaluation had left: they took none of it


def predictions_from(gathered: Gathered, num_views: int, num_classes: int) -> Predictions:
    """What `evaluators.gather.gather` merged of the rows of `score_views`, or of a scorer like it."""
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
    """The scores of some predictions; an `engine.task.Evaluation`."""

    predictions: Predictions
    naming: Naming
    item_scores: ClassScores  # of the mean over views
    view_top1: float
    view_top5: float
    loss: float

    @property
    def failures(self) -> list[dict[str, Any]]:
        return self.predictions.failures

    @property
    def num_read(self) -> int:
        return len(self.predictions.index)

    @property
    def score(self) -> float:
        """The one number by which weights are compared: top-1 of the items, -inf where none has a label."""
        return self.item_scores.top1 if (self.predictions.label >= 0).any() else float("-inf")

    def accuracies(self) -> dict[str, float]:
        """The scores by name, fractions in 0..1, the views' first."""
        return {
            f"{self.naming.view}_top1": self.view_top1,
            f"{self.naming.view}_top5": self.view_top5,
            f"{self.naming.item}_top1": self.item_scores.top1,
            f"{self.naming.item}_top5": self.item_scores.top5,
            "mean_class_accuracy": self.item_scores.mean_class_accuracy,
        }

    def labels_of(self, row: int) -> list[int]:
        """The classes of the item in a row of the predictions; none where it is unknown."""
        label = int(self.predictions.label[row])
        return [label] if label >= 0 else []

    def class_scores(self) -> tuple[str, np.ndarray, np.ndarray]:
        """What each class is scored by, how many items it has [C], and its score [C], NaN where it has none."""
        return "accuracy", self.item_scores.per_class_count, self.item_scores.per_class_accuracy

    def summary(self) -> dict[str, float]:
        """The numbers worth a line: fractions in 0..1, counts, views per second over all ranks."""
        predictions, item, view = self.predictions, self.naming.item, self.naming.view
        return {
            "top1": self.item_scores.top1,
            **self.accuracies(),
            "loss": self.loss,
            f"{item}s_read": self.num_read,
            f"{item}s_scored": int((predictions.label >= 0).sum()),
            f"{item}s_listed": predictions.num_items,
            "coverage": self.num_read / max(1, predictions.num_items),
            f"{view}s_per_{item}": predictions.num_views,
            f"{view}s_per_second": (self.num_read - predictions.num_kept)
            * (predictions.num_views / max(predictions.seconds, 1e-9)),
        }

    def headline(self) -> str:
        top1, top5 = 100 * self.item_scores.top1, 100 * self.item_scores.top5
        counts = f"{self.num_read} of {self.predictions.num_items} {self.naming.item}s"
        return f"{top1:.2f} % top-1, {top5:.2f} % top-5 on {counts}"

    def lines(self) -> list[str]:
        return summary_lines(self)

    def write(self, folder: Path) -> None:
        write_report(folder, self)


def score_views(
    index: torch.Tensor, labels: torch.Tensor, logits: torch.Tensor, num_guesses: int = NUM_GUESSES
) -> Rows:
    """The columns of `Predictions`, `index` to `view_top5`, of items [B] from the logits [B, V, C] of their views."""
    num_items, num_views, _ = logits.shape
    labels = labels.to(logits.device)
    known = labels >= 0
    some_label = labels.clamp(min=0)
    view_labels = some_label[:, None].expand(-1, num_views)  # [B] -> [B, V]
    loss = F.cross_entropy(logits.flatten(0, 1), view_labels.flatten(), reduction="none").view(num_items, num_views)
    view_rank = rank_of_label(logits, view_labels)  # [B, V]
    probabilities = logits.softmax(dim=-1).mean(dim=1)  # [B, V, C] -> [B, C]
    best = probabilities.sort(dim=-1, descending=True, stable=True)
    return to_columns(
        index=index,
        label=labels,
        guesses=best.indices[:, :num_guesses],
        probabilities=best.values[:, :num_guesses],
        label_rank=rank_of_label(probabilities, some_label) * known,
        view_loss=loss.mean(dim=1) * known,
        view_top1=(view_rank < 1).double().mean(dim=1) * known,
        view_top5=(view_rank < 5).double().mean(dim=1) * known,
    )


def _no_rows(num_classes: int) -> Rows:
    none = torch.zeros(0, dtype=torch.int64)
    return score_views(none, none, torch.zeros(0, 1, num_classes, dtype=torch.float64))


def evaluate_predictions(predictions: Predictions, naming: Naming) -> ClassificationEvaluation:
    """Scores of the items whose label is known; NaN where there is none."""
    known = predictions.label >= 0

    def mean(values: np.ndarray) -> float:
        return float(values[known].mean()) if known.any() else float("nan")

    return ClassificationEvaluation(
        predictions=predictions,
        naming=naming,
        item_scores=score_classes(
            predictions.guesses[known, 0],
            predictions.label_rank[known],
            predictions.label[known],
            predictions.num_classes,
        ),
        view_top1=mean(predictions.view_top1),
        view_top5=mean(predictions.view_top5),
        loss=mean(predictions.view_loss),
    )
