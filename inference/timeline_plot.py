"""Draws a timeline: a strip of the classes over the time of a video, and their probabilities."""

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MultipleLocator

from evaluators.confusion_plot import PLAIN_TEXT, drawable, one_line, plot_font, plot_names
from inference.prediction import Prediction
from inference.timeline import Segment, find_spans

MOST_COLORS = 19
"""Number of classes with their own color; those that take up less time share one."""
WIDTH, DPI, FONT_SIZE = 12, 100, 11  # inches, pixels per inch, points
LETTERS_BESIDE = 5
"""Width of a legend's color and gaps beside a name, in heights of a letter."""
SHARP = {"linewidth": 0, "antialiased": False}
"""Bars that are narrower than a pixel do not blend into colors that are not in the legend."""
SECONDS_PER_LETTER = 0.009  # of each second of the video
UNSURE, OTHER = "#e4e4e4", "#8a8a8a"


def plot_timeline(
    windows: Sequence[Prediction], segments: Sequence[Segment], class_names: Sequence[str], title: str, path: Path
) -> None:
    """Draws the segments of `find_segments` as a strip, and below it the probability of each window's best class.

    `class_names`: all classes of the network.
    """
    names = dict(zip(class_names, plot_names(class_names), strict=True))
    seconds: dict[str, float] = defaultdict(float)
    for segment in segments:
        if segment.label:
            seconds[segment.label] += segment.end - segment.start
    labels = sorted(seconds, key=lambda label: (-seconds[label], label))
    palette = matplotlib.colormaps["tab10" if len(labels) <= 10 else "tab20"].colors
    colors = {label: palette[n] if n < MOST_COLORS else OTHER for n, label in enumerate(labels)}
    with matplotlib.rc_context({**PLAIN_TEXT, "font.size": FONT_SIZE}):
        legend = _legend(labels, names, colors, any(not segment.label for segment in segments))
        num_columns = _num_columns([patch.get_label() for patch in legend])
        num_rows = -(-len(legend) // max(1, num_columns))
        figure = Figure(figsize=(WIDTH, 3.0 + 0.28 * num_rows), layout="constrained")
        strip, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.2))
        starts, ends, shades = zip(*((s.start, s.end, colors.get(s.label, UNSURE)) for s in segments), strict=True)
        strip.bar(starts, 1, np.subtract(ends, starts), align="edge", color=shades, **SHARP)
        strip.set_ylim(0, 1)
        for start, end, label, _ in segments:
            name = names.get(label, "")
            if len(name) * SECONDS_PER_LETTER * segments[-1].end < end - start:
                strip.text((start + end) / 2, 0.5, name, ha="center", va="center", color="white", weight="bold")
        strip.set_title(drawable(one_line(title, 80)), loc="left")
        strip.set_yticks([])
        starts, ends = zip(*find_spans(windows, segments[-1].end), strict=True)
        heights = [100 * window.probability if window else 0 for window in windows]
        shades = [colors.get(window.label, UNSURE) for window in windows]
        lower.bar(starts, heights, np.subtract(ends, starts), align="edge", color=shades, **SHARP)
        lower.set_ylim(0, 100)
        lower.set_ylabel("probability, %")
        lower.set_xlabel("time in the video")
        lower.set_xlim(segments[0].start, segments[-1].end)
        lower.grid(axis="y", alpha=0.3)
        lower.xaxis.set_major_locator(MultipleLocator(_seconds_between_ticks(segments[-1].end)))
        lower.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: _clock(seconds, segments[-1].end)))
        figure.legend(handles=legend, loc="outside lower center", ncols=num_columns, frameon=False)
        FigureCanvasAgg(figure)
        figure.savefig(path, dpi=DPI)


def _legend(
    labels: Sequence[str], names: dict[str, str], colors: dict[str, tuple | str], has_unsure: bool
) -> list[Patch]:
    entries = [Patch(color=colors[label], label=names[label]) for label in labels[:MOST_COLORS]]
    if len(labels) > MOST_COLORS:
        entries.append(Patch(color=OTHER, label=f"{len(labels) - MOST_COLORS} other classes"))
    return entries + [Patch(color=UNSURE, label="not sure")] * has_unsure


def _num_columns(texts: Sequence[str]) -> int:
    """As many columns of the legend, up to 6, as fit side by side."""
    letter = FONT_SIZE * DPI / 72  # height in pixels
    widest = max((plot_font(letter).getlength(text) for text in texts), default=0)
    fitting = int(WIDTH * DPI / (widest + LETTERS_BESIDE * letter))
    return max(1, min(6, len(texts), fitting))


def _seconds_between_ticks(length: float) -> float:
    """A round time, for at most 12 ticks in `length` seconds."""
    steps = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
    return next((step for step in steps if length <= 12 * step), 3600 * math.ceil(length / 12 / 3600))


def _clock(seconds: float, length: float) -> str:
    """Seconds as m:ss, or with hours or tenths if the length of the video needs them."""
    tenths = round(10 * seconds)
    minutes, rest = divmod(tenths, 600)
    tail = f"{rest // 10:02d}" + (f".{rest % 10}" if length < 8 else "")
    return f"{minutes // 60}:{minutes % 60:02d}:{tail}" if length >= 3600 else f"{minutes}:{tail}"
