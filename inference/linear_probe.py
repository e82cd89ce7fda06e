"""A linear classifier on the features of a frozen network: logistic regression, scored on files it never saw.

The loss is the mean cross entropy plus l2 / 2 times the squared norm of the weights; features are standardized by the
mean and standard deviation of the training files. The strength l2 is chosen by cross-validation over folds of the
training files, so the scored files choose nothing.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from datasets.file_list import UNLABELED, FileList
from datasets.folds import assign_folds, number_sources, sources_from_table
from inference.feature_shards import FAILURES, read_features
from settings import SettingsError

log = logging.getLogger(__name__)

L2 = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
"""The values that `choose_l2` chooses from."""
MAX_ITERATIONS = 200
SAME = ("model", "weights_sha256", "layer", "class_names")
"""Entries of features.json that must agree between the features of two lists."""


class LinearClassifier:
    """Multinomial logistic regression on standardized features.

    Args:
        x: features [N, D], float64.
        y: labels [N], from 0 to num_classes - 1.
        num_classes: C; classes without a file are allowed.
        l2: strength of the penalty on the weights; the bias has none.
    """

    def __init__(self, x: torch.Tensor, y: torch.Tensor, num_classes: int, l2: float):
        deviation, self.mean = torch.std_mean(x, 0, correction=0)
        self.deviation = torch.where(deviation > 0, deviation, 1)
        self.weight = torch.zeros(num_classes, x.shape[1], dtype=x.dtype, requires_grad=True)
        self.bias = torch.zeros(num_classes, dtype=x.dtype, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [self.weight, self.bias],
            max_iter=MAX_ITERATIONS,
            tolerance_grad=1e-6,
            tolerance_change=1e-9,
            line_search_fn="strong_wolfe",
        )

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = cross_entropy(self.logits(x), y) + l2 / 2 * self.weight.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        self.weight.requires_grad_(False)
        self.bias.requires_grad_(False)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """[N, D] -> [N, C]"""
        return (x - self.mean) / self.deviation @ self.weight.T + self.bias


@dataclass(frozen=True)
class LabeledFeatures:
    """Features of files with one label each, as written by `tools/extract_features.py`."""

    x: torch.Tensor
    """[N, D], float64"""
    files: FileList
    about: dict[str, Any]
    """features.json: network, weights, layer, class names."""

    @property
    def y(self) -> torch.Tensor:
        """Labels [N]."""
        return torch.from_numpy(self.files.labels.copy())

    def divide(self, num_folds: int, seed: int = 0, groups: str | Path | None = None) -> np.ndarray:
        """The fold [N] of each file, as `data.folds`, `data.fold_seed` and `data.fold_groups` divide a list.

        Raises SettingsError if the list cannot be divided this way.
        """
        try:
            numbers = None if groups is None else number_sources(sources_from_table(groups, self.files))
            return assign_folds(self.files, num_folds, seed, numbers)
        except (OSError, ValueError) as error:
            raise SettingsError(str(error)) from error


def read_labeled(folder: str | Path) -> LabeledFeatures:
    """Reads the features in a folder, and logs how many of the list's files have some.

    Raises SettingsError if there are none, a file has no label or several, or a file has no single vector.
    """
    found = read_features(folder)
    x, labels, about = found["features"], found["label"], found["about"]
    if x.ndim != 2:
        raise SettingsError(
            f"{folder} has features {list(x.shape[1:])} for each file; a linear classifier needs one vector: extract "
            "with --level video --pool mean"
        )
    if unlabeled := int((labels == UNLABELED).sum()):
        raise SettingsError(
            f"{unlabeled} of {len(labels)} files in {folder} have no label; extract with data.val=LIST or class folders"
        )
    if several := sum(len(of_file) > 1 for of_file in found.get("labels", ())):
        raise SettingsError(
            f"{several} of {len(labels)} files in {folder} have several labels; a linear classifier needs one each: "
            "extract with a data.val=LIST that has one"
        )
    files = FileList(found["id"], labels.tolist(), found["path"], about["class_names"])
    others = f"; those in {FAILURES} could not be read" if found["failures"] else ""
    log.info("%s: features of %d of %d %ss%s", folder, len(files), about["num_files"], about["item"], others)
    return LabeledFeatures(torch.from_numpy(x).double(), files, about)


@dataclass(frozen=True)
class Score:
    """A linear classifier's predictions for files that it was not trained on."""

    files: FileList
    probabilities: np.ndarray
    """The probability of each class [N, C]."""
    l2: float

    @property
    def predictions(self) -> np.ndarray:
        """The most probable class [N]."""
        return self.probabilities.argmax(1)

    @property
    def accuracy(self) -> float:
        return float((self.predictions == self.files.labels).mean())


def score_list(data: LabeledFeatures, folds: np.ndarray, test: LabeledFeatures) -> Score:
    """Scores the files of `test` with a classifier of all files of `data`, whose `folds` [N] choose the penalty.

    Raises SettingsError if the two are not features of the same network, or if all files of `test` are in `data`.
    """
    for key in SAME:
        if data.about[key] != test.about[key]:
            raise SettingsError(
                f"the two lists have features of different networks ({key}: {data.about[key]} and {test.about[key]}); "
                "extract both with the same weights"
            )
    _check_shared(data.files, test.files)
    num_classes = len(data.about["class_names"])
    l2 = choose_l2(data.x, data.y, folds, num_classes)
    logits = LinearClassifier(data.x, data.y, num_classes, l2).logits(test.x)
    return Score(test.files, logits.softmax(1).numpy(), l2)


def _check_shared(files: FileList, scored: FileList) -> None:
    """Warns of scored files that were trained on; raises SettingsError if all were."""
    trained = set(files.paths())
    shared = sum(path in trained for path in scored.paths())
    if shared == len(scored):
        raise SettingsError("all scored files are among those of training; extract the features of another list")
    if shared:
        log.warning("%d of %d scored files are among those of training, so the score is too high", shared, len(scored))


def score_fold(data: LabeledFeatures, folds: np.ndarray, fold: int) -> Score:
    """Scores the files of one of the `folds` [N] with a classifier trained on all others."""
    rest, test = (
        LabeledFeatures(data.x[rows], data.files.subset(rows), data.about)
        for rows in (np.flatnonzero(folds != fold), np.flatnonzero(folds == fold))
    )
    return score_list(rest, folds[folds != fold], test)


def choose_l2(x: torch.Tensor, y: torch.Tensor, folds: np.ndarray, num_classes: int) -> float:
    """The `L2` with the smallest cross entropy when each of the folds [N] is predicted from the others."""
    parts = [torch.from_numpy(folds == fold) for fold in np.unique(folds)]

    def held_out_loss(l2: float) -> float:
        loss = 0.0
        for part in parts:
            logits = LinearClassifier(x[~part], y[~part], num_classes, l2).logits(x[part])
            loss += float(cross_entropy(logits, y[part], reduction="sum"))
        return loss

    return min(L2, key=held_out_loss)
