"""The table and the plot of a learning-rate range test."""

import csv
import logging
import math
from pathlib import Path

import numpy as np

from engine.checkpoint import write_atomically
from engine.range_test import RangeTest

log = logging.getLogger(__name__)


def write_range_test(found: RangeTest, folder: Path, title: str, current: float) -> None:
    """Writes learning_rate.csv and learning_rate.png, and logs the suggestion along with the `current` rate."""
    write_atomically(folder / "learning_rate.csv", lambda path: _write_table(found, path))
    write_atomically(folder / "learning_rate.png", lambda path: plot_range_test(found, path, title))
    log.info("%d steps; the smoothed loss is smallest at a rate of %.2g", len(found.rates), found.rates[found.lowest])
    if found.suggestion is None:
        log.info(
            "no suggestion: the loss does not fall in this range; try more --steps, or another --lowest, --highest"
        )
    else:
        log.info("suggestion: optimizer.lr=%.2g (the recipe has %g)", found.suggestion, current)
    log.info("%s: learning_rate.png, learning_rate.csv", folder)


def _write_table(found: RangeTest, path: Path) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("step", "learning_rate", "loss"))
        for step, (rate, loss) in enumerate(zip(found.rates, found.losses, strict=True), 1):
            writer.writerow((step, f"{rate:.6g}", f"{loss:.6g}"))


def plot_range_test(test: RangeTest, path: Path, title: str) -> None:
    """Plots the losses over the rates, the smoothed curve, and the suggestion, as PNG."""
    from matplotlib.figure import Figure  # imported here: it takes a second to load

    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.subplots()
    finite = np.isfinite(test.losses)
    rates, smoothed = test.rates[finite], test.smoothed
    axes.plot(rates, test.losses[finite], ".", color="#9db4d6", markersize=5, label="loss of a step")
    axes.plot(rates, smoothed, color="#2f6fde", linewidth=2, label="smoothed")
    if test.suggestion is not None:
        height = float(np.interp(math.log(test.suggestion), np.log(rates), smoothed))
        axes.plot([test.suggestion], [height], "o", color="#c4481f", markersize=9, zorder=3)
        axes.axvline(test.suggestion, color="#c4481f", linewidth=1, linestyle="--", zorder=0,
                     label=f"suggested: {test.suggestion:.2g}")  # fmt: skip
    low, high = (
        float(min(smoothed.min(), np.quantile(test.losses[finite], 0.02))),
        float(smoothed[: test.lowest + 1].max()),
    )
    height = max(high - low, 0.05 * abs(high), 1e-6)
    axes.set_ylim(low - 0.3 * height, high + 0.6 * height)  # diverging losses leave the plot
    axes.set(
        title=title,
        xscale="log",
        xlim=(rates[0] / 1.3, rates[-1] * 1.3),
        xlabel="learning rate",
        ylabel="training loss",
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    figure.savefig(path, dpi=120, format="png")
