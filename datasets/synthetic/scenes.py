"""Scenes of overlapping shapes: images, and their exact masks, boxes and label maps.

The shapes are those of `drawing`, painted one after another, so that later ones hide earlier ones. A pixel belongs to
the last shape that covers at least half of it. All masks are of the visible parts.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from datasets.synthetic.drawing import RADII, SHAPES, draw_mask, draw_shape

GROUND, IGNORED = 0, 255  # in label maps; a kind of shape is its place in `SHAPES`, from 1
CLASS_NAMES = ("ground", *SHAPES)
MIN_VISIBLE_SHARE, MIN_VISIBLE_PIXELS = 0.25, 24
"""A shape with less visible, as a fraction of its area or in pixels, is nearly hidden and not an object of the set."""


class SceneObject(NamedTuple):
    """One shape, or the crowd of several of a kind, through T frames.

    `phases` and `colors` have one entry per shape, [T, 4] and [2, 3]: see `drawing.draw_shape`.
    """

    kind: str
    phases: list[np.ndarray]
    colors: list[np.ndarray]
    is_crowd: bool = False


def size_phase(radius: float) -> float:
    """The phase of a shape whose radius is this fraction of the image's short side."""
    return float(np.log(radius / RADII[0]) / np.log(RADII[1] / RADII[0]))


def draw_scene_frames(background: np.ndarray, objects: Sequence[SceneObject]) -> np.ndarray:
    """Paints the objects over float32 [3, T, H, W] -> uint8 RGB [T, H, W, 3]."""
    canvas = background.copy()
    for thing in objects:
        for phases, colors in zip(thing.phases, thing.colors, strict=True):
            draw_shape(canvas, thing.kind, phases, colors, wraps=False)
    return np.ascontiguousarray(canvas.round().astype(np.uint8).transpose(1, 2, 3, 0))


def visible_masks(objects: Sequence[SceneObject], size: tuple[int, int], num_frames: int) -> tuple[np.ndarray, ...]:
    """The visible part of each object, bool [N, T, H, W], and whether it is not nearly hidden, bool [N, T]."""
    whole = [
        draw_mask([(thing.kind, phases) for phases in thing.phases], size, num_frames, wraps=False) >= 0.5
        for thing in objects
    ]
    whole = np.stack(whole) if whole else np.zeros((0, num_frames, *size), bool)
    visible, hidden = whole.copy(), np.zeros_like(whole[:1].any(0))
    for number in reversed(range(len(objects))):
        visible[number] &= ~hidden
        hidden = hidden | whole[number]
    areas, seen = whole.sum((2, 3)), visible.sum((2, 3))
    return visible, (seen >= MIN_VISIBLE_PIXELS) & (seen >= MIN_VISIBLE_SHARE * areas)


def label_map(objects: Sequence[SceneObject], visible: np.ndarray, is_object: np.ndarray) -> np.ndarray:
    """The class of each pixel of one frame: uint8 [H, W].

    `IGNORED` on crowds, on shapes that are nearly hidden, and on the rim of all others: their pixels that have a
    neighbor above, below, left or right which is not theirs.

    Args:
        objects: of the scene.
        visible: their visible parts in the frame, bool [N, H, W].
        is_object: which of them are not nearly hidden, bool [N].
    """
    labels = np.full(visible.shape[1:], GROUND, np.uint8)
    for thing, mask, counts in zip(objects, visible, is_object, strict=True):
        known = counts and not thing.is_crowd
        labels[mask] = 1 + list(SHAPES).index(thing.kind) if known else IGNORED
        labels[mask & ~_inner(mask)] = IGNORED
    return labels


def _inner(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask whose four neighbors are in it, too; all beyond the image border count as in it."""
    padded = np.pad(mask, 1, constant_values=True)
    return padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]


def categories() -> list[dict[str, Any]]:
    """The kinds of shapes as COCO's categories: ids from 1, which are also the values of label maps."""
    return [{"id": number, "name": kind, "supercategory": "shape"} for number, kind in enumerate(SHAPES, 1)]
