"""The plot of a comparison: score against time, with the spread of both."""

from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

from engine.plots import STYLE

if TYPE_CHECKING:
    from tools.comparisons.table import Line

MARKERS = "osD^vP*X<>"
LOG_FROM = 8  # ratio of longest to shortest time from which the axis is logarithmic


def draw_plot(file: IO[bytes], lines: Sequence["Line"]) -> None:
    """Draws the mean score of each line over its minutes, as a PNG."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.5, 0.28 * len(lines) + 4.2), layout="constrained")
        axes = figure.subplots()
        colors = matplotlib.colormaps["tab10"].colors
        for number, line in enumerate(lines):
            (score, score_spread), (minutes, minutes_spread) = line.honest, line.minutes
            style = {"color": colors[number % len(colors)], "marker": MARKERS[number // len(colors) % len(MARKERS)]}
            axes.errorbar(
                minutes,
                score,
                xerr=_bar(minutes_spread),
                yerr=_bar(score_spread),
                linestyle="none",
                markersize=8,
                capsize=4,
                label=line.entry.label,
                **style,
            )
        minutes = [line.minutes[0] for line in lines]
        if max(minutes) >= LOG_FROM * min(minutes) > 0:
            axes.set_xscale("log")
        else:
            axes.set_xlim(left=0)
        axes.set_xlabel("minutes of a run")
        axes.set_title("score over time, mean ± standard deviation", fontweight="bold")
        axes.set_ylabel(" / ".join(sorted({_words(line) for line in lines})))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower center", frameon=False, ncols=1 if len(lines) < 5 else 2)
        figure.savefig(file, dpi=120, format="png")


def _words(line: "Line") -> str:
    return f"{'best' if line.on == 'data.test' else 'last'} checkpoint, {line.on}"


def _bar(deviation: float) -> float | None:
    """An error bar as long as a deviation; None, no bar, for a single run, whose deviation is NaN."""
    return None if deviation != deviation else deviation
