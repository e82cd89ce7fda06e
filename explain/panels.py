"""The parts of an explanation: maps drawn over frames, and charts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F

COLORS = {"heat": "inferno", "signed": "RdBu_r"}  # matplotlib's maps


@dataclass(frozen=True)
class MapPanel:
    """A map over the frames: values [T', h, w], or colors [T', h, w, 4] in 0 ... 1, the last of them how opaque it is.

    `heat`: values from 0 on; `signed`: of either sign; `marks`: colors, each for the whole of its patch. T' is the
    number of frames T or less.
    """

    title: str
    values: torch.Tensor
    style: Literal["heat", "signed", "marks"] = "heat"


@dataclass(frozen=True)
class Chart:
    """A drawing on its own axes."""

    title: str
    draw: Callable[[Any], None]
    """Draws on matplotlib's axes."""
    width: float = 3.6
    """In inches."""


@dataclass(frozen=True)
class Section:
    """Maps and charts under one heading."""

    title: str
    note: str = ""
    """What they show, in a sentence or two."""
    maps: tuple[MapPanel, ...] = ()
    charts: tuple[Chart, ...] = ()
    legend: tuple[tuple[Any, str], ...] = ()
    """Colors of `marks` and their meaning."""


def paint(frames: np.ndarray, panel: MapPanel) -> np.ndarray:
    """The map over the frames, uint8 [T, H, W, 3] to the same. The clip's largest value has the strongest color."""
    values = panel.values.detach().float().cpu()
    if panel.style == "marks":
        colors = _resize(values.permute(3, 0, 1, 2), frames.shape[:3], "nearest-exact").permute(1, 2, 3, 0).numpy()
        color, opacity = colors[..., :3], colors[..., 3:]
    else:
        import matplotlib  # imported here: it takes a second, and only drawing needs it

        values = _resize(values[None], frames.shape[:3], "trilinear")[0].numpy()
        largest = np.abs(values).max() or 1.0
        level = values / largest  # -1 ... 1
        level = level.clip(0) if panel.style == "heat" else level
        place = level if panel.style == "heat" else (1 + level) / 2
        color = matplotlib.colormaps[COLORS[panel.style]](place)[..., :3]
        opacity = (0.25 + 0.55 * np.abs(level))[..., None]
    gray = frames.mean(3, keepdims=True) / 255
    painted = gray * (1 - opacity) + color * opacity
    return (255 * painted).round().clip(0, 255).astype(np.uint8)


def _resize(values: torch.Tensor, size: tuple[int, int, int], mode: str) -> torch.Tensor:
    """[C, T', h, w] -> [C, *size]"""
    corners = {} if mode == "nearest-exact" else {"align_corners": False}
    return F.interpolate(values[None], tuple(size), mode=mode, **corners)[0]


def representatives(maps: torch.Tensor, count: int) -> list[int]:
    """Maps [K, ...] that differ from each other: the one that varies most, then repeatedly the least explained one.

    The chosen maps explain another map by its projection on them, so that neither sign nor scale matters (a QR
    decomposition with pivoting). Returns the indices of at most `count` maps, in ascending order.
    """
    rows = maps.detach().double().flatten(1)
    rows = rows - rows.mean(1, keepdim=True)
    chosen: list[int] = []
    for _ in range(min(count, len(rows))):
        lengths = rows.norm(dim=1)
        lengths[chosen] = -1
        chosen.append(int(lengths.argmax()))
        direction = F.normalize(rows[chosen[-1]], dim=0)
        rows = rows - (rows @ direction)[:, None] * direction
    return sorted(chosen)
