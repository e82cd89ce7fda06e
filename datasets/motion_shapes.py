"""Motion shapes: a small made video set whose class is a motion and nothing else.

Every clip shows a few two-colored shapes over a drifting texture; all shapes of a clip move in the same one of eight
ways, each at its own speed. It is ours, in the line of the toy sets with moving digits, but for one property: no single
frame tells the class, exactly:

    state of a shape:  (x, y, size, turn), four phases in [0, 1), drawn uniformly on their torus
    motion:            a steady shift of one phase: +x for "right", -turn for "turn_counterclockwise", ...

A shift keeps the uniform distribution on a torus, so every frame of every class, the first and the last too, is drawn
from one and the same distribution. The price is that phases wrap: a shape that leaves on the left comes back on the
right, and one that has grown to the full starts small again. Drift, colors, codec, frame rate, length and aspect are
drawn without a look at the class.
"""

import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

# Motion -> (the phase it shifts, sign), with the phases x, y, size, turn. Image rows point down, so a growing angle
# turns clockwise to the eye.
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
CODECS = {  # H.264 with its B-frames, as most of the web; an old one; a newer one
    "libx264": {"preset": "superfast", "crf": "20"},
    "mpeg4": {"qmin": "2", "qmax": "4"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0"},
}
FRAME_RATES = (15, 24, 25, 30)
VERSION = 1  # of the whole set: with a new number, folders made before count as other data

NUM_SHAPES = 3
RADII = (0.12, 0.34)  # smallest and largest radius, in shares of the frame's short side
SPEEDS = (0.015, 0.03)  # phase per frame


class MotionShapesSettings(BaseModel):
    """What `make_motion_shapes` makes."""

    model_config = ConfigDict(extra="forbid")

    num_train: int = Field(480, gt=0, description="training videos")
    num_val: int = Field(163, gt=0, description="validation videos")
    seed: int = Field(0, ge=0, description="root of every random number")
    size: int = Field(84, ge=32, description="short side in pixels, even")
    num_frames: int = Field(40, gt=0, description="usual length in frames; lengths vary by a fifth both ways")


def _star(u, v):
    angle = np.abs(np.arctan2(v, u)) % (0.4 * np.pi)
    angle = np.minimum(angle, 0.4 * np.pi - angle)  # from the nearest of five tips, 0 ... 36 degrees
    # The edge from a tip at radius 1 to a dent at radius 0.5 is a straight line: x + slope * y = 1.
    slope = (2 - np.cos(0.2 * np.pi)) / np.sin(0.2 * np.pi)
    return np.hypot(u, v) * (np.cos(angle) + slope * np.sin(angle))


# Shape -> gauge(u, v): below 1 inside, 1 on the outline, u and v in units of the shape's radius.
SHAPES = {
    "disc": np.hypot,
    "ring": lambda u, v: np.abs(np.hypot(u, v) - 0.7) / 0.3,
    "square": lambda u, v: 1.2 * np.maximum(np.abs(u), np.abs(v)),
    "triangle": lambda u, v: 2 * np.maximum(np.maximum(-0.5 * u + 0.866 * v, -0.5 * u - 0.866 * v), u),
    "cross": lambda u, v: np.maximum(np.maximum(np.abs(u), np.abs(v)), np.minimum(np.abs(u), np.abs(v)) / 0.36),
    "star": _star,
}


def make_motion_shapes(
    folder: str | Path,
    num_train: int = 480,
    num_val: int = 163,
    seed: int = 0,
    size: int = 84,
    num_frames: int = 40,
) -> Path:
    """Writes the set as encoded videos, unless it is there already, and returns its folder.

        folder/train.txt, val.txt               id <tab> label <tab> path within the folder
        folder/train/<motion>/<id>.mp4          and the same under val/
        folder/mapping_table.txt                label <tab> motion
        folder/complete.json                    the arguments it was made with

    The folder appears whole or not at all: it is built beside its place and renamed at the end. So an interrupted start
    leaves no half-made set, and processes that start at once do each other no harm.

    Args:
        num_train, num_val: how many videos; the motions take turns, so their counts differ by one at most.
        size: short side in pixels, even; the long side is equal or a third longer, lying or upright.
        num_frames: the usual length; lengths vary by a fifth both ways.

    Raises:
        FileExistsError: the folder holds other files, or a set made with other arguments.
    """
    if size < 32 or size % 2:
        raise ValueError(f"size is {size}: the short side has to be an even number of at least 32 pixels")
    folder = Path(folder).absolute()
    arguments = {"num_train": num_train, "num_val": num_val, "seed": seed, "size": size, "num_frames": num_frames}
    if _is_complete(folder, arguments):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as workshop:
        staging = Path(workshop, folder.name)
        for number, (split, num_videos) in enumerate({"train": num_train, "val": num_val}.items()):
            _make_split(staging, split, num_videos, (seed, number), size, num_frames)
        table = "".join(f"{label}\t{motion}\n" for label, motion in enumerate(MOTIONS))
        (staging / "mapping_table.txt").write_text(table)
        (staging / "complete.json").write_text(json.dumps({"version": VERSION, **arguments}, indent=2) + "\n")
        try:
            staging.rename(folder)
        except OSError:
            if not _is_complete(folder, arguments):  # when it is, another process has just been faster
                raise
    return folder


def _is_complete(folder, arguments):
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    note = folder / "complete.json"
    if not note.is_file():
        raise FileExistsError(f"{folder}: there are other files, no motion shapes; name a new folder")
    found, wanted = json.loads(note.read_text()), {"version": VERSION, **arguments}
    if found != wanted:
        raise FileExistsError(f"{folder}: made with {found}, but wanted are {wanted}; delete it or name a new folder")
    return True


def _make_split(folder, split, num_videos, seed, size, num_frames):
    labels = [index % len(MOTIONS) for index in range(num_videos)]
    motions = [list(MOTIONS)[label] for label in labels]
    ids = [f"{motion}_{index:04d}" for index, motion in enumerate(motions)]
    paths = [f"{split}/{motion}/{id_}.mp4" for motion, id_ in zip(motions, ids, strict=True)]
    for motion in MOTIONS:
        (folder / split / motion).mkdir(parents=True)

    def make(index):
        rng = np.random.default_rng((*seed, index))
        _make_video(folder / paths[index], motions[index], rng, size, num_frames)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # NumPy and the encoders release Python's lock
        list(pool.map(make, range(num_videos)))
    lines = (f"{id_}\t{label}\t{path}\n" for id_, label, path in zip(ids, labels, paths, strict=True))
    (folder / f"{split}.txt").write_text("".join(lines))


def _make_video(path, motion, rng, size, num_frames):
    long_side = size * 4 // 3 // 2 * 2  # encoders want even sides
    height, width = rng.permutation([size, rng.choice([size, long_side])]).tolist()
    num_frames = rng.integers(round(0.8 * num_frames), round(1.2 * num_frames), endpoint=True)
    codec, frame_rate = str(rng.choice(list(CODECS))), int(rng.choice(FRAME_RATES))
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=frame_rate, options=CODECS[codec])
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in draw_clip(motion, rng, (height, width), num_frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def draw_phases(motion: str, num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """The way of one shape: its phases x, y, size, turn in [0, 1) at every frame, [T, 4].

    The same `rng` state gives a motion and its opposite the same way, walked in opposite directions.
    """
    if motion not in MOTIONS:
        raise ValueError(f"unknown motion {motion!r}; there are {', '.join(MOTIONS)}")
    axis, sign = MOTIONS[motion]
    phases = np.tile(rng.uniform(size=4), (num_frames, 1))  # [T, 4]
    phases[:, axis] += sign * rng.uniform(*SPEEDS) * (np.arange(num_frames) - (num_frames - 1) / 2)
    return phases % 1


def draw_clip(motion: str, rng: np.random.Generator, size: tuple[int, int] = (84, 112), num_frames: int = 40):
    """Draws one clip of a motion: uint8 RGB [T, H, W, 3], `size` being (H, W)."""
    canvas = _draw_background(rng, size, num_frames)  # [3, T, H, W]
    for kind in rng.choice(list(SHAPES), NUM_SHAPES, replace=False):
        phases = draw_phases(motion, num_frames, rng)
        _draw_shape(canvas, kind, phases, colors=_draw_colors(rng))
    return np.ascontiguousarray(canvas.round().astype(np.uint8).transpose(1, 2, 3, 0))


def _draw_colors(rng):
    """Two strong colors of opposite hue, [2, 3] in 0 ... 255: the halves of a shape, so that its turn always shows."""
    hue = rng.uniform() + np.array([[0.0], [0.5]])
    return np.float32(127.5 + 115 * np.clip(2 * np.cos(2 * np.pi * (hue + np.arange(3) / 3)), -1, 1))


def _draw_background(rng, size, num_frames, num_waves=12):
    """A muted texture of plane waves that glides evenly in a random direction: float32 [3, T, H, W]."""
    kx, ky = rng.normal(0, 2.5, (2, num_waves)).round()  # whole waves per side: the texture wraps around as well
    phase = rng.uniform(size=num_waves)
    strength = np.float32(rng.normal(0, 8, num_waves) + rng.normal(0, 4, (3, 1, 1, num_waves)))  # more gray than color
    heading, speed = rng.uniform(0, 2 * np.pi), rng.uniform(*SPEEDS)
    drift = (kx * np.cos(heading) + ky * np.sin(heading)) * speed  # [K], in turns per frame
    # A wave at (t, y, x) is the real part of a product with one factor per axis, so their sum is a matrix product.
    times = _spin(np.outer(np.arange(num_frames), -drift) + phase)[:, None]  # [T, 1, K]
    rows = _spin(np.outer(np.arange(size[0]) / size[0], ky))  # [H, K]
    columns = _spin(np.outer(np.arange(size[1]) / size[1], kx))  # [W, K]
    factors = strength * times * rows  # [3, T, H, K]
    waves = (factors.reshape(-1, num_waves) @ columns.T).real  # one product, [3 * T * H, K] x [K, W], for threads' sake
    waves = waves.reshape(*factors.shape[:3], -1)  # [3, T, H, W]
    return np.clip(waves + rng.uniform(80, 175), 0, 255)


def _spin(turns):
    return np.exp(2j * np.pi * turns).astype(np.complex64)


def _draw_shape(canvas, kind, phases, colors):
    """Paints one shape into `canvas` [3, T, H, W] in place; what crosses an edge of the frame enters at the other."""
    _, num_frames, height, width = canvas.shape
    x, y, size, turn = phases.T.astype(np.float32)[:, :, None, None]  # [T, 1, 1] each
    x, y = x * width, y * height
    radius = min(height, width) * RADII[0] * (RADII[1] / RADII[0]) ** size
    # Only a patch of P x P pixels around the center is painted, its indices wrapped around the frame.
    reach = np.arange(-np.ceil(radius.max()), np.ceil(radius.max()) + 2)  # [P]
    rows = (np.floor(y) + reach[:, None]).astype(int)  # [T, P, 1]
    columns = (np.floor(x) + reach).astype(int)  # [T, 1, P]
    pixels = (np.arange(num_frames)[:, None, None] * height + rows % height) * width + columns % width  # [T, P, P]
    dx, dy = ((columns - x) / radius).astype(np.float32), ((rows - y) / radius).astype(np.float32)
    cos, sin = np.cos(2 * np.float32(np.pi) * turn), np.sin(2 * np.float32(np.pi) * turn)
    u, v = dx * cos + dy * sin, dy * cos - dx * sin  # [T, P, P], the shape's own coordinates
    cover = np.clip((1 - SHAPES[kind](u, v)) * radius + 0.5, 0, 1)  # outlines are soft, one pixel wide
    second = np.clip(u * radius + 0.5, 0, 1)
    for plane, start, end in zip(canvas.reshape(3, -1), *colors, strict=True):
        under = plane[pixels]
        plane[pixels] = under + cover * (start + (end - start) * second - under)


def save_sheet(path: str | Path, num_columns: int = 6, seed: int = 0) -> None:
    """Saves a picture of the set: a row of `num_columns` frames, evenly spaced in time, for each motion."""
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
