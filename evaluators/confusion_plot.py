"""Plots a confusion matrix, without a display, and draws class names in plots."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import ImageFont

MAX_NAME = 32  # characters of a class name in a plot
MAX_NUMBERS = 20  # classes with counts in their cells
MAX_NAMED = 60  # classes with a name on the axes
MAX_LISTED = 20  # confusions listed beside a larger matrix
PLAIN_TEXT = {"text.parse_math": False, "text.usetex": False}
"""matplotlib's settings. A $ does not start a formula."""
STYLE = {**PLAIN_TEXT, "font.size": 11.5, "axes.titlesize": 14, "axes.labelsize": 13, "axes.titlepad": 12}


def plot_confusion(confusion: np.ndarray, class_names: Sequence[str], path: Path) -> None:
    """Plots the matrix [C, C], rows normalized per true class.

    Up to 20 classes, the cells show the counts. Above 60, the axes show labels instead of names, the most frequent
    confusions are listed beside the matrix, and the color scale is stretched: a cell is then a few pixels, and a rare
    confusion would be too pale to see.
    """
    import matplotlib  # imported here: it takes a second, and only reports need it
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    num_classes = len(confusion)
    totals = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, totals, out=np.zeros(confusion.shape), where=totals > 0)
    is_large = num_classes > MAX_NAMED
    size = 4.5 + 0.5 * num_classes if num_classes <= MAX_NUMBERS else 5 + 0.2 * min(num_classes, MAX_NAMED - 15)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(size + (8 if is_large else 1.2), size), layout="constrained")
        if not is_large:
            axes = figure.subplots()
        else:
            axes, beside = figure.subplots(1, 2, width_ratios=(size, 6.5))
            _list_confusions(beside, confusion, shares, class_names)
        norm = PowerNorm(0.35 if is_large else 1.0, vmin=0, vmax=1)
        image = axes.imshow(_enlarged(shares), norm=norm, cmap="Blues", interpolation="nearest",
                            extent=(-0.5, num_classes - 0.5, num_classes - 0.5, -0.5))  # fmt: skip
        bar = figure.colorbar(image, ax=axes, label="fraction of the true class", shrink=0.8, aspect=30)
        bar.ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
        axes.set_title(f"confusion matrix: {int(np.nansum(totals)):,} items, {num_classes:,} classes", loc="left")
        _label_axes(axes, class_names)
        if num_classes <= MAX_NUMBERS:
            axes.set_xticks(np.arange(num_classes + 1) - 0.5, minor=True)
            axes.set_yticks(np.arange(num_classes + 1) - 0.5, minor=True)
            axes.grid(which="minor", color="#dddddd", linewidth=0.8)
            axes.tick_params(which="minor", length=0)
            for row, column in np.argwhere(confusion > 0):
                color = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, int(confusion[row, column]), ha="center", va="center", color=color)
        figure.savefig(path, dpi=120)


def _label_axes(axes: Any, class_names: Sequence[str]) -> None:
    num_classes = len(class_names)
    if num_classes > MAX_NAMED:
        axes.set(xlabel="label of the predicted class", ylabel="label of the true class")
        return
    axes.set(xlabel="predicted class", ylabel="true class")
    names = plot_names(class_names)
    font_size = 11.5 if num_classes <= MAX_NUMBERS else 9
    turned = {"rotation": 90} if num_classes > 12 else {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(num_classes), names, fontsize=font_size, **turned)
    axes.set_yticks(range(num_classes), names, fontsize=font_size)


def _list_confusions(axes: Any, confusion: np.ndarray, shares: np.ndarray, class_names: Sequence[str]) -> None:
    """Writes the most frequent confusions as text: counts, fractions of the true class, and names."""
    axes.set_axis_off()
    wrong = np.nan_to_num(confusion * (1 - np.eye(len(confusion))))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MAX_LISTED]
    pairs = [np.unravel_index(place, wrong.shape) for place in order if wrong.flat[place] > 0]
    names = plot_names(class_names)
    lines = [
        f"{confusion[true, guess]:5.0f} {100 * shares[true, guess]:4.0f} %   {names[true]}\n{'':12}as {names[guess]}"
        for true, guess in pairs
    ]
    text = "\n".join(["most frequent confusions", "count, fraction of the true class", "", *(lines or ["none"])])
    axes.text(0, 1, text, va="top", family="monospace", linespacing=1.25, transform=axes.transAxes)


def _enlarged(shares: np.ndarray) -> np.ndarray:
    """The matrix with cells of several pixels, so that drawing it at another size does not drop rows of thin cells."""
    return shares.repeat(max(1, 2000 // len(shares)), 0).repeat(max(1, 2000 // len(shares)), 1)


def plot_names(class_names: Sequence[str], max_length: int = MAX_NAME) -> list[str]:
    """The names of all classes in a form that matplotlib can draw: one line each, shortened to `max_length` characters.

    A name with characters that the font lacks, such as a Chinese one, becomes "class N", its row in per_class.csv.
    Draw the names under `matplotlib.rc_context(PLAIN_TEXT)`, or with `plot_font`.
    """
    names = [one_line(name, max_length) for name in class_names]
    return [name if name and name == drawable(name) else f"class {label}" for label, name in enumerate(names)]


def drawable(text: str) -> str:
    """`text` with a replacement character for each that matplotlib's font lacks."""
    from matplotlib.font_manager import get_font

    known = get_font(_font_file()).get_charmap()
    return "".join(character if ord(character) in known else "\N{REPLACEMENT CHARACTER}" for character in text)


@functools.cache
def plot_font(size: float, weight: str = "normal") -> "ImageFont.FreeTypeFont":
    """matplotlib's bundled font, which covers many scripts, `size` pixels high."""
    from PIL import ImageFont

    return ImageFont.truetype(_font_file(weight), size)


def _font_file(weight: str = "normal") -> str:
    from matplotlib.font_manager import FontProperties, findfont

    return findfont(FontProperties(weight=weight))


def shorten(text: str, font: "ImageFont.FreeTypeFont", width: float) -> str:
    """`text`, or its beginning and "…", at most `width` pixels wide in the font."""
    if font.getlength(text) <= width:
        return text
    lengths = range(len(text), -1, -1)
    return next((cut for n in lengths if font.getlength(cut := text[:n].rstrip() + "…") <= width), "")


def one_line(text: str, max_length: int) -> str:
    """`text` on one line, without control characters and half-decoded bytes, shortened to `max_length` characters."""
    words = " ".join(text.split())
    printable = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in words)
    return printable if len(printable) <= max_length else printable[: max_length - 1] + "…"
