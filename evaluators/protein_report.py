"""The files of a report on protein functions.

per_label.csv      proteins with each label, average precision, and the counts at the threshold of Fmax
proteins.csv       the labels of each protein, known and predicted, worst first
unreadable.csv     the proteins that could not be read, and why
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from evaluators.multi_label import average_precision
from evaluators.protein_function import FunctionEvaluation
from evaluators.tables import share_cell, write_csv

LABEL_HEADER = ("label", "name", "proteins", "average_precision", "predicted", "right")
PROTEIN_HEADER = ("index", "id", "path", "precision", "recall", "known", "predicted")


def write_report(folder: Path, evaluation: FunctionEvaluation) -> None:
    """Writes the report's files into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    predicted = evaluation.scores >= evaluation.fmax.threshold
    write_csv(folder / "per_label.csv", LABEL_HEADER, _labels(evaluation, predicted))
    write_csv(folder / "proteins.csv", PROTEIN_HEADER, _proteins(evaluation, predicted))
    evaluation.write_unreadable(folder)


def _labels(evaluation: FunctionEvaluation, predicted: np.ndarray) -> Iterator[tuple]:
    known = evaluation.known
    precision = average_precision(evaluation.scores, known)
    for label, name in enumerate(evaluation.label_names):
        right = int((predicted[:, label] & known[:, label]).sum())
        counts = int(known[:, label].sum()), share_cell(precision[label]), int(predicted[:, label].sum()), right
        yield label, name, *counts


def _proteins(evaluation: FunctionEvaluation, predicted: np.ndarray) -> Iterator[tuple]:
    known = evaluation.known
    with np.errstate(invalid="ignore", divide="ignore"):
        right = (predicted & known).sum(axis=1)
        precision, recall = right / predicted.sum(axis=1), right / known.sum(axis=1)
        harmonic = 2 * right / (predicted.sum(axis=1) + known.sum(axis=1))
    names = evaluation.label_names
    for row in np.argsort(harmonic, kind="stable").tolist():
        number = int(evaluation.index[row])
        sets = (";".join(names[label] for label in np.flatnonzero(part[row])) for part in (known, predicted))
        yield number, *evaluation.items[number], share_cell(precision[row]), share_cell(recall[row]), *sets
