"""Draws an explanation: a PNG sheet, or for a clip a GIF or MP4 that plays its maps side by side."""

import textwrap
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from PIL import Image

from engine.checkpoint import write_atomically
from evaluators.confusion_plot import PLAIN_TEXT, drawable, one_line, plot_font, shorten
from explain.page import DPI, MARGIN, WIDTH, Page
from explain.panels import COLORS, Chart, Section, paint
from settings import SettingsError, did_you_mean

FORMATS = (".png", ".gif", ".mp4")
TILE = 1.9  # height of a single map, in inches; so are all sizes below
STRIP = 1.2  # height of a frame in a row of frames
STRIP_LABEL = 1.7
LINE = 0.22
LETTER = 0.075  # width of a letter, about
CHART = 2.9
MAX_FRAMES = 8  # of a clip, on a sheet
MAX_LINE = 150  # characters


class Explanation(NamedTuple):
    """The explanation to draw."""

    title: str
    frames: np.ndarray
    """The network's input: uint8 [T, H, W, 3]."""
    sections: list[Section]
    summary: str
    """The title with the full names of the classes, which the sheet's font may lack."""


class Item(NamedTuple):
    """A part of a page: `draw(page, top)` fills `height` inches from `top` on."""

    height: float
    draw: Callable[[Page, float], None]


Pictures = Sequence[tuple[str, np.ndarray]]
"""Titles and frames, uint8 [T, H, W, 3]."""
LayOut = Callable[[Pictures], list[Item]]


