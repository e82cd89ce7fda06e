"""What happens when in a long video: windows become segments of one class each."""

import csv
import math
from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

from inference.prediction import Prediction


class Segment(NamedTuple):
    """A part of a video that is of one class."""

    start: float  # seconds
    end: float  # seconds
    label: str  # "" where the network is not sure enough, or its outputs are not finite
    probability: float  # mean over the windows of the segment; NaN where there is none


def find_spans(windows: Sequence[Prediction], duration: float = 0.0) -> list[tuple[float, float]]:
    """The part of the video that each window speaks for, in seconds: up to halfway to the middle of its neighbors.

    The first one speaks from its start on, and the last one to its end. Frames that are left after it are less than a
    stride, or than the window if there is one alone: with the `duration` of the video, they are the last one's too. The
    windows are in order.
    """
    if not windows:
        return []
    middles = [sum(window.seconds) / 2 for window in windows]
    inner = [(before + after) / 2 for before, after in pairwise(middles)]
    first, last = windows[0].seconds[0], windows[-1].seconds[1]
    stride = middles[1] - middles[0] if inner else last - first
    return list(pairwise([first, *inner, max(last, min(duration, last + stride))]))


def find_segments(windows: Iterable[Prediction], above: float = 0.0, duration: float = 0.0) -> list[Segment]:
    """Merges neighboring windows (of `Predictor.windows`) with the same most probable class.

    A window whose class is less probable than `above` is of the class "". `duration`: see `find_spans`.
    """
    windows = list(windows)
    parts = []
    for window, (start, end) in zip(windows, find_spans(windows, duration), strict=True):
        is_sure = bool(window) and window.probability >= above
        parts.append(Segment(start, end, window.label if is_sure else "", window.probability))
    segments = []
    for label, group in groupby(parts, key=lambda part: part.label):
        group = list(group)
        known = [part.probability for part in group if not math.isnan(part.probability)]
        mean = sum(known) / len(known) if known else math.nan
        segments.append(Segment(group[0].start, group[-1].end, label, mean))
    return segments


def write_segments(segments: Sequence[Segment], path: Path) -> None:
    """Writes a CSV table: start, end (seconds), class, probability."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("start", "end", "class", "probability"))
        for start, end, label, probability in segments:
            number = "" if math.isnan(probability) else f"{probability:.6f}"
            writer.writerow((f"{start:.3f}", f"{end:.3f}", label, number))
