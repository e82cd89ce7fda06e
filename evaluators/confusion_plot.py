"""Plots a confusion matrix, without a display, and class names in plots."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

MAX_NAME = 32  # characters of a class name in a plot
PLAIN_TEXT = {"text.parse_math": False, "text.usetex": False}
"""matplotlib's settings under which $ is a dollar and starts no formula."""


def plot_confusion(confusion: np.ndarray, class_names: Sequence[str], path: Path) -> None:
    """Plots the matrix [C, C], rows normalized per true class. Up to 20 classes, the cells show the counts."""
    import matplotlib  # imported here: it takes a second, and only reports need it
    from matplotlib.figure import Figure

    num_classes = len(confusion)
    totals = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, totals, out=np.zeros(confusion.shape), where=totals > 0)
    size = min(16.0, 3.5 + 0.42 * num_classes)
    with matplotlib.rc_context(PLAIN_TEXT):
        figure = Figure(figsize=(size + 1, size), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
        figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
        axes.set(xlabel="predicted", ylabel="true")
        if num_classes <= 60:
            names = plot_names(class_names)
            axes.set_xticks(range(num_classes), names, rotation=90 if num_classes > 12 else 40, ha="right")
            axes.set_yticks(range(num_classes), names)
        if num_classes <= 20:
            for row, column in np.argwhere(confusion > 0):
                color = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, int(confusion[row, column]), ha="center", va="center", color=color, fontsize=8)
        figure.savefig(path, dpi=120)


def plot_names(class_names: Sequence[str]) -> list[str]:
    """The names as matplotlib can draw them: one line each, shortened if long.

    A name with characters that its font does not have, such as a Chinese one, becomes "class N": its row in
    per_class.csv. To be drawn under `matplotlib.rc_context(PLAIN_TEXT)`.
    """
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties())).get_charmap()
    names = [one_line(name, MAX_NAME) for name in class_names]
    return [
        name if name and all(ord(character) in known for character in name) else f"class {label}"
        for label, name in enumerate(names)
    ]


def one_line(text: str, max_length: int) -> str:
    """`text` on one line, without control characters and half-decoded bytes, shortened to `max_length` characters."""
    words = " ".join(text.split())
    printable = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in words)
    return printable if len(printable) <= max_length else printable[: max_length - 1] + "…"
