"""Draws an explanation: a PNG sheet, or for a clip a GIF or MP4 that plays its maps side by side."""

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.checkpoint import write_atomically
from evaluators.confusion_plot import PLAIN_TEXT, one_line
from explain.panels import COLORS, Chart, MapPanel, Section, paint
from settings import SettingsError, did_you_mean

FORMATS = (".png", ".gif", ".mp4")
DPI = 100
WIDTH = 12.4  # of a picture, in inches; so are all sizes below
MARGIN = 0.2
TILE = 1.9  # height of a map that stands by itself
STRIP = 1.2  # height of a frame in a row of frames
STRIP_LABEL = 1.7
LINE = 0.22
CHART = 2.9
MAX_FRAMES = 8  # of a clip, on a sheet
MAX_LINE = 150  # characters


class Explanation(NamedTuple):
    """What is to be drawn."""

    title: str
    frames: np.ndarray
    """What the network saw: uint8 [T, H, W, 3]."""
    sections: list[Section]


class Item(NamedTuple):
    """A part of a picture: `draw(figure, top)` fills `height` inches from `top` on."""

    height: float
    draw: Callable[[Any, float], None]


def check_output(path: Path, num_frames: int | None = None) -> None:
    """Raises SettingsError unless an explanation (of `num_frames` frames, if known) can be written to `path`."""
    if path.suffix.lower() not in FORMATS:
        hint = did_you_mean(path.suffix.lower(), FORMATS)
        raise SettingsError(f"-o: {path} ends in none of {', '.join(FORMATS)}{hint}")
    if num_frames == 1 and path.suffix.lower() != ".png":
        raise SettingsError(f"-o: an image does not move; write a .png instead of {path}")
    if path.is_dir():
        raise SettingsError(f"-o: {path} is a folder; give a file in it")
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.absolute().parent):
            pass
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise SettingsError(f"-o: cannot write {path}: {error.strerror}") from error


def write(explanation: Explanation, path: Path, frames_per_second: float = 4) -> None:
    """Writes a sheet (.png) or an animation (.gif, .mp4). Raises CheckpointError if the disk is full."""
    import matplotlib  # imported here: it takes a second, and only pictures need it

    write_as = {".png": _write_png, ".gif": _write_gif, ".mp4": _write_mp4}[path.suffix.lower()]
    with matplotlib.rc_context({**PLAIN_TEXT, "font.size": 9}):
        write_atomically(path, lambda temporary: write_as(explanation, temporary, frames_per_second))


def _write_png(explanation: Explanation, path: Path, frames_per_second: float) -> None:
    lay_out = _strips if len(explanation.frames) > 1 else _tiles
    _figure(explanation, lay_out, with_charts=True).savefig(path, dpi=DPI, format="png")


def _write_gif(explanation: Explanation, path: Path, frames_per_second: float) -> None:
    from PIL import Image

    pictures = [Image.fromarray(picture) for picture in _moments(explanation)]
    duration = round(1000 / frames_per_second)
    pictures[0].save(path, format="GIF", save_all=True, append_images=pictures[1:], duration=duration, loop=0)


