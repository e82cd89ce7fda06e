"""Scene clips: the moving version of `scene_shapes`, for tracking and for segmentation of every frame.

Two to four shapes move over a drifting texture, each by one of `motion_shapes`' motions; later shapes hide earlier
ones. The truth of all clips of a split is one JSON file in the format of YouTube-VIS:

    videos        id, file_name (within the folder of the split), height, width, length in frames, frame_rate
    categories    the kinds of shapes: id from 1, name
    annotations   one per track: id, video_id, category_id, iscrowd, and one entry per frame of
                  bboxes [x, y, width, height], areas, segmentations (COCO's run lengths); null in frames where the
                  shape is nearly hidden (see `scenes`) or has left the frame

A shape that has left and reappears at the opposite edge, or has grown to its largest size and starts small again, is a
new track.
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from datasets.dense.segmentation import box_of, encode_mask
from datasets.synthetic.drawing import SHAPES, draw_background, draw_colors
from datasets.synthetic.folder import SPLITS, make_folder_once
from datasets.synthetic.motion_shapes import CODECS, FRAME_RATES, MOTIONS, SPEEDS, draw_phases, write_video
from datasets.synthetic.scenes import (
    SceneObject,
    categories,
    draw_scene_frames,
    size_phase,
    visible_masks,
)
from settings import Settings

NUM_SHAPES = (2, 4)  # fewest and most in a clip
RADII = (0.13, 0.28)  # of a shape, as shares of the picture's short side
PLACES = (0.1, 0.9)  # of a shape's center across its way, as shares of the picture's side
VERSION = 1  # of the whole set: a new number makes existing folders count as other data


class SceneClipsSettings(Settings):
    """The set that `make_scene_clips` makes."""

    num_train: int = Field(40, gt=0, le=10_000_000, description="number of training clips")
    num_val: int = Field(10, gt=0, le=10_000_000, description="number of validation clips")
    seed: int = Field(0, ge=0, description="seed of all random numbers")
    size: int = Field(96, ge=48, le=10_000, multiple_of=2, description="shorter side, in pixels; even")
    num_frames: int = Field(24, gt=0, le=1_000_000, description="length of a clip, in frames")


def make_scene_clips(
    folder: str | Path, num_train: int = 40, num_val: int = 10, seed: int = 0, size: int = 96, num_frames: int = 24
) -> Path:
    """Writes the set as encoded videos, unless the folder has it already, and returns the folder.

        folder/train/clip_<number>.mp4                   and the same under val/
        folder/tracks_train.json, tracks_val.json        see the top of this file

    Args:
        num_train, num_val: how many clips.
        seed: of all random numbers.
        size: shorter side in pixels, even; the longer side is a third longer, one clip in five is portrait.
        num_frames: length of each clip.

    Raises:
        FileExistsError: the folder holds other files, or a set made with other arguments.
    """
    if size < 48 or size % 2:
        raise ValueError(f"size is {size}; the shorter side must be an even number of at least 48 pixels")
    arguments = {"num_train": num_train, "num_val": num_val, "seed": seed, "size": size, "num_frames": num_frames}

    def build(staging: Path) -> None:
        for split, num_clips in zip(SPLITS, (num_train, num_val), strict=True):
            _make_split(staging, split, num_clips, seed, size, num_frames)

    return make_folder_once(folder, {"version": VERSION, "set": "scene_clips", **arguments}, build)


def _make_split(folder: Path, split: str, num_clips: int, seed: int, size: int, num_frames: int) -> None:
    (folder / split).mkdir(parents=True)

    def make(index: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        rng = np.random.default_rng((seed, SPLITS.index(split), index))
        codec, frame_rate = str(rng.choice(list(CODECS))), int(rng.choice(FRAME_RATES))
        sides = (size, size * 4 // 3 // 2 * 2) if rng.random() >= 0.2 else (size * 4 // 3 // 2 * 2, size)
        frames, tracks = draw_scene_clip(rng, sides, num_frames)
        name = f"clip_{index:04d}.mp4"
        write_video(folder / split / name, frames, codec, frame_rate)
        video = {"file_name": name, "height": sides[0], "width": sides[1], "length": num_frames}
        return {**video, "frame_rate": frame_rate}, tracks

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # NumPy and the encoders release the GIL
        clips = list(pool.map(make, range(num_clips)))
    videos = [{"id": number, **video} for number, (video, _) in enumerate(clips, 1)]
    tracks = [{"video_id": number, **track} for number, (_, tracks) in enumerate(clips, 1) for track in tracks]
    annotations = [{"id": number, **track} for number, track in enumerate(tracks, 1)]
    content = {"videos": videos, "annotations": annotations, "categories": categories()}
    (folder / f"tracks_{split}.json").write_text(json.dumps(content))


def draw_scene_clip(
    rng: np.random.Generator, size: tuple[int, int] = (96, 128), num_frames: int = 24
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Draws one clip of the set; `size` is (H, W).

    Returns:
        the frames, uint8 RGB [T, H, W, 3]; the tracks, in the form of YouTube-VIS's annotations without their ids.
    """
    background = draw_background(rng, size, num_frames, SPEEDS)  # [3, T, H, W]
    objects, passes = [], []
    for _ in range(rng.integers(*NUM_SHAPES, endpoint=True)):
        phases, number = _draw_path(rng, size, num_frames)
        objects.append(SceneObject(str(rng.choice(list(SHAPES))), [phases], [draw_colors(rng)]))
        passes.append(number)
    visible, is_object = visible_masks(objects, size, num_frames)
    tracks = [
        _track(thing.kind, masks, counts & (number == which))
        for thing, masks, counts, number in zip(objects, visible, is_object, passes, strict=True)
        for which in range(number[-1] + 1)
        if (counts & (number == which)).any()
    ]
    return draw_scene_frames(background, objects), tracks


def _draw_path(rng: np.random.Generator, size: tuple[int, int], num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """The phases of a shape [T, 4], and how often it has started anew by each frame [T].

    Along its way the torus is larger than the picture by its largest radius at both ends: it leaves whole before it
    comes back. Across it, the center stays in the picture.
    """
    motion = str(rng.choice(list(MOTIONS)))
    phases = draw_phases(motion, num_frames, rng)
    axis, _ = MOTIONS[motion]
    passes = np.zeros(num_frames, int)
    if axis < 3:  # a full turn is no new start
        passes[1:] = np.cumsum(np.abs(np.diff(phases[:, axis])) > 0.5)
    margins = RADII[1] * min(size) / np.array(size[::-1])
    for number in (0, 1):
        low, high = (-margins[number], 1 + margins[number]) if number == axis else PLACES
        phases[:, number] = low + (high - low) * phases[:, number]
    low, high = map(size_phase, RADII)
    phases[:, 2] = low + (high - low) * phases[:, 2]
    return phases, passes


def _track(kind: str, masks: np.ndarray, is_there: np.ndarray) -> dict[str, Any]:
    """One track: `masks` bool [T, H, W], where `is_there` [T] says which frames count."""

    def each(entry):
        return [entry(mask) if there else None for mask, there in zip(masks, is_there, strict=True)]

    return {
        "category_id": 1 + list(SHAPES).index(kind),
        "iscrowd": 0,
        "bboxes": each(box_of),
        "areas": each(lambda mask: int(mask.sum())),
        "segmentations": each(encode_mask),
    }
