"""Line charts as inline SVG: this module places the points, templates/charts.html.jinja draws them.

Colors come from the page's style sheet, so that a chart follows the reader's theme.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

WIDTH, HEIGHT = 440, 262  # of a chart, in pixels
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 10, 34  # margins
MAX_POINTS = 300  # of a line; longer ones are averaged
MAX_MARKERS = 40  # of a line

Point = tuple[float, float]


class Curve(NamedTuple):
    """A named line of (x, y) points."""

    name: str
    style: str
    """CSS classes: a color, and "thin" for a line in the background."""
    points: Sequence[Point]


class Tick(NamedTuple):
    position: float
    text: str


class Marker(NamedTuple):
    x: float
    y: float
    text: str


class Line(NamedTuple):
    """A curve in pixels."""

    name: str
    style: str
    path: str
    markers: list[Marker]


@dataclass(frozen=True)
class Chart:
    """A chart in pixels."""

    title: str
    description: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[Line]
    width, height = WIDTH, HEIGHT
    left, right, top, bottom = LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM


def draw_chart(title: str, curves: Sequence[Curve], is_share: bool = False) -> Chart | None:
    """A chart of `curves` over the epochs; None if they have no points. `is_share`: from 0 to 100 %."""
    last = max((x for curve in curves for x, _ in curve.points), default=0.0)
    x_range = (0.0, last if last > 0 else 1.0)
    curves = [curve._replace(points=_thin_out(sorted(curve.points))) for curve in curves if curve.points]
    if not curves:
        return None
    ys = [y for curve in curves for _, y in curve.points]
    x_marks, _ = scale(*x_range)
    y_marks, y_range = scale(*((0.0, 1.0) if is_share and 0 <= min(ys) <= max(ys) <= 1 else _from_zero(ys)))

    def place(x: float, y: float) -> Point:
        across, up = ((value - low) / (high - low) for value, (low, high) in ((x, x_range), (y, y_range)))
        return round(LEFT + across * (WIDTH - LEFT - RIGHT), 1), round(
            HEIGHT - BOTTOM - up * (HEIGHT - BOTTOM - TOP), 1
        )

    show = percent if is_share else number
    ends = (f"{curve.name} ends at {show(curve.points[-1][1])}" for curve in curves)
    return Chart(
        title,
        f"{title} over the epochs: {', '.join(ends)}",
        [Tick(place(value, y_range[0])[0], number(value)) for value in x_marks if x_range[0] <= value <= x_range[1]],
        [Tick(place(x_range[0], value)[1], f"{100 * value:g} %" if is_share else number(value)) for value in y_marks],
        [_line(curve, place, show) for curve in curves],
    )


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def scale(low: float, high: float) -> tuple[list[float], Point]:
    """Round numbers around a range, for the ticks of an axis, and the range that they span."""
    from matplotlib.ticker import MaxNLocator  # imported here: slow

    if high - low < 1e-12 * max(abs(low), abs(high), 1e-300):
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    marks = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high).tolist()
    marks = [0.0 if abs(mark) < 1e-9 * (high - low) else mark for mark in marks]
    return marks, (marks[0], marks[-1])


def _line(curve: Curve, place, show) -> Line:
    places = [place(*point) for point in curve.points]
    path = "M" + "L".join(f"{x:g} {y:g}" for x, y in places)
    markers = []
    if len(places) == 1 or ("thin" not in curve.style and len(places) <= MAX_MARKERS):
        texts = (f"{curve.name}, epoch {x:.4g}: {show(y)}" for x, y in curve.points)
        markers = [Marker(*where, text) for where, text in zip(places, texts, strict=True)]
    return Line(curve.name, curve.style, path, markers)


def _from_zero(values: Sequence[float]) -> tuple[float, float]:
    """The range of `values`, starting at zero if they are positive, so that small changes do not look large."""
    return min(values) if min(values) < 0 else 0.0, max(values)


def _thin_out(points: Sequence[Point]) -> list[Point]:
    """At most `MAX_POINTS` means of neighboring points."""
    size = -(-len(points) // MAX_POINTS)
    groups = (points[start : start + size] for start in range(0, len(points), size))
    return [tuple(sum(values) / len(group) for values in zip(*group, strict=True)) for group in groups]
