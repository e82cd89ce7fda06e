"""Motion shapes: a small synthetic video set whose class is a motion and nothing else.

Every clip shows a few two-colored shapes over a drifting texture; all shapes of a clip have the same one of eight
motions, each at its own speed. It resembles the toy sets of moving digits, with one exact additional property: no
single frame reveals the class.

    state of a shape:  (x, y, size, turn), four phases in [0, 1), drawn uniformly on their torus
    motion:            a steady shift of one phase: +x for "right", -turn for "turn_counterclockwise", ...

A shift preserves the uniform distribution on a torus, so every frame of every class, including the first and the last,
is drawn from the same distribution. The price is that phases wrap: a shape that leaves on the left reappears on the
right, and one that has reached full size starts small again. Drift, colors, codec, frame rate, length and aspect are
drawn independently of the class.

With `label="shape"` the class is appearance instead: all shapes of a clip are of one kind, its class, and the motion is
random. There are fewer, and none is small, so that most frames reveal the class.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

import av
import numpy as np
from pydantic import Field

from datasets.synthetic.drawing import SHAPES, draw_background, draw_colors, draw_mask, draw_shape
from datasets.synthetic.folder import SPLITS, arguments_of, make_folder_once, write_lists
from settings import Settings, did_you_mean

# Motion -> (the phase it shifts, sign), with the phases x, y, size, turn. Image rows point down, so a growing angle
# turns clockwise.
MOTIONS = {
    "left": (0, -1),
    "right": (0, +1),
    "up": (1, -1),
    "down": (1, +1),
    "grow": (2, +1),
    "shrink": (2, -1),
    "turn_clockwise": (3, +1),
    "turn_counterclockwise": (3, -1),
}
CODECS = {  # H.264 with B-frames, like most of the web; an older codec; a newer one
    "libx264": {"preset": "superfast", "crf": "20"},
    "mpeg4": {"qmin": "2", "qmax": "4"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0"},
}
FRAME_RATES = (15, 24, 25, 30)
VERSION = 1  # of the whole set: a new number makes existing folders count as other data
CLASSES = {"motion": tuple(MOTIONS), "shape": tuple(SHAPES)}

NUM_SHAPES = 3
NUM_SHAPES_OF_A_KIND = 2
SPEEDS = (0.015, 0.03)  # phase per frame


class MotionShapesSettings(Settings):
    """The set that `make_motion_shapes` makes."""

    num_train: int = Field(480, gt=0, le=10_000_000, description="number of training videos")
    num_val: int = Field(163, gt=0, le=10_000_000, description="number of validation videos")
    seed: int = Field(0, ge=0, description="seed of all random numbers")
    size: int = Field(84, ge=32, le=10_000, multiple_of=2, description="shorter side, in pixels; even")
    num_frames: int = Field(40, gt=0, le=1_000_000, description="mean length, in frames; lengths vary by up to a fifth")
    label: Literal["motion", "shape"] = Field("motion", description="what the class is: the motion, or the shape")


def make_motion_shapes(
    folder: str | Path,
    num_train: int = 480,
    num_val: int = 163,
    seed: int = 0,
    size: int = 84,
    num_frames: int = 40,
    label: str = "motion",
) -> Path:
    """Writes the set as encoded videos, unless the folder has it already, and returns the folder.

        folder/train.txt, val.txt               id <tab> label <tab> path within the folder
        folder/train/<class>/<id>.mp4           and the same under val/
        folder/mapping_table.txt                label <tab> class
        folder/complete.json                    the arguments it was made with

    Args:
        num_train, num_val: how many videos; classes alternate, so their counts differ by at most one.
        seed: of all random numbers.
        size: shorter side in pixels, even; the longer side is equal or a third longer, landscape or portrait.
        num_frames: mean length; lengths vary by up to a fifth.
        label: what the class is, `motion` or `shape`.

    Raises:
        FileExistsError: the folder holds other files, or a set made with other arguments.
    """
    if size < 32 or size % 2:
        raise ValueError(f"size is {size}; the shorter side must be an even number of at least 32 pixels")
    arguments = {"num_train": num_train, "num_val": num_val, "seed": seed, "size": size, "num_frames": num_frames}
    arguments["label"] = label

    def build(staging: Path) -> None:
        for split, num_videos in zip(SPLITS, (num_train, num_val), strict=True):
            _make_split(staging, split, num_videos, seed, size, num_frames, label)

    return make_folder_once(folder, {"version": VERSION, **arguments}, build)


def _make_split(folder, split, num_videos, seed, size, num_frames, label):
    classes = CLASSES[label]
    labels = [index % len(classes) for index in range(num_videos)]
    names = [classes[label] for label in labels]
    paths = [f"{split}/{name}/{name}_{index:04d}.mp4" for index, name in enumerate(names)]
    for name in classes:
        (folder / split / name).mkdir(parents=True)

    def make(index):
        plan = _plan_video(seed, split, index, size, num_frames, label)
        _make_video(folder / paths[index], plan)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # NumPy and the encoders release the GIL
        list(pool.map(make, range(num_videos)))
    write_lists(folder, split, list(classes), labels, paths)


class _Plan(NamedTuple):
    """Everything about a video of a set except its frames, which `rng` then draws."""

    rng: np.random.Generator
    motion: str
    kind: str | None
    size: tuple[int, int]
    num_frames: int
    codec: str
    frame_rate: int


def _plan_video(seed: int, split: str, index: int, size: int, num_frames: int, label: str) -> _Plan:
    rng, name = np.random.default_rng((seed, SPLITS.index(split), index)), CLASSES[label][index % len(CLASSES[label])]
    motion, kind = (name, None) if label == "motion" else (str(rng.choice(list(MOTIONS))), name)
    long_side = size * 4 // 3 // 2 * 2  # encoders want even sides
    height, width = rng.permutation([size, rng.choice([size, long_side])]).tolist()
    num_frames = rng.integers(round(0.8 * num_frames), round(1.2 * num_frames), endpoint=True)
    codec, frame_rate = str(rng.choice(list(CODECS))), int(rng.choice(FRAME_RATES))
    return _Plan(rng, motion, kind, (height, width), num_frames, codec, frame_rate)


def _make_video(path: Path, plan: _Plan) -> None:
    write_video(
        path, draw_clip(plan.motion, plan.rng, plan.size, plan.num_frames, plan.kind), plan.codec, plan.frame_rate
    )


def write_video(path: Path, frames: np.ndarray, codec: str, frame_rate: int) -> None:
    """Encodes frames, uint8 RGB [T, H, W, 3] with even H and W, by one of `CODECS`."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=frame_rate, options=CODECS[codec])
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def mask_of_video(folder: str | Path, split: str, index: int) -> np.ndarray:
    """Where the shapes are in video `index` of a set's list: float32 [T, H, W], the fraction of each pixel they cover.

    Args:
        folder: a set of `make_motion_shapes`.
        split: "train" or "val".
        index: row of the video in the list of the split, from 0.

    Raises:
        FileNotFoundError: the folder holds no such set.
    """
    names = ("seed", "size", "num_frames", "label")
    seed, size, num_frames, label = (arguments_of(folder)[name] for name in names)
    plan = _plan_video(seed, split, index, size, num_frames, label)
    draw_background(plan.rng, plan.size, plan.num_frames, SPEEDS)
    shapes = _draw_shapes(plan.motion, plan.rng, plan.num_frames, plan.kind)
    return draw_mask([(kind, phases) for kind, phases, _ in shapes], plan.size, plan.num_frames)


