"""Plots the training curves of a run, without a display."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.json_io import read_json_lines

STYLE = {"text.parse_math": False, "text.usetex": False, "font.size": 11.5, "axes.titlesize": 14, "axes.titlepad": 10}
"""matplotlib's settings. A $ does not start a formula."""
SPLITS = {"train": ("training", "#5b9bd5", 1.3), "val": ("validation", "#d55e00", 2.0),
          "val_ema": ("validation, averaged weights", "#008060", 2.0)}  # fmt: skip
"""Split -> its name, color and line width."""
MAX_MARKERS = 40  # points of a validation curve that are marked one by one


def plot_curves(metrics: Path, path: Path, curves: Mapping[str, str]) -> None:
    """Plots `curves` (name in metrics.jsonl -> title) and the learning rate over the epochs."""
    import matplotlib  # imported here: it takes a second, and only the main rank plots
    from matplotlib.figure import Figure

    rows = read_json_lines(metrics)
    panels = {**curves, "learning_rate": "learning rate"}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.9 * len(panels), 4.3), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
        last = max((row["epoch"] for row in rows), default=1)
        for axes, (name, title) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
            _plot_panel(axes, rows, name, title)
            axes.set_xlim(0, 1.03 * last)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)


def _plot_panel(axes: Any, rows: Sequence[Mapping[str, Any]], name: str, title: str) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    values: list[float] = []
    for split, (words, color, width) in SPLITS.items():
        points = [(row["epoch"], row[name]) for row in rows if row["split"] == split and row.get(name) is not None]
        if points:
            is_marked = len(points) == 1 or (split != "train" and len(points) <= MAX_MARKERS)
            marks = {
                "marker": "o",
                "markersize": 5.5,
                "markerfacecolor": "white",
                "markeredgewidth": 1.8,
                "clip_on": False,
            }
            axes.plot(
                *zip(*points, strict=True), color=color, linewidth=width, label=words, **(marks if is_marked else {})
            )
            values += [value for _, value in points]
    axes.set_title(title, fontweight="bold")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if values and min(values) >= 0:
        axes.set_ylim(0, 1.06 * max(values) or 1)
    if name not in ("loss", "learning_rate") and values and 0 <= min(values) <= max(values) <= 1:
        axes.set_ylim(0, 1.03)  # values are fractions
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    if len(axes.lines) > 1:
        axes.legend(frameon=False)