def check_format(path: Path, num_frames: int | None = None) -> None:
    """Raises SettingsError unless the name's suffix fits an explanation (with the number of frames, if known)."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise SettingsError(f"-o: {path} must end in one of {', '.join(FORMATS)}{did_you_mean(suffix, FORMATS)}")
    if num_frames == 1 and suffix != ".png":
        raise SettingsError(f"-o: an image has one frame; write a .png instead of {path}")


def write(explanation: Explanation, path: Path, frames_per_second: float = 4) -> None:
    """Writes a sheet (.png) or an animation (.gif, .mp4). Raises CheckpointError if the disk is full."""
    import matplotlib  # imported here: it takes a second, and only drawing needs it

    write_as = {".png": _write_png, ".gif": _write_gif, ".mp4": _write_mp4}[path.suffix.lower()]
    with matplotlib.rc_context({**PLAIN_TEXT, "font.size": 9}):
        write_atomically(path, lambda temporary: write_as(explanation, temporary, frames_per_second))


def _write_png(explanation: Explanation, path: Path, frames_per_second: float) -> None:
    lay_out = _strips if len(explanation.frames) > 1 else _tiles
    (picture,) = _lay_out_page(explanation, lay_out, with_charts=True).render()
    Image.fromarray(picture).save(path, format="PNG")


def _write_gif(explanation: Explanation, path: Path, frames_per_second: float) -> None:
    first, *others = (Image.fromarray(picture) for picture in _moments(explanation))
    duration = round(1000 / frames_per_second)
    first.save(path, format="GIF", save_all=True, append_images=others, duration=duration, loop=0)


def _write_mp4(explanation: Explanation, path: Path, frames_per_second: float) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        rate = Fraction(frames_per_second).limit_denominator(1000)
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18"})
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(_moments(explanation)):
            if number == 0:
                stream.height, stream.width = (side // 2 * 2 for side in picture.shape[:2])  # the codec wants even ones
            picture = np.ascontiguousarray(picture[: stream.height, : stream.width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def _moments(explanation: Explanation) -> Iterator[np.ndarray]:
    """One image per frame, uint8 [H, W, 3], with all maps side by side."""
    return _lay_out_page(explanation, _tiles, with_charts=False).render(len(explanation.frames))


def _lay_out_page(explanation: Explanation, lay_out: LayOut, with_charts: bool) -> Page:
    items = [_text(_fit(explanation.title, 13), size=13, weight="bold", height=0.36)]
    pictures = [("network input", explanation.frames)]
    if lay_out is _strips:
        items += [_space(0.06), *lay_out(pictures)]
    for number, section in enumerate(explanation.sections):
        if not with_charts and not section.maps:
            continue
        own = [(panel.title, paint(explanation.frames, panel)) for panel in section.maps]
        with_input = number == 0 and lay_out is _tiles
        items += [*_heading(section), *lay_out([*pictures, *own] if with_input else own)]
        if with_charts and section.charts:
            items += _charts(section.charts)
    page, top = Page(sum(item.height for item in items) + MARGIN), 0.0
    for item in items:
        item.draw(page, top)
        top += item.height
    return page


def _space(height: float) -> Item:
    return Item(height, lambda page, top: None)


def _text(text: str, height: float = LINE, **style: Any) -> Item:
    return Item(height, lambda page, top: page.text(MARGIN, top + 0.08, text, **style))


def _heading(section: Section) -> list[Item]:
    """Title, color legend and note."""

    def draw(page: Page, top: float) -> None:
        page.rule(top + 0.08)
        page.text(MARGIN, top + 0.16, _fit(section.title, 11), size=11, weight="bold")
        _legend(page, section, top + 0.2)

    notes = [_text(line, color="0.35") for line in section.note.split("\n") if line]
    return [_space(0.06), Item(0.36, draw), *notes, _space(0.08)]


def _legend(page: Page, section: Section, top: float) -> None:
    """From right to left."""
    right = WIDTH - MARGIN
    for color, label in reversed(section.legend):
        page.text(right, top, label, ha="right", size=9)
        right -= LETTER * len(label) + 0.2
        axes = page.axes(right - 0.1, top + 0.02, 0.14, 0.14)
        axes.set(xticks=[], yticks=[], facecolor=color)
        right -= 0.3
    for style in sorted({panel.style for panel in section.maps} & set(COLORS)):
        low, high = ("0", "largest") if style == "heat" else ("negative", "positive")
        page.text(right, top, high, ha="right", size=9)
        right -= LETTER * len(high) + 0.1
        axes = page.axes(right - 1.2, top + 0.02, 1.2, 0.14)
        axes.imshow(np.linspace(0, 1, 128)[None], aspect="auto", cmap=COLORS[style])
        axes.set(xticks=[], yticks=[])
        page.text(right - 1.28, top, low, ha="right", size=9)
        right -= 1.5 + LETTER * len(low)


def _strips(pictures: Pictures) -> list[Item]:
    """A row of frames for each map, with its title on the left."""
    items = []
    for title, frames in pictures:
        some = frames[np.linspace(0, len(frames) - 1, min(len(frames), MAX_FRAMES)).round().astype(int)]
        room = (WIDTH - 2 * MARGIN - STRIP_LABEL) / len(some) - 0.05
        scale = min(STRIP / some.shape[1], room / some.shape[2])
        height, width = scale * some.shape[1], scale * some.shape[2]

        def draw(page: Page, top: float, title=title, some=some, width=width, height=height) -> None:
            page.text(MARGIN, top + 0.04, _wrap(title, STRIP_LABEL), size=9)
            for t in range(len(some)):
                page.picture(MARGIN + STRIP_LABEL + t * (width + 0.05), top, width, height, some[t : t + 1])

        items.append(Item(height + 0.06, draw))
    return items


def _tiles(pictures: Pictures) -> list[Item]:
    """All maps side by side, each under its title."""
    items = []
    for row in _rows(pictures):
        width = TILE * row[0][1].shape[2] / row[0][1].shape[1]
        titles = [_wrap(title, width) for title, _ in row]
        height = 0.17 * max(title.count("\n") + 1 for title in titles)

        def draw(page: Page, top: float, row=row, titles=titles, width=width, height=height) -> None:
            for column, ((_, frames), title) in enumerate(zip(row, titles, strict=True)):
                left = MARGIN + column * (width + 0.1)
                page.text(left, top + 0.02, title, size=9)
                page.picture(left, top + height, width, TILE, frames)

        items.append(Item(TILE + height + 0.08, draw))
    return items


def _rows(pictures: Pictures) -> Iterator[Pictures]:
    """As many of the images, all of one size, as fit side by side."""
    for start in range(0, len(pictures), num_columns := _num_columns(pictures)):
        yield pictures[start : start + num_columns]


def _num_columns(pictures: Pictures) -> int:
    _, height, width, _ = pictures[0][1].shape if pictures else (0, 1, 1, 0)
    return max(1, int((WIDTH - 2 * MARGIN + 0.1) / (TILE * width / height + 0.1)))


def _charts(charts: Sequence[Chart]) -> list[Item]:
    rows: list[list[Chart]] = [[]]
    for chart in charts:
        if rows[-1] and sum(other.width for other in rows[-1]) + chart.width > WIDTH - 2 * MARGIN:
            rows.append([])
        rows[-1].append(chart)

    def draw(page: Page, top: float, row: list[Chart]) -> None:
        left = MARGIN
        for chart in row:
            axes = page.axes(left + 0.5, top + 0.35, chart.width - 0.75, CHART - 0.85)
            axes.set_title(chart.title, size=9, loc="left")
            axes.tick_params(labelsize=8)
            chart.draw(axes)
            left += chart.width

    return [Item(CHART, lambda page, top, row=row: draw(page, top, row)) for row in rows]


def _fit(text: str, size: float) -> str:
    """A bold title of a size in points, shortened to the width of the page."""
    return shorten(_line(text), plot_font(size * DPI / 72, "bold"), (WIDTH - 2 * MARGIN) * DPI)


def _wrap(text: str, width: float) -> str:
    """Four lines of this width in inches, at most."""
    return "\n".join(textwrap.wrap(_line(text), int(width / LETTER))[:4])


def _line(text: str) -> str:
    return drawable(one_line(text, MAX_LINE))
