"""Scores of a classifier."""

from dataclasses import dataclass

import numpy as np
import torch


def count_correct(logits: torch.Tensor, labels: torch.Tensor, k: int) -> torch.Tensor:
    """How many of `labels` [B] are among the `k` largest of `logits` [B, C] (all of them where C <= k)."""
    return (rank_of_label(logits, labels) < k).sum()


def rank_of_label(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The place, from 0, of each of `labels` [...] among the sorted `logits` [..., C].

    Ties go to the lower class; a NaN logit puts the label last.
    """
    value = logits.gather(-1, labels[..., None])  # [..., 1]
    before = torch.arange(logits.shape[-1], device=logits.device) < labels[..., None]  # [..., C]
    return (~(logits <= value) | ((logits == value) & before)).sum(dim=-1)


@dataclass(frozen=True)
class ClassScores:
    """Accuracies of guesses; all fractions in 0..1, `nan` where there is nothing to count.

    The confusion matrix is kept as the pairs of classes that occur: for 22,000 classes it would fill gigabytes.
    """

    top1: float
    top5: float
    num_classes: int
    pairs: np.ndarray  # [P, 2]: true class, predicted class, sorted
    counts: np.ndarray  # [P]: how often

    @property
    def confusion(self) -> np.ndarray:
        """[C, C] counts: row = true class, column = predicted class."""
        matrix = np.zeros((self.num_classes, self.num_classes), dtype=np.int64)
        matrix[tuple(self.pairs.T)] = self.counts
        return matrix

    @property
    def per_class_count(self) -> np.ndarray:
        return self._per_class(self.counts)

    @property
    def per_class_accuracy(self) -> np.ndarray:
        """[C], `nan` for classes without a sample."""
        right = self._per_class(np.where(self.pairs[:, 0] == self.pairs[:, 1], self.counts, 0))
        with np.errstate(invalid="ignore"):
            return right / self.per_class_count

    @property
    def mean_class_accuracy(self) -> float:
        accuracies = self.per_class_accuracy[self.per_class_count > 0]
        return float(accuracies.mean()) if len(accuracies) else float("nan")

    def _per_class(self, counts: np.ndarray) -> np.ndarray:
        """Sums of `counts` [P] over the pairs of each true class -> [C]."""
        sums = np.zeros(self.num_classes, dtype=np.int64)
        np.add.at(sums, self.pairs[:, 0], counts)
        return sums


def score_classes(guesses: np.ndarray, ranks: np.ndarray, labels: np.ndarray, num_classes: int) -> ClassScores:
    """Scores of the first `guesses` [N], and of the `ranks` [N] of the `labels` [N] as `rank_of_label` gives them."""
    pairs, counts = np.unique(np.stack([labels, guesses], axis=1), axis=0, return_counts=True)
    is_empty = len(labels) == 0
    return ClassScores(
        top1=float("nan") if is_empty else float((ranks < 1).mean()),
        top5=float("nan") if is_empty else float((ranks < 5).mean()),
        num_classes=num_classes,
        pairs=pairs,
        counts=counts,
    )
