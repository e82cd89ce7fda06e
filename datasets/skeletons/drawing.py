"""Draws skeletons as stick figures, seen from the front."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw

SIDE = 96
"""Height and width of a frame, in pixels."""
MARGIN = 6
COLORS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167))
"""Of people, in turn."""


def draw_skeletons(clip: torch.Tensor, parents: Sequence[int]) -> torch.Tensor:
    """A clip [M, T, V, 3] as frames, uint8 [T, SIDE, SIDE, 3]: all of it in view, a line from each joint to its parent.

    A joint that is its own parent is a dot.
    """
    plane = clip[..., :2].numpy().astype(np.float64) * (1, -1)  # rows of an image point down
    there = (plane != 0).any(axis=(1, 2, 3))
    seen = plane[there] if there.any() else plane
    low, high = seen.min(axis=(0, 1, 2)), seen.max(axis=(0, 1, 2))
    scale = (SIDE - 2 * MARGIN) / max(float((high - low).max()), 1e-9)
    places = (plane - (low + high) / 2) * scale + SIDE / 2
    frames = []
    for t in range(clip.shape[1]):
        image = Image.new("RGB", (SIDE, SIDE), "white")
        pencil = ImageDraw.Draw(image)
        for person in np.flatnonzero(there):
            joints = places[person, t]
            for joint, parent in enumerate(parents):
                x, y = joints[joint]
                color = COLORS[person % len(COLORS)]
                pencil.line([x, y, *joints[parent]], fill=color, width=2)
                if joint == parent:
                    pencil.ellipse([x - 1, y - 1, x + 1, y + 1], fill=color)
        frames.append(torch.from_numpy(np.asarray(image).copy()))
    return torch.stack(frames)
