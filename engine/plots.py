"""Plots the training curves of a run, without a display."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def plot_curves(metrics: Path, path: Path, curves: Mapping[str, str]) -> None:
    """Plots `curves` (name in metrics.jsonl -> title) and the learning rate over the epochs."""
    import matplotlib  # imported here: it takes a second, and only the main rank plots
    from matplotlib.figure import Figure

    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    panels = {**curves, "learning_rate": "learning rate"}
    with matplotlib.rc_context({"text.parse_math": False, "text.usetex": False}):  # $ starts no formula
        figure = Figure(figsize=(13, 3.8))
        figure.subplots_adjust(left=0.04, right=0.99, bottom=0.13, top=0.91, wspace=0.22)
        for axes, (name, title) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
            _plot_panel(axes, rows, name, title)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)


def _plot_panel(axes: Any, rows: list[dict[str, Any]], name: str, title: str) -> None:
    values = []
    for split, style in (("train", "-"), ("val", "o-"), ("val_ema", "s-")):
        points = [(row["epoch"], row[name]) for row in rows if row["split"] == split and row.get(name) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=split, linewidth=1.2, markersize=3)
            values += [value for _, value in points]
    axes.set(title=title, xlabel="epoch")
    axes.grid(alpha=0.3)
    if name not in ("loss", "learning_rate") and values and 0 <= min(values) <= max(values) <= 1:
        axes.set_ylim(0, 1.02)  # values are fractions
    if len(axes.lines) > 1:
        axes.legend()
