"""Accuracies of a classifier."""

from dataclasses import dataclass

import numpy as np
import torch

NO_GUESS = -1
"""The guess for an item whose outputs are NaN or infinite."""
NO_RANK = np.iinfo(np.int64).max
"""The rank of the label of such an item: beyond every class."""


def count_correct(logits: torch.Tensor, labels: torch.Tensor, k: int) -> torch.Tensor:
    """How many of `labels` [B] are among the `k` largest of `logits` [B, C] (all of them if C <= k)."""
    return (rank_of_label(logits, labels) < k).sum()


def rank_of_label(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The rank, from 0, of each of `labels` [...] in the sorted `logits` [..., C].

    Ties go to the lower class. Every NaN logit ranks above the label, and a label whose own logit is NaN ranks last.
    """
    value = logits.gather(-1, labels[..., None])  # [..., 1]
    before = torch.arange(logits.shape[-1], device=logits.device) < labels[..., None]  # [..., C]
    return (~(logits <= value) | ((logits == value) & before)).sum(dim=-1)


def best_classes(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `k` highest (all if C <= k) of `scores` [B, C], best first, and their classes: both [B, min(k, C)].

    Ties go to the lower class, as in a stable sort. Only rows with a tie are sorted: `topk` orders those arbitrarily.
    """
    num_classes = scores.shape[1]
    values, classes = scores.topk(min(k + 1, num_classes), dim=1)  # one more, for a tie at the k-th place
    is_tied = (values[:, 1:] == values[:, :-1]).any(dim=1)  # [B]
    values, classes = values[:, :k].clone(), classes[:, :k].clone()  # slices would keep the whole tensor alive
    if is_tied.any():
        best = scores[is_tied].sort(dim=1, descending=True, stable=True)
        values[is_tied], classes[is_tied] = best.values[:, :k], best.indices[:, :k]
    return values, classes


def ranks_worth_counting(num_classes: int) -> list[int]:
    """The k of informative top-k accuracies: 1, and 5 with more than five classes (with five, it is always 1)."""
    return [1, 5] if num_classes > 5 else [1]


def mean_or_nan(values: np.ndarray) -> float:
    """The mean of `values` [N]; NaN if N is 0."""
    return float(values.mean()) if len(values) else float("nan")


@dataclass(frozen=True)
class ClassScores:
    """Accuracies as fractions in 0..1; NaN without samples.

    The confusion matrix is stored sparsely: for 22,000 classes the full one would take gigabytes. Items without a guess
    (`NO_GUESS`) count as wrong, and are not in the matrix.
    """

    top1: float
    top5: float
    num_classes: int
    pairs: np.ndarray  # [P, 2]: (true class, predicted class) pairs that occur, sorted; NO_GUESS may be predicted
    counts: np.ndarray  # [P]: how often each pair occurs

    @property
    def confusion(self) -> np.ndarray:
        """[C, C] counts: row = true class, column = predicted class."""
        matrix = np.zeros((self.num_classes, self.num_classes), dtype=np.int64)
        pairs, counts = self.guessed_pairs()
        matrix[tuple(pairs.T)] = counts
        return matrix

    def guessed_pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """`pairs` [Q, 2] and `counts` [Q] of the items with a guess."""
        has_guess = self.pairs[:, 1] != NO_GUESS
        return self.pairs[has_guess], self.counts[has_guess]

    @property
    def per_class_count(self) -> np.ndarray:
        return self._per_class(self.counts)

    @property
    def per_class_accuracy(self) -> np.ndarray:
        """[C], NaN for classes without samples."""
        num_correct = self._per_class(np.where(self.pairs[:, 0] == self.pairs[:, 1], self.counts, 0))
        with np.errstate(invalid="ignore"):
            return num_correct / self.per_class_count

    @property
    def mean_class_accuracy(self) -> float:
        accuracies = self.per_class_accuracy[self.per_class_count > 0]
        return mean_or_nan(accuracies)

    def _per_class(self, counts: np.ndarray) -> np.ndarray:
        """Sums `counts` [P] by true class -> [C]."""
        sums = np.zeros(self.num_classes, dtype=np.int64)
        np.add.at(sums, self.pairs[:, 0], counts)
        return sums


def score_classes(guesses: np.ndarray, ranks: np.ndarray, labels: np.ndarray, num_classes: int) -> ClassScores:
    """Scores the best `guesses` [N] and the `ranks` [N] (see `rank_of_label`) of the `labels` [N].

    Items whose outputs are not finite have the guess `NO_GUESS` and the rank `NO_RANK`.
    """
    pairs, counts = np.unique(np.stack([labels, guesses], axis=1), axis=0, return_counts=True)
    return ClassScores(
        top1=mean_or_nan(ranks < 1),
        top5=mean_or_nan(ranks < 5),
        num_classes=num_classes,
        pairs=pairs,
        counts=counts,
    )
