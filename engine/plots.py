"""Pictures of a run: curves and confusion matrices, drawn without a display."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _new_figure(**options: Any) -> "Figure":
    from matplotlib.figure import Figure  # a second's work, which ranks and tools that draw nothing are spared

    return Figure(**options)


def _save(figure: "Figure", path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def plot_curves(metrics: Path, path: Path) -> None:
    """Loss, accuracy and learning rate over the epochs, from the lines of a metrics.jsonl."""
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    figure = _new_figure(figsize=(13, 3.8))
    figure.subplots_adjust(left=0.04, right=0.99, bottom=0.13, top=0.91, wspace=0.22)
    panels = {"loss": "loss", "top1": "top-1 accuracy", "learning_rate": "learning rate"}
    if any("mean_average_precision" in row for row in rows):
        panels = {"loss": "loss", "mean_average_precision": "mean average precision", "learning_rate": "learning rate"}
    for axes, (name, title) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for split, style in (("train", "-"), ("val", "o-"), ("val_ema", "s-")):
            points = [(row["epoch"], row[name]) for row in rows if row["split"] == split and row.get(name) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), style, label=split, linewidth=1.2, markersize=3)
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        if name in ("top1", "mean_average_precision"):
            axes.set_ylim(0, 1.02)
        if len(axes.lines) > 1:
            axes.legend()
    _save(figure, path)


def plot_confusion(confusion: np.ndarray, class_names: list[str] | tuple[str, ...], path: Path) -> None:
    """The confusion matrix [C, C], rows as shares of the true class; counts are written in for up to 20 classes."""
    num_classes = len(confusion)
    totals = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, totals, out=np.zeros(confusion.shape), where=totals > 0)
    size = min(16.0, 3.5 + 0.42 * num_classes)
    figure = _new_figure(figsize=(size + 1, size), layout="constrained")
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
    _save(figure, path)
