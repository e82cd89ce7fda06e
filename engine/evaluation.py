"""Evaluation that counts every item exactly once, on any number of ranks.

An item (a video, an image) is seen through one or several views; the item's probabilities are the mean of the softmax
of its views. Whole batches are dealt to the ranks, so a batch holds the same items however many ranks there are,
nothing is padded, and what the ranks found is merged by item index: one rank and many give the same numbers to the
last digit. (On CPUs with the same `run.num_threads`: with more threads a kernel may add in another order.) An item that
cannot be read is never replaced. It is listed, and lowers the coverage.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from engine.metrics import ClassScores, rank_of_label, score_classes
from engine.ranks import Ranks


@dataclass(frozen=True)
class Predictions:
    """What was predicted, one row an item that was read, ordered by item index."""

    index: np.ndarray  # [N] int64: position in the list
    label: np.ndarray  # [N] int64, -1 where unknown
    probabilities: np.ndarray  # [N, C] float64, mean over views
    view_loss: np.ndarray  # [N] float64, mean cross entropy of the views (0 where the label is unknown)
    view_top1: np.ndarray  # [N] float64, share of views that are right
    view_top5: np.ndarray  # [N] float64
    failures: list[dict[str, Any]]  # items that could not be read: index, path, reason
    num_items: int  # items in the list, read or not
    num_views: int  # views per item
    seconds: float  # wall-clock time


ViewScorer = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[np.ndarray, ...]]
"""As `score_views`."""


@dataclass(frozen=True)
class Evaluation:
    """The scores of some predictions. `item` and `view` are what a task calls them, such as video and clip."""

    predictions: Predictions
    item: str
    view: str
    item_scores: ClassScores  # of the mean over views
    view_top1: float
    view_top5: float
    loss: float

    @property
    def num_read(self) -> int:
        return len(self.predictions.index)

    @property
    def score(self) -> float:
        """The one number by which weights are compared: top-1 of the items, -1 where none has a label."""
        return self.item_scores.top1 if (self.predictions.label >= 0).any() else -1.0

    def accuracies(self) -> dict[str, float]:
        """The scores by name, fractions in 0..1, the views' first."""
        return {
            f"{self.view}_top1": self.view_top1,
            f"{self.view}_top5": self.view_top5,
            f"{self.item}_top1": self.item_scores.top1,
            f"{self.item}_top5": self.item_scores.top5,
            "mean_class_accuracy": self.item_scores.mean_class_accuracy,
        }

    def labels_of(self, row: int) -> list[int]:
        """The classes of the item in a row of the predictions; none where it is unknown."""
        label = int(self.predictions.label[row])
        return [label] if label >= 0 else []

    def class_scores(self) -> tuple[str, np.ndarray, np.ndarray]:
        """What each class is scored by, [C] items of it, and [C] scores, `nan` where there is none."""
        return "accuracy", self.item_scores.per_class_count, self.item_scores.per_class_accuracy

    def summary(self) -> dict[str, float]:
        """The numbers worth a line: fractions in 0..1, counts, views per second over all ranks."""
        predictions, item, view = self.predictions, self.item, self.view
        return {
            **self.accuracies(),
            "loss": self.loss,
            f"{item}s_read": self.num_read,
            f"{item}s_scored": int((predictions.label >= 0).sum()),
            f"{item}s_listed": predictions.num_items,
            "coverage": self.num_read / max(1, predictions.num_items),
            f"{view}s_per_{item}": predictions.num_views,
            f"{view}s_per_second": self.num_read * predictions.num_views / max(predictions.seconds, 1e-9),
        }


@torch.inference_mode()
def predict_items(
    batches: Iterable[dict[str, Any]],
    predict: Callable[[dict[str, Any]], torch.Tensor],
    ranks: Ranks,
    num_items: int,
    num_views: int,
    score: ViewScorer | None = None,
) -> Predictions | None:
    """Predictions of the `batches` of this rank, merged over the ranks; on the main rank, None on the others.

    A batch is a dict with `index` [B], `label` [B], `failures` (a list) and what `predict(batch) -> logits [B, V, C]`
    needs; B may be 0 where nothing in it could be read. `score`: other than `score_views`.
    """
    start = time.perf_counter()
    rows: list[tuple[np.ndarray, ...]] = []
    failures: list[dict[str, Any]] = []
    for batch in batches:
        failures += batch["failures"]
        if len(batch["index"]) == 0:
            continue
        logits = predict(batch).double()  # [B, V, C]
        rows.append((score or score_views)(batch["index"], batch["label"], logits))
    gathered = ranks.gather((rows, failures))
    if gathered is None:
        return None
    all_rows = [row for rank_rows, _ in gathered for row in rank_rows]
    columns = [np.concatenate(column) for column in zip(*all_rows, strict=True)] if all_rows else _no_rows()
    order = np.argsort(columns[0], kind="stable")
    failures = [failure for _, rank_failures in gathered for failure in rank_failures]
    return Predictions(
        *(column[order] for column in columns),
        failures=sorted(failures, key=lambda failure: failure["index"]),
        num_items=num_items,
        num_views=num_views,
        seconds=time.perf_counter() - start,
    )


def score_views(index: torch.Tensor, labels: torch.Tensor, logits: torch.Tensor) -> tuple[np.ndarray, ...]:
    """The first columns of `Predictions`, `index` to `view_top5`, of items [B] from the logits [B, V, C] of views."""
    num_items, num_views, _ = logits.shape
    labels = labels.to(logits.device)
    known = labels >= 0
    view_labels = labels.clamp(min=0)[:, None].expand(-1, num_views)  # [B] -> [B, V]
    loss = F.cross_entropy(logits.flatten(0, 1), view_labels.flatten(), reduction="none").view(num_items, num_views)
    rank = rank_of_label(logits, view_labels)  # [B, V]
    columns = (
        index,
        labels,
        logits.softmax(dim=-1).mean(dim=1),  # [B, V, C] -> [B, C]
        loss.mean(dim=1) * known,
        (rank < 1).double().mean(dim=1) * known,
        (rank < 5).double().mean(dim=1) * known,
    )
    return tuple(column.cpu().numpy() for column in columns)


def _no_rows() -> list[np.ndarray]:
    empty = np.zeros(0)
    return [empty.astype(np.int64), empty.astype(np.int64), np.zeros((0, 1)), empty, empty, empty]


def evaluate_predictions(predictions: Predictions, item: str, view: str) -> Evaluation:
    """Scores of the items whose label is known; `nan` where there is none. `item`, `view`: see `Evaluation`."""
    known = predictions.label >= 0
    nan = float("nan")

    def mean(values: np.ndarray) -> float:
        return float(values[known].mean()) if known.any() else nan

    return Evaluation(
        predictions=predictions,
        item=item,
        view=view,
        item_scores=score_classes(predictions.probabilities[known], predictions.label[known]),
        view_top1=mean(predictions.view_top1),
        view_top5=mean(predictions.view_top5),
        loss=mean(predictions.view_loss),
    )
