"""Contact sheets and animations of samples, and bar charts of class counts. Needs no display."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from engine.task import Picture
from evaluators.confusion_plot import PLAIN_TEXT, one_line, plot_font, plot_names

HEIGHT = 112  # of a frame, in pixels
GAP = 6  # between frames, in pixels
LINE = 20  # height of a line of text, in pixels
SWATCH = 11  # side of the square that shows a color, in pixels
MARGIN = 12  # around a sheet, in pixels
TITLE = 34  # height of a title, in pixels
SHEET_WIDTH = 1200  # in pixels, unless a single sample is wider
MAX_FRAMES = 8  # frames per clip on a sheet
MAX_LINE = 160  # characters of a line of text
TEXT_SIZE, TITLE_SIZE = 14, 19  # in pixels


def draw_sheet(samples: Sequence[Picture], path: Path, title: str) -> None:
    """Draws all samples on one sheet: caption, then one row of frames per stage. Stages of images share a row."""
    _tile([[_draw_sample(sample) for sample in samples]], title)[0].save(path)


def draw_animation(samples: Sequence[Picture], path: Path, title: str, frames_per_second: float) -> None:
    """Animates all samples at once, with their stages side by side. The stages of images are shown in turn."""
    num_frames = max(len(frames) for sample in samples for frames in sample.stages.values())
    moments = []
    for t in range(num_frames if num_frames > 1 else len(samples[0].stages)):
        blocks = []
        for sample in samples:
            stages = list(sample.stages.items())
            shown = stages if num_frames > 1 else stages[t : t + 1]
            frames = {name: frames[min(t, len(frames) - 1)][None] for name, frames in shown}
            blocks.append(_draw_sample(Picture(sample.lines[:1], frames, sample.height)))
        moments.append(blocks)
    pictures = _tile(moments, title)
    duration = round(1000 / (frames_per_second if num_frames > 1 else 1))
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=duration, loop=0)


def draw_classes(counts: dict[str, np.ndarray], class_names: Sequence[str], path: Path, counted: str = "files") -> None:
    """Draws a bar chart of the files per class [C] for each name in `counts`, with classes in label order.

    `counted`: the word for what is counted, by default files.
    """
    num_classes = len(class_names)
    with matplotlib.rc_context({**PLAIN_TEXT, "font.size": 11.5}):
        figure = Figure(figsize=(min(24.0, max(8.0, 0.3 * num_classes)), 3.6 * len(counts)), layout="constrained")
        panels = figure.subplots(len(counts), 1, squeeze=False)[:, 0]
        for axes, (name, values) in zip(panels, counts.items(), strict=True):
            axes.bar(np.arange(num_classes), values, width=0.8, color="#0072b2")
            axes.set(
                title=f"{name}: {values.sum():,.0f} {counted}, {values.min():,.0f} to {values.max():,.0f} per class"
            )
            axes.set_xlim(-0.6, num_classes - 0.4)
            axes.grid(axis="y", alpha=0.25)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_ylabel(counted)
            turned = (
                {"rotation": 90} if num_classes > 12 else {"rotation": 25, "ha": "right", "rotation_mode": "anchor"}
            )
            if num_classes <= 100:
                axes.set_xticks(range(num_classes), plot_names(class_names), **turned)
            else:
                axes.set_xlabel("label")
        FigureCanvasAgg(figure)
        figure.savefig(path, dpi=100)


def _draw_line(line: str | Sequence[tuple[str, tuple[int, int, int]]]) -> Image.Image:
    """A line of a caption; each name of a legend follows a square of its color."""
    parts = [(line, None)] if isinstance(line, str) else line
    texts = [one_line(text, max(12, MAX_LINE // len(parts))) for text, _ in parts]
    widths = [
        round(plot_font(TEXT_SIZE).getlength(text)) + (LINE if color else GAP)
        for text, (_, color) in zip(texts, parts, strict=True)
    ]
    picture = Image.new("RGB", (sum(widths) + GAP * len(parts), LINE), "white")
    draw, left = ImageDraw.Draw(picture), 0
    for text, (_, color), width in zip(texts, parts, widths, strict=True):
        start = left
        if color:
            draw.rectangle((left, 4, left + SWATCH, 4 + SWATCH), fill=color)
            start += SWATCH + 4
        draw.text((start, 0), text, fill="black", font=plot_font(TEXT_SIZE))
        left += width + GAP
    return picture


def _draw_sample(sample: Picture) -> Image.Image:
    lines, height = [_draw_line(line) for line in sample.lines], sample.height or HEIGHT
    rows = []
    for name, frames in sample.stages.items():
        some = np.linspace(0, len(frames) - 1, min(len(frames), MAX_FRAMES)).astype(int)
        rows.append((name, [_to_picture(frames[int(t)], height) for t in some]))
    if all(len(pictures) == 1 for _, pictures in rows):  # images
        rows = [(" | ".join(name for name, _ in rows), [picture for _, pictures in rows for picture in pictures])]
    width = max(sum(picture.width + GAP for picture in pictures) for _, pictures in rows)
    width = max(width, *(line.width for line in lines))
    top = LINE * len(lines)
    block = Image.new("RGB", (width, top + sum(LINE + height for _ in rows) + GAP), "white")
    draw = ImageDraw.Draw(block)
    for number, line in enumerate(lines):
        block.paste(line, (0, number * LINE))
    for name, pictures in rows:
        draw.text((0, top), name, fill="#5b6570", font=plot_font(TEXT_SIZE))
        left = 0
        for picture in pictures:
            block.paste(picture, (left, top + LINE))
            left += picture.width + GAP
        top += LINE + height
    return block


def _tile(moments: list[list[Image.Image]], title: str) -> list[Image.Image]:
    """Tiles each list of blocks into one image. A block has the same position in every image."""
    width, height = (2 * GAP + max(block.size[axis] for blocks in moments for block in blocks) for axis in (0, 1))
    title, num_blocks = one_line(title, MAX_LINE), len(moments[0])
    num_columns = min(num_blocks, max(1, SHEET_WIDTH // width))
    size = (
        2 * MARGIN + max(num_columns * width, round(plot_font(TITLE_SIZE).getlength(title))),
        2 * MARGIN + TITLE + -(-num_blocks // num_columns) * height,
    )
    tiled = []
    for blocks in moments:
        sheet = Image.new("RGB", size, "white")
        ImageDraw.Draw(sheet).text((MARGIN, MARGIN), title, fill="black", font=plot_font(TITLE_SIZE))
        for number, block in enumerate(blocks):
            row, column = divmod(number, num_columns)
            sheet.paste(block, (MARGIN + column * width, MARGIN + TITLE + row * height))
        tiled.append(sheet)
    return tiled


def _to_picture(frame: torch.Tensor, height: int) -> Image.Image:
    """uint8 [H, W, 3] -> an image `height` pixels high, or lower if it would be wider than a sheet."""
    picture = Image.fromarray(frame.numpy())
    scale = min(height / picture.height, SHEET_WIDTH / picture.width)
    size = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize(tuple(size), Image.Resampling.BILINEAR)
