"""Evaluation that counts every item exactly once, on any number of ranks.

An item (a video, an image) is seen through one or several views; the item's probabilities are the mean of the softmax
of its views. Whole batches are dealt to the ranks, so a batch holds the same items however many ranks there are,
nothing is padded, and what the ranks found is merged by item index: one rank and many give the same numbers to the
last digit. (On CPUs with the same `run.num_threads`: with more threads a kernel may add in another order.) An item that
cannot be read is never replaced. It is listed, and lowers the coverage.

Of an item's probabilities the best few are kept, and the place of its label among all. Finished batches may be kept on
disk, so that a long evaluation that was interrupted goes on where it was: see evaluators/resumable_predictions.py.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from engine.distributed import Ranks
from evaluators.class_scores import ClassScores, rank_of_label, score_classes
from evaluators.resumable_predictions import Columns, PartialPredictions

NUM_GUESSES = 5


@dataclass(frozen=True)
class Predictions:
    """What was predicted, one row an item that was read, ordered by item index."""

    index: np.ndarray  # [N] int64: position in the list
    label: np.ndarray  # [N] int64, -1 where unknown
    guesses: np.ndarray  # [N, G] int64: the most probable classes, the best first, of equals the lower class first
    probabilities: np.ndarray  # [N, G] float64: theirs, mean over views
    label_rank: np.ndarray  # [N] int64: place of the label among all classes, from 0 (0 where it is unknown)
    view_loss: np.ndarray  # [N] float64, mean cross entropy of the views (0 where the label is unknown)
    view_top1: np.ndarray  # [N] float64, share of views that are right
    view_top5: np.ndarray  # [N] float64
    failures: list[dict[str, Any]]  # items that could not be read: index, path, reason
    num_items: int  # items in the list, read or not
    num_views: int  # views per item
    num_classes: int
    seconds: float  # wall-clock time
    num_kept: int = 0  # items whose predictions an interrupted evaluation had left: they took none of it


ViewScorer = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Columns]
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
            f"{view}s_per_second": (self.num_read - predictions.num_kept)
            * (predictions.num_views / max(predictions.seconds, 1e-9)),
        }


@torch.inference_mode()
def predict_items(
    batches: Iterable[dict[str, Any]],
    predict: Callable[[dict[str, Any]], torch.Tensor],
    ranks: Ranks,
    num_items: int,
    num_views: int,
    score: ViewScorer | None = None,
    partial: PartialPredictions | None = None,
) -> Predictions | None:
    """Predictions of the `batches` of this rank, merged over the ranks; on the main rank, None on the others.

    A batch is a dict with `index` [B], `label` [B], `failures` (a list) and what `predict(batch) -> logits [B, V, C]`
    needs; B may be 0 where nothing in it could be read. `score`: other than `score_views`. What `partial` has kept is
    merged, too, and what is predicted is kept in it.
    """
    start = time.perf_counter()
    rows: list[Columns] = []
    failures: list[dict[str, Any]] = []
    for batch in batches:
        failures += batch["failures"]
        if len(batch["index"]) == 0:
            continue
        logits = predict(batch).double()  # [B, V, C]
        columns = (score or score_views)(batch["index"], batch["label"], logits)
        rows.append(columns)
        if partial is not None and not batch["failures"]:  # what could not be read is tried again
            partial.keep(columns)
    gathered = ranks.gather((rows, failures))
    if gathered is None:
        return None
    kept = [] if partial is None else partial.found
    all_rows = [*kept, *(row for rank_rows, _ in gathered for row in rank_rows)] or [_no_rows()]
    columns = {name: np.concatenate([row[name] for row in all_rows]) for name in all_rows[0]}
    order = np.argsort(columns["index"], kind="stable")
    failures = [failure for _, rank_failures in gathered for failure in rank_failures]
    num_classes = int(columns.pop("num_classes").max())
    return Predictions(
        **{name: column[order] for name, column in columns.items()},
        failures=sorted(failures, key=lambda failure: failure["index"]),
        num_items=num_items,
        num_views=num_views,
        num_classes=num_classes,
        seconds=time.perf_counter() - start,
        num_kept=sum(len(row["index"]) for row in kept),
    )


def score_views(
    index: torch.Tensor, labels: torch.Tensor, logits: torch.Tensor, num_guesses: int = NUM_GUESSES
) -> Columns:
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
        num_classes=torch.tensor([logits.shape[2]]),
    )


def to_columns(**columns: torch.Tensor) -> Columns:
    """The same as arrays of NumPy."""
    return {name: column.cpu().numpy() for name, column in columns.items()}


def _no_rows() -> Columns:
    none = torch.zeros(0, dtype=torch.int64)
    return score_views(none, none, torch.zeros(0, 1, 1, dtype=torch.float64), num_guesses=1)


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