def _write_mp4(explanation: Explanation, path: Path, frames_per_second: float) -> None:
    from fractions import Fraction

    import av

    with av.open(str(path), "w", format="mp4") as container:
        rate = Fraction(frames_per_second).limit_denominator(1000)
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18"})
        for number, picture in enumerate(_moments(explanation)):
            picture = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]  # the codec wants even sides
            if number == 0:
                stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def _moments(explanation: Explanation) -> list[np.ndarray]:
    """One picture per frame, uint8 [H, W, 3], with all maps as tiles."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    painted = {id(panel): paint(explanation.frames, panel) for part in explanation.sections for panel in part.maps}
    moments = []
    for t in range(len(explanation.frames)):
        figure = _figure(explanation, _tiles, with_charts=False, moment=t, painted=painted)
        canvas = FigureCanvasAgg(figure)
        figure.set_dpi(DPI)
        canvas.draw()
        moments.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return moments


def _figure(
    explanation: Explanation,
    lay_out: Callable[..., list[Item]],
    with_charts: bool,
    moment: int = 0,
    painted: dict[int, np.ndarray] | None = None,
):
    from matplotlib.figure import Figure

    frames = explanation.frames
    items = [_text(one_line(explanation.title, MAX_LINE), size=13, weight="bold", height=0.42)]
    shown = [Section("", "", (MapPanel("network input", np.zeros(0), "marks"),)), *explanation.sections]
    for number, section in enumerate(shown):
        if not with_charts and not section.maps:
            continue
        if section.title:
            items += _heading(section)
        pictures = []
        for panel in section.maps:
            if number == 0:
                pictures.append((panel.title, frames))
            else:
                found = None if painted is None else painted[id(panel)]
                pictures.append((panel.title, paint(frames, panel) if found is None else found))
        items += lay_out(pictures, moment)
        if with_charts and section.charts:
            items += _charts(section.charts)
    height = sum(item.height for item in items) + MARGIN
    figure = Figure(figsize=(WIDTH, height))
    top = 0.0
    for item in items:
        item.draw(figure, top)
        top += item.height
    return figure


def _axes(figure: Any, left: float, top: float, width: float, height: float):
    """Axes at a place in inches from the top left corner."""
    total = figure.get_figheight()
    return figure.add_axes([left / WIDTH, 1 - (top + height) / total, width / WIDTH, height / total])


def _write(figure: Any, left: float, top: float, text: str, **style: Any) -> None:
    figure.text(left / WIDTH, 1 - top / figure.get_figheight(), text, va="top", **style)


def _text(text: str, height: float = LINE, **style: Any) -> Item:
    return Item(height, lambda figure, top: _write(figure, MARGIN, top + 0.08, text, **style))


def _heading(section: Section) -> list[Item]:
    """Title, note and the legend of its colors."""

    def draw(figure: Any, top: float) -> None:
        line = figure.add_artist(_rule(figure, top + 0.08))
        line.set_zorder(-1)
        _write(figure, MARGIN, top + 0.16, one_line(section.title, MAX_LINE), size=11, weight="bold")
        _legend(figure, section, top + 0.2)

    notes = [_text(line, color="0.35") for line in section.note.split("\n") if line]
    return [Item(0.42, draw), *notes, Item(0.06, lambda figure, top: None)]


def _rule(figure: Any, top: float):
    from matplotlib.lines import Line2D

    y = 1 - top / figure.get_figheight()
    return Line2D(
        [MARGIN / WIDTH, 1 - MARGIN / WIDTH], [y, y], transform=figure.transFigure, color="0.8", linewidth=0.8
    )


def _legend(figure: Any, section: Section, top: float) -> None:
    right = WIDTH - MARGIN
    for color, label in reversed(section.legend):
        _write(figure, right, top, label, ha="right", size=9)
        right -= 0.075 * len(label) + 0.12
        axes = _axes(figure, right - 0.14, top + 0.02, 0.14, 0.14)
        axes.set(xticks=[], yticks=[], facecolor=color)
        right -= 0.3
    for style in sorted({panel.style for panel in section.maps} & set(COLORS)):
        low, high = ("0", "largest") if style == "heat" else ("negative", "positive")
        _write(figure, right, top, high, ha="right", size=9)
        right -= 0.075 * len(high) + 0.1
        axes = _axes(figure, right - 1.2, top + 0.02, 1.2, 0.14)
        axes.imshow(np.linspace(0, 1, 128)[None], aspect="auto", cmap=COLORS[style])
        axes.set(xticks=[], yticks=[])
        _write(figure, right - 1.28, top, low, ha="right", size=9)
        right -= 1.5 + 0.075 * len(low)


def _show(figure: Any, left: float, top: float, width: float, height: float, picture: np.ndarray) -> None:
    axes = _axes(figure, left, top, width, height)
    axes.imshow(picture, interpolation="nearest", aspect="auto")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _strips(pictures: Sequence[tuple[str, np.ndarray]], moment: int) -> list[Item]:
    """A row of frames for each map, with its title on the left."""
    items = []
    for title, frames in pictures:
        some = frames[np.linspace(0, len(frames) - 1, min(len(frames), MAX_FRAMES)).round().astype(int)]
        room = (WIDTH - 2 * MARGIN - STRIP_LABEL) / len(some) - 0.05
        scale = min(STRIP / some.shape[1], room / some.shape[2])
        height, width = scale * some.shape[1], scale * some.shape[2]

        def draw(figure, top, title=title, some=some, width=width, height=height) -> None:
            _write(figure, MARGIN, top + 0.04, _wrap(title, 24), size=9)
            for t, frame in enumerate(some):
                _show(figure, MARGIN + STRIP_LABEL + t * (width + 0.05), top, width, height, frame)

        items.append(Item(height + 0.06, draw))
    return items


def _tiles(pictures: Sequence[tuple[str, np.ndarray]], moment: int) -> list[Item]:
    """All maps of one moment beside each other, each under its title."""
    items = []
    if not pictures:
        return items
    height, width = TILE, TILE * pictures[0][1].shape[2] / pictures[0][1].shape[1]
    num_columns = max(1, int((WIDTH - 2 * MARGIN + 0.1) / (width + 0.1)))
    for start in range(0, len(pictures), num_columns):
        row = pictures[start : start + num_columns]
        titles = [_wrap(title, max(12, int(width / 0.075))) for title, _ in row]
        lines = max(title.count("\n") + 1 for title in titles)

        def draw(figure, top, row=row, titles=titles, lines=lines) -> None:
            for column, ((_, frames), title) in enumerate(zip(row, titles, strict=True)):
                left = MARGIN + column * (width + 0.1)
                _write(figure, left, top + 0.02, title, size=9)
                _show(figure, left, top + 0.17 * lines, width, height, frames[moment])

        items.append(Item(height + 0.17 * lines + 0.08, draw))
    return items


def _charts(charts: Sequence[Chart]) -> list[Item]:
    rows: list[list[Chart]] = [[]]
    for chart in charts:
        if rows[-1] and sum(other.width for other in rows[-1]) + chart.width > WIDTH - 2 * MARGIN:
            rows.append([])
        rows[-1].append(chart)

    def draw(figure, top, row) -> None:
        left = MARGIN
        for chart in row:
            axes = _axes(figure, left + 0.5, top + 0.35, chart.width - 0.75, CHART - 0.85)
            axes.set_title(chart.title, size=9, loc="left")
            axes.tick_params(labelsize=8)
            chart.draw(axes)
            left += chart.width

    return [Item(CHART, lambda figure, top, row=row: draw(figure, top, row)) for row in rows]


def _wrap(text: str, width: int) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(one_line(text, MAX_LINE), width)[:4])
