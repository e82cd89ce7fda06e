"""Plots a confusion matrix, without a display."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def plot_confusion(confusion: np.ndarray, class_names: Sequence[str], path: Path) -> None:
    """Plots the matrix [C, C], rows normalized per true class. Up to 20 classes, the cells show the counts."""
    from matplotlib.figure import Figure  # imported here: it takes a second, and only reports need it

    num_classes = len(confusion)
    totals = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, totals, out=np.zeros(confusion.shape), where=totals > 0)
    size = min(16.0, 3.5 + 0.42 * num_classes)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    axes.set(xlabel="predicted", ylabel="true")
    if num_classes <= 60:
        axes.set_xticks(range(num_classes), class_names, rotation=90 if num_classes > 12 else 40, ha="right")
        axes.set_yticks(range(num_classes), class_names)
    if num_classes <= 20:
        for row, column in np.argwhere(confusion > 0):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, int(confusion[row, column]), ha="center", va="center", color=color, fontsize=8)
    figure.savefig(path, dpi=120)