def draw_phases(motion: str, num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """The trajectory of one shape: its phases x, y, size, turn in [0, 1) in every frame, [T, 4].

    From the same `rng` state, a motion and its opposite take the same trajectory in opposite directions.
    """
    if motion not in MOTIONS:
        raise ValueError(f"unknown motion {motion!r}{did_you_mean(motion, MOTIONS)} (choices: {', '.join(MOTIONS)})")
    axis, sign = MOTIONS[motion]
    phases = np.tile(rng.uniform(size=4), (num_frames, 1))  # [T, 4]
    phases[:, axis] += sign * rng.uniform(*SPEEDS) * (np.arange(num_frames) - (num_frames - 1) / 2)
    return phases % 1


def draw_clip(
    motion: str,
    rng: np.random.Generator,
    size: tuple[int, int] = (84, 112),
    num_frames: int = 40,
    kind: str | None = None,
) -> np.ndarray:
    """Draws one clip of a motion: uint8 RGB [T, H, W, 3]. `size` is (H, W); `kind` is that of all shapes, None: any."""
    canvas = draw_background(rng, size, num_frames, SPEEDS)  # [3, T, H, W]
    for shape, phases, colors in _draw_shapes(motion, rng, num_frames, kind):
        draw_shape(canvas, shape, phases, colors)
    return np.ascontiguousarray(canvas.round().astype(np.uint8).transpose(1, 2, 3, 0))


def _draw_shapes(
    motion: str, rng: np.random.Generator, num_frames: int, kind: str | None
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Kind, phases [T, 4] and colors [2, 3] of each shape of a clip."""
    kinds = [kind] * NUM_SHAPES_OF_A_KIND if kind else rng.choice(list(SHAPES), NUM_SHAPES, replace=False)
    for shape in kinds:
        phases = draw_phases(motion, num_frames, rng)
        if kind:
            phases[:, 2] = (1 + phases[:, 2]) / 2
        yield shape, phases, draw_colors(rng)


def save_sheet(path: str | Path, num_columns: int = 6, seed: int = 0) -> None:
    """Saves an overview of the set: for each motion a row of `num_columns` frames, evenly spaced in time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.4 * num_columns + 1.6, 1.05 * len(MOTIONS)), layout="constrained")
    rows = figure.subplots(len(MOTIONS), num_columns)
    for number, (motion, axes) in enumerate(zip(MOTIONS, rows, strict=True)):
        frames = draw_clip(motion, np.random.default_rng((seed, number)))
        for axis, index in zip(axes, np.linspace(0, len(frames) - 1, num_columns).round().astype(int), strict=True):
            axis.imshow(frames[index])
            axis.set(xticks=[], yticks=[])
        axes[0].set_ylabel(motion.replace("_", "\n"), rotation=0, ha="right", va="center")
    figure.savefig(path, dpi=80)
