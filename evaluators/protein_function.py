"""Scores of protein function prediction: Fmax and micro-averaged AUPR, exact on any number of ranks.

Fmax, as in CAFA (Radivojac et al., Nature Methods 2013): at each threshold, precision is the mean over the proteins
with any prediction, and recall the mean over all proteins; Fmax is the best harmonic mean of the two. A protein without
labels has recall 0. Thresholds are all distinct scores. AUPR takes all pairs of protein and label as one list and
handles equal scores together, so their order does not matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from evaluators.gather import Gathered
from evaluators.item_counts import ItemCounts
from evaluators.multi_label import average_precision


class Fmax(NamedTuple):
    """The best harmonic mean of precision and recall."""

    value: float
    threshold: float
    """Labels with this score or more are predicted."""
    precision: float
    recall: float


def fmax(scores: np.ndarray, targets: np.ndarray) -> Fmax:
    """Fmax of scores [N, L] for targets [N, L], bool. NaN if no protein has a label; -inf counts as not predicted."""
    num_proteins, num_labels = scores.shape
    num_true = targets.sum(axis=1)
    if not num_true.any():
        return Fmax(np.nan, np.nan, np.nan, np.nan)
    order = np.argsort(-scores, axis=1, kind="stable")
    score = np.take_along_axis(scores, order, axis=1).ravel()
    right = np.take_along_axis(targets, order, axis=1).cumsum(axis=1)  # of the first 1, 2 ... labels of each protein
    precision = right / np.arange(1, num_labels + 1)
    recall = right / np.maximum(num_true, 1)[:, None]
    # The change in a protein's precision and recall with each further label.
    steps = [np.diff(part, axis=1, prepend=0).ravel() for part in (precision, recall)]
    starts = np.zeros((num_proteins, num_labels))
    starts[:, 0] = 1
    along = np.argsort(-score, kind="stable")
    along = along[np.isfinite(score[along])]
    score = score[along]
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True)) if len(score) else np.zeros(0, dtype=int)
    if not len(last):
        return Fmax(0.0, np.inf, 0.0, 0.0)
    num_predicted = starts.ravel()[along].cumsum()[last]
    mean_precision = steps[0][along].cumsum()[last] / num_predicted
    mean_recall = steps[1][along].cumsum()[last] / num_proteins
    total = mean_precision + mean_recall
    values = np.divide(2 * mean_precision * mean_recall, total, out=np.zeros_like(total), where=total > 1e-12)
    best = int(values.argmax())
    return Fmax(*(float(part[best]) for part in (values, score[last], mean_precision, mean_recall)))


def micro_average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    """Average precision of all pairs of protein and label together; NaN without a true target."""
    return float(average_precision(scores.reshape(-1, 1), targets.reshape(-1, 1))[0])


@dataclass(frozen=True)
class FunctionEvaluation(ItemCounts):
    """The scores of predicted functions, as an `engine.task.Evaluation`."""

    item: ClassVar[str] = "protein"
    gathered: Gathered
    """Rows with `index` [N] and `scores` [N, L], probabilities in float64, all NaN if the outputs were not finite."""
    targets: np.ndarray
    """bool [M, L]: the functions of all proteins of the list."""
    label_names: Sequence[str]
    items: Sequence[tuple[str, str]]
    """Id and path of each protein of the list."""
    max_non_finite: float
    """There is no score if a larger fraction of proteins has NaN or infinite outputs."""

    @property
    def index(self) -> np.ndarray:
        """[N]: rows of the list that could be read."""
        return self.gathered.rows.get("index", np.zeros(0, dtype=np.int64))

    @cached_property
    def scores(self) -> np.ndarray:
        """[N, L], with -inf, below all others, for proteins with non-finite outputs."""
        scores = self.gathered.rows.get("scores", np.zeros((0, len(self.label_names))))
        return np.where(np.isfinite(scores), scores, -np.inf)

    @property
    def num_non_finite(self) -> int:
        return int((self.scores == -np.inf).any(axis=1).sum())

    @property
    def known(self) -> np.ndarray:
        """[N, L]: the targets of the proteins that could be read."""
        return self.targets[self.index]

    @cached_property
    def fmax(self) -> Fmax:
        return fmax(self.scores, self.known)

    @cached_property
    def aupr(self) -> float:
        return micro_average_precision(self.scores, self.known)

    @property
    def score(self) -> float:
        """Fmax; -inf if no protein has a label, NaN with too many NaN or infinite outputs."""
        if self.has_too_many_non_finite:
            return float("nan")
        return self.fmax.value if np.isfinite(self.fmax.value) else float("-inf")

    @property
    def tie_break(self) -> float:
        return self.aupr

    def summary(self) -> dict[str, float]:
        """Fractions in 0..1, counts, and proteins per second over all ranks."""
        best = self.fmax
        return {
            "fmax": best.value,
            "aupr_micro": self.aupr,
            "threshold": best.threshold,
            "precision": best.precision,
            "recall": best.recall,
            "proteins_without_labels": int((~self.known.any(axis=1)).sum()),
            "labels": len(self.label_names),
            **self.counts(),
        }

    def headline(self) -> str:
        if not self.known.any():
            return self.headline_of("no score, because no readable protein has a label,")
        return self.headline_of(f"Fmax {self.fmax.value:.4f}, micro-AUPR {self.aupr:.4f}")

    def lines(self) -> list[str]:
        best = self.fmax
        at = f"(precision {best.precision:.4f}, recall {best.recall:.4f} at {best.threshold:.4g})"
        lines = [f"  {'Fmax':<20} {best.value:8.4f}  {at}", f"  {'micro-AUPR':<20} {self.aupr:8.4f}"]
        return [*lines, *self.count_lines("nothing counts as predicted for them")]

    def write(self, folder: Path) -> None:
        from evaluators.protein_report import write_report

        write_report(folder, self)
