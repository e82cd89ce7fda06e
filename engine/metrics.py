"""Scores of a classifier."""

from dataclasses import dataclass

import numpy as np
import torch


def count_correct(logits: torch.Tensor, labels: torch.Tensor, k: int) -> torch.Tensor:
    """How many of `labels` [B] are among the `k` largest of `logits` [B, C] (all of them where C <= k)."""
    return (rank_of_label(logits, labels) < k).sum()


def rank_of_label(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The place, from 0, of each of `labels` [...] among the sorted `logits` [..., C].

    Of equals the lower class comes first; a logit that is no number puts the label last.
    """
    value = logits.gather(-1, labels[..., None])  # [..., 1]
    before = torch.arange(logits.shape[-1], device=logits.device) < labels[..., None]  # [..., C]
    return (~(logits <= value) | ((logits == value) & before)).sum(dim=-1)


@dataclass(frozen=True)
class ClassScores:
    """Accuracies from probabilities; all fractions in 0..1, `nan` where there is nothing to count."""

    top1: float
    top5: float
    mean_class_accuracy: float
    confusion: np.ndarray  # [C, C] counts: row = true class, column = predicted class

    @property
    def per_class_count(self) -> np.ndarray:
        return self.confusion.sum(axis=1)

    @property
    def per_class_accuracy(self) -> np.ndarray:
        """[C], `nan` for classes without a sample."""
        with np.errstate(invalid="ignore"):
            return self.confusion.diagonal() / self.per_class_count


def score_classes(probabilities: np.ndarray, labels: np.ndarray) -> ClassScores:
    """Scores of `probabilities` [N, C] against `labels` [N] in 0..C-1; ties go to the lower class index."""
    num_classes = probabilities.shape[1]
    order = np.argsort(-probabilities, axis=1, kind="stable")  # [N, C]
    hits = order == labels[:, None]
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(confusion, (labels, order[:, 0]), 1)
    if len(labels) == 0:
        return ClassScores(float("nan"), float("nan"), float("nan"), confusion)
    present = confusion.sum(axis=1) > 0
    recalls = confusion.diagonal()[present] / confusion.sum(axis=1)[present]
    return ClassScores(
        top1=float(hits[:, 0].mean()),
        top5=float(hits[:, :5].any(axis=1).mean()),
        mean_class_accuracy=float(recalls.mean()),
        confusion=confusion,
    )
