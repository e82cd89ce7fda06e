"""What each re-encoding recipe costs and gains: reading speed, size, and similarity to the original."""

import argparse
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from datasets.video.container import open_container
from datasets.video.convert import Job, convert
from datasets.video.reader import VideoReader
from datasets.video.recipes import RECIPES, Recipe
from datasets.video.reencode import read_source, scaled_frames
from datasets.video.transforms import EvalView, EvalViewSettings
from engine.progress import counted, terminal_bar
from tools.benchmarks.data import check_videos, make_kinetics_like_clips
from tools.common.arguments import positive
from tools.common.output_files import check_replaces_text

HELP = """Recipes of tools/convert_videos.py, and variants of ours, on the same videos.

  clips/s   read by our reader with the file's index kept, as in `benchmark.py data`, per second of CPU time
  size      bytes of the converted file, as a fraction of the original's
  PSNR      of the luma, in dB against the original scaled to the same size: higher is more similar

Geometric means over the videos (PSNR: arithmetic mean). Variants change one option of the recipe `training`; "H.264, 4"
is H.264 for fast decoding, without B-frames, with a keyframe every 4 frames.
"""


def variants() -> dict[str, Recipe]:
    """The recipes, variants of `training`, and H.264 for fast decoding."""
    changes = {
        **{f"keyframe every {g}": {"g": str(g)} for g in (1, 2, 3, 6, 8, 12)},
        **{f"{kilobits} kbit/s": {"b": f"{kilobits}k"} for kilobits in (384, 640, 768)},
        "with B-frames": {"bf": "2"},
        "quick encoding": {"mbd": "simple", "trellis": "0", "cmp": "sad", "subcmp": "sad"},
    }
    ours = RECIPES["training"]
    h264 = {"crf": "23", "preset": "veryfast", "tune": "fastdecode", "bf": "0"}
    return {
        **RECIPES,
        **{name: ours._replace(options={**ours.options, **change}) for name, change in changes.items()},
        **{f"short side {side}": ours._replace(short_side=side) for side in (160, 224, 288)},
        **{f"H.264, {g}": ours._replace(codec="libx264", options={**h264, "g": str(g)}) for g in (2, 4, 8, 32)},
        "H.264, 32, B-frames": ours._replace(codec="libx264", options={**h264, "g": "32", "bf": "3"}),
    }


class Measured(NamedTuple):
    """One video by one recipe; the original has ratio 1 and no PSNR."""

    clips_per_second: float
    size_ratio: float
    psnr: float
    seconds_to_convert: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", type=Path, help="videos (default: synthetic ones, similar to Kinetics)")
    parser.add_argument("--recipes", nargs="+", metavar="NAME", help="only recipes whose names contain one of these")
    parser.add_argument("--clips", type=positive, default=30, help="clips read from each file")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write a row for each file and recipe")


def run(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    if args.csv:
        check_replaces_text(args.csv, "choose another one with --csv")
    recipes = {
        name: recipe for name, recipe in variants().items() if not args.recipes or any(n in name for n in args.recipes)
    }
    if not recipes:
        raise ValueError(f"no recipe is called like {' or '.join(args.recipes)}; there are {', '.join(variants())}")
    check_videos(args.files)
    rows: dict[str, list[Measured]] = {name: [] for name in ["original", *recipes]}
    with tempfile.TemporaryDirectory() as folder:
        files = args.files or make_kinetics_like_clips(Path(folder))
        with terminal_bar(len(files), "converting", "file", leave=False) as bar:
            for file in counted(files, bar):
                for name, measured in measure_file(file, recipes, Path(folder), args.clips).items():
                    rows[name].append(measured)
    _print_table(rows)
    if args.csv:
        lines = ["file,recipe,clips_per_second,size_ratio,psnr,seconds_to_convert"]
        lines += [
            ",".join([file.name, name, *(f"{value:.6g}" for value in measured)])
            for name, column in rows.items()
            for file, measured in zip(files, column, strict=True)
        ]
        args.csv.parent.mkdir(parents=True, exist_ok=True)
        args.csv.write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure_file(file: Path, recipes: dict[str, Recipe], folder: Path, num_clips: int) -> dict[str, Measured]:
    """Converts a video by each recipe into `folder`, and reads the same clips from each in turns."""
    paths, seconds = {"original": str(file)}, {"original": 0.0}
    for number, (name, recipe) in enumerate(recipes.items()):
        paths[name] = str(folder / f"{number}.mp4")
        start = time.process_time()
        convert(Job(str(file), paths[name]), recipe, ffmpeg=None)
        seconds[name] = time.process_time() - start
    times = _time_clips(paths, num_clips)
    size = file.stat().st_size
    return {
        name: Measured(
            1 / statistics.median(times[name]),
            Path(path).stat().st_size / size,
            math.nan if name == "original" else psnr(str(file), path, recipes[name]),
            seconds[name],
        )
        for name, path in paths.items()
    }


def _time_clips(paths: dict[str, str], num_clips: int) -> dict[str, list[float]]:
    """CPU seconds for each of `num_clips` clips, 8 frames 8 apart to [3, 8, 224, 224], by name."""
    view = EvalView(EvalViewSettings())
    rng = np.random.default_rng(0)
    indexes, times = {}, {name: [] for name in paths}
    for path in paths.values():
        with VideoReader(path) as video:
            indexes[path] = video.index
    last = min(len(index.frame_packets) for index in indexes.values()) - 1
    for _ in range(num_clips):
        start = int(rng.integers(max(1, last - 56 + 1)))
        indices = [min(start + 8 * i, last) for i in range(8)]
        for name, path in paths.items():
            before = time.process_time()
            with VideoReader(path, index=indexes[path]) as video:
                view(video.get_frames(indices))
            times[name].append(time.process_time() - before)
    return times


def psnr(original: str, converted: str, recipe: Recipe) -> float:
    """PSNR of the luma over all frames, in dB; `converted` is the `original` by `recipe`."""
    container, stream = open_container(converted)
    with container:
        frames = (frame for _, frame in scaled_frames(read_source(original, recipe)))
        pairs = zip(frames, container.decode(stream), strict=False)
        errors = [np.square(_luma(frame) - _luma(other)).mean() for frame, other in pairs]
    return 10 * math.log10(255**2 / max(float(np.mean(errors)), 1e-9))


def _luma(frame) -> np.ndarray:
    """The Y plane, float32 [H, W]."""
    plane = frame.planes[0]
    padded = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return padded[:, : plane.width].astype(np.float32)


def _print_table(rows: dict[str, list[Measured]]) -> None:
    first = max(map(len, rows))
    original = rows["original"]
    print("".ljust(first), " clips/s    times     size     PSNR  seconds to convert")
    for name, column in rows.items():
        speeds = [row.clips_per_second for row in column]
        cells = [
            statistics.geometric_mean(speeds),
            statistics.geometric_mean(a / b.clips_per_second for a, b in zip(speeds, original, strict=True)),
            statistics.geometric_mean(row.size_ratio for row in column),
            statistics.fmean(row.psnr for row in column),
        ]
        seconds = statistics.fmean(row.seconds_to_convert for row in column)
        print(name.ljust(first), *(f"{cell:8.2f}" for cell in cells), f"{seconds:19.2f}")
