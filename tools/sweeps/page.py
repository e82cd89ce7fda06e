"""The page of a sweep: one HTML file with the table and a plot per setting, which loads nothing else."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from report.charts import scale
from tools.sweeps.space import REPEATS, Axis, as_number

WIDTH, HEIGHT = 420, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 14, 34
NUM_TICKS = 5
LOG_FROM = 20  # ratio of a setting's largest to smallest value from which its axis is logarithmic


def render(**content: Any) -> str:
    """The page as text; see page.html for the keys of `content`."""
    import jinja2  # imported here: only the end of a trial needs it

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(**content)


def draw_axis(axis: Axis, points: Sequence[tuple[str, float]]) -> dict[str, Any] | None:
    """What the page draws for a setting: dots [(x, y, caption)] and ticks of both axes, in pixels; None without points.

    `points`: text of the setting and score of each trial.
    """
    if not points:
        return None
    texts = list(dict.fromkeys(text for text, _ in points))
    numbers = [as_number(text) for text in texts]
    if axis.key in REPEATS or None in numbers or len(texts) == 1:
        texts = [value for value in axis.values if value in texts] or texts
        places = {text: (at + 0.5) / len(texts) for at, text in enumerate(texts)}
        x_ticks = [(place, text) for text, place in places.items()]
    else:
        places, x_ticks = _number_line(dict(zip(texts, numbers, strict=True)))
    scores = [score for _, score in points]
    y_ticks, (low, high) = scale(min(scores), max(scores))
    across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    return {
        "title": axis.key,
        "width": WIDTH,
        "height": HEIGHT,
        "frame": (LEFT, TOP, across, up),
        "x_ticks": [(LEFT + place * across, text) for place, text in x_ticks],
        "y_ticks": [(TOP + (high - value) / (high - low) * up, f"{value:.4g}") for value in y_ticks],
        "dots": [
            (LEFT + places[text] * across, TOP + (high - score) / (high - low) * up, f"{text}: {score:.4f}")
            for text, score in points
        ],
    }


def _number_line(numbers: dict[str, float]) -> tuple[dict[str, float], list[tuple[float, str]]]:
    """Positions in 0..1 of numbers by their texts, and ticks [(position, text)]."""
    lowest, highest = min(numbers.values()), max(numbers.values())
    is_log = lowest > 0 and highest / lowest >= LOG_FROM

    def place(value: float) -> float:
        position = math.log10(value) if is_log else value
        return (position - start + margin) / (end - start + 2 * margin)

    start, end = (math.log10(lowest), math.log10(highest)) if is_log else (lowest, highest)
    margin = 0.06 * (end - start)
    places = {text: place(value) for text, value in numbers.items()}
    if len(numbers) <= NUM_TICKS:
        return places, [(position, text) for text, position in places.items()]
    if is_log:
        factors = (1,) if end - start > 3 else (1, 3)
        values = [factor * 10.0**power for power in range(math.floor(start), math.ceil(end) + 1) for factor in factors]
    else:
        values, _ = scale(lowest, highest)
    return places, [(place(value), f"{value:g}") for value in values if 0 <= place(value) <= 1]
