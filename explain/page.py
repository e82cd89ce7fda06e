"""A page of text, charts and animated images, with positions in inches from its top left corner."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

DPI = 100
WIDTH = 12.4
MARGIN = 0.2


class Picture(NamedTuple):
    """Frames uint8 [T, H, W, 3], and their position: left, top, width and height in pixels."""

    frames: np.ndarray
    box: tuple[int, int, int, int]


class Page:
    """A page `WIDTH` inches wide. Text and charts are drawn once, by matplotlib; images are pasted frame by frame."""

    def __init__(self, height: float):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.height = height
        self.figure = Figure(figsize=(WIDTH, height), dpi=DPI)
        self.canvas = FigureCanvasAgg(self.figure)
        self.pictures: list[Picture] = []

    def text(self, left: float, top: float, text: str, **style: Any) -> None:
        self.figure.text(left / WIDTH, 1 - top / self.height, text, va="top", **style)

    def axes(self, left: float, top: float, width: float, height: float) -> Any:
        bottom = self.height - top - height
        return self.figure.add_axes([left / WIDTH, bottom / self.height, width / WIDTH, height / self.height])

    def rule(self, top: float) -> None:
        """A thin line across the page."""
        from matplotlib.lines import Line2D

        sides, y = (MARGIN / WIDTH, 1 - MARGIN / WIDTH), 1 - top / self.height
        self.figure.add_artist(Line2D(sides, (y, y), transform=self.figure.transFigure, color="0.8", linewidth=0.8))

    def picture(self, left: float, top: float, width: float, height: float, frames: np.ndarray) -> None:
        left, top, width, height = (round(DPI * inches) for inches in (left, top, width, height))
        self.pictures.append(Picture(frames, (left, top, width, height)))

    def render(self, num_moments: int = 1) -> Iterator[np.ndarray]:
        """The page at each time: uint8 [H, W, 3]. Images with fewer frames stay at their last one."""
        self.canvas.draw()
        still = np.asarray(self.canvas.buffer_rgba())[..., :3]
        for moment in range(num_moments):
            page = still.copy()
            for frames, (left, top, width, height) in self.pictures:
                frame = Image.fromarray(frames[min(moment, len(frames) - 1)])
                resized = frame.resize((width, height), Image.Resampling.BICUBIC)
                page[top : top + height, left : left + width] = np.asarray(resized)
            yield page
