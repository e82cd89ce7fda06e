"""The timeline of a long video: windows are merged into segments of one class each."""

import csv
import math
from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

from inference.prediction import Prediction


class Segment(NamedTuple):
    """A part of a video with one class."""

    start: float  # seconds
    end: float  # seconds
    label: str  # "" if the network is not confident enough, or its outputs are not finite
    probability: float  # mean over the windows of the segment; NaN where there is none


def find_spans(windows: Sequence[Prediction], duration: float = 0.0) -> list[tuple[float, float]]:
    """The part of the video that each window covers, in seconds: up to halfway to the middles of its neighbors.

    The first covers from its start, the last to its end. The frames left after the last are less than a stride, or less
    than a window if there is only one; if the video's `duration` is given, the last covers them, too. The windows are
    in order.
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

    A window whose class is less probable than `above` has the class "". `duration`: see `find_spans`.
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
