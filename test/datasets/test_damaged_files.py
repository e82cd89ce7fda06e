"""Damages videos and images at random: nothing but the file's own error comes out of readers, and nothing hangs.

./run_tests.sh -m weekly test/datasets/test_damaged_files.py
"""

import csv
import io
import random
import time
from collections import Counter
from pathlib import Path

import av
import pytest
import torch
from conftest import write_recipe
from encode import encode_video, number_frames
from PIL import Image

from datasets.image_file import ImageError, read_image
from datasets.synthetic.image_shapes import make_image_shapes
from datasets.video import VideoError, VideoReader
from datasets.video.check import check_video
from datasets.video.convert import Job, convert
from datasets.video.recipes import RECIPES
from datasets.video.resize import View
from datasets.worker_pool import Lost, run_each
from models import create_model

NUM_FILES = 3000
SECONDS_PER_FILE = 20
VIDEOS = {
    "h264.mp4": {"gop": 6},
    "h264.mkv": {"gop": 6},
    "h264.ts": {"gop": 6},
    "h264.avi": {"gop": 6},
    "h264.flv": {"gop": 6},
    "h264.asf": {"gop": 6},
    "hevc.mp4": {"codec": "libx265", "gop": 6},
    "mpeg4.avi": {"codec": "mpeg4", "gop": 6, "b_frames": 2},
    "mpeg4.mp4": {"codec": "mpeg4", "gop": 6, "rotation": 90, "audio": True},
    "mpeg2.mpg": {"codec": "mpeg2video", "gop": 6},
    "vp8.webm": {"codec": "libvpx", "gop": 6},
    "vp9.webm": {"codec": "libvpx-vp9", "gop": 6},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "qtrle.mov": {"codec": "qtrle", "pix_fmt": "rgb24"},
    "svq1.mov": {"codec": "svq1", "pix_fmt": "yuv410p"},
    "msvideo1.avi": {"codec": "msvideo1", "pix_fmt": "rgb555le"},
    "prores.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "ffv1.mkv": {"codec": "ffv1"},
    "png.mov": {"codec": "png", "pix_fmt": "rgb24"},
    "wmv2.asf": {"codec": "wmv2", "gop": 6},
    "flv1.flv": {"codec": "flv", "gop": 6},
    "gif.gif": {"codec": "gif", "pix_fmt": "rgb8"},
}
IMAGES = ("jpeg", "png", "gif", "bmp", "webp", "tiff", "ppm", "tga", "jp2", "pcx", "dds")


@pytest.fixture(scope="module")
def intact(tmp_path_factory) -> list[tuple[str, bytes]]:
    """Names and contents of the files to damage."""
    folder = tmp_path_factory.mktemp("intact")
    frames = number_frames(14, 48, 64)
    files = [(name, encode_video(folder / name, frames, **options).read_bytes()) for name, options in VIDEOS.items()]
    for kind in IMAGES:
        buffer = io.BytesIO()
        Image.fromarray(frames[5]).save(buffer, {"jp2": "jpeg2000"}.get(kind, kind))
        files.append((f"image.{kind}", buffer.getvalue()))
    return files


def damage(content: bytes, rng: random.Random) -> bytes:
    """Flips, cuts, swaps, repeats or zeroes some bytes, at one to eight places."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8])):
        size, kind = len(data), rng.choice(["flip", "flip", "cut", "swap", "remove", "repeat", "zero", "number"])
        at, length = rng.randrange(size), rng.choice([1, 4, 16, 200])
        if rng.random() < 0.3:
            at = rng.randrange(min(size, 600))  # headers
        if kind == "flip":
            data[at] ^= 1 << rng.randrange(8)
        elif kind == "cut":
            del data[max(at, 1) :]
        elif kind == "swap":
            other = rng.randrange(size)
            data[at : at + length], data[other : other + length] = data[other : other + length], data[at : at + length]
        elif kind == "remove":
            del data[at : at + min(length, size - 1)]
        elif kind == "repeat":
            data[at:at] = data[at : at + length]
        elif kind == "zero":
            data[at : at + length] = bytes(len(data[at : at + length]))
        else:
            data[at : at + 4] = rng.choice([b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0", rng.randbytes(4)])
    return bytes(data)


def read_video(path: Path, seed: int) -> str:
    """Reads, checks and, of some, converts a video -> what came of it."""
    rng = random.Random(seed)
    check_video(str(path), full=True)
    outcome = "read"
    try:
        with VideoReader(path) as video:
            numbers = [rng.randrange(video.num_frames) for _ in range(4)]
            view = View(40, 50, 2, 3, 32, 32)
            for read in (lambda: video.get_frames(numbers), lambda: video.get_clips([(numbers, view)])):
                try:
                    read()
                except VideoError:
                    outcome = "some frames refused"
    except VideoError:
        outcome = "refused"
    if seed % 4 == 0:
        try:
            convert(Job(str(path), str(path.with_suffix(".converted.mp4"))), RECIPES["short160"], None)
        except VideoError:
            outcome += ", not converted"
    return outcome


def read_picture(path: Path) -> str:
    try:
        image = read_image(str(path))
    except ImageError:
        return "refused"
    assert image.mode == "RGB"
    return "read"


def read_damaged(entry: tuple[int, str, bytes, Path]) -> tuple[str, float]:
    """-> (what came of it, seconds)"""
    seed, name, content, folder = entry
    av.logging.set_level(av.logging.PANIC)
    path = folder / f"{seed}.{name}"
    path.write_bytes(damage(content, random.Random(seed)))
    start = time.monotonic()
    outcome = read_picture(path) if name.startswith("image.") else read_video(path, seed)
    for file in folder.glob(f"{seed}.*"):
        file.unlink()
    return outcome, time.monotonic() - start


@pytest.mark.weekly
@pytest.mark.filterwarnings("ignore")
def test_damaged_files(intact, tmp_path):
    entries = [(seed, *intact[seed % len(intact)], tmp_path) for seed in range(NUM_FILES)]
    outcomes, wrong, slowest = Counter(), [], 0.0
    for (seed, name, *_), result in run_each(caught, entries, 2, SECONDS_PER_FILE):
        if isinstance(result, Lost):
            wrong.append(f"seed {seed}, {name}: {result.reason}")
        else:
            outcome, seconds = result
            outcomes[outcome] += 1
            slowest = max(slowest, seconds)
            if outcome.startswith("wrong"):
                wrong.append(f"seed {seed}, {name}: {outcome}")
    assert not wrong, f"{len(wrong)} of {NUM_FILES}:\n" + "\n".join(wrong[:20])
    assert outcomes["read"] > NUM_FILES / 10 and outcomes["refused"] > NUM_FILES / 20


@pytest.mark.weekly
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["clip", "image"])
def test_prediction_of_a_damaged_folder(kind, intact, tmp_path, start, request):
    """Each file of a folder gets a guess or a reason, from the command as a person starts it."""
    files = [(name, content) for name, content in intact if name.startswith("image.") == (kind == "image")]
    for seed in range(300):
        name, content = files[seed % len(files)]
        path = tmp_path / "files" / f"{seed:03d}.{name}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(damage(content, random.Random(seed)))
    recipe = tmp_path / "recipe.yaml"
    if kind == "clip":
        videos, model = request.getfixturevalue("motion_videos"), "glore_resnet_debug_3d"
        num_classes = len((videos / "mapping_table.txt").read_text().splitlines())
        write_recipe(recipe, videos)
    else:
        pictures, model = make_image_shapes(tmp_path / "shapes", 20, 10), "hornet_debug_7x7"
        num_classes = len(list((pictures / "train").iterdir()))
        recipe.write_text(
            f"task: image_classification\nmodel: {{name: {model}}}\noptimizer: {{name: adamw, lr: 0.001}}\n"
            f"data: {{train: {pictures}/train, val: {pictures}/val, val_view: {{size: 64}}, num_workers: 2}}\n"
            "schedule: {name: constant}\ntrain: {num_epochs: 1, batch_size: 4}\nrun: {device: cpu}\n"
        )
    torch.manual_seed(0)
    torch.save(create_model(model, num_classes=num_classes).state_dict(), tmp_path / "weights.pth")
    arguments = ("-c", recipe, "--checkpoint", tmp_path / "weights.pth", "--top", "1")
    command = (*arguments, "--csv", tmp_path / "guesses.csv", tmp_path / "files")
    assert start("tools/predict.py", *command, check=False).returncode == 1
    with open(tmp_path / "guesses.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(list((tmp_path / "files").iterdir()))
    assert all(bool(row["guess1"]) != bool(row["failure"]) for row in rows)
    assert sum(bool(row["guess1"]) for row in rows) > 50


def caught(entry) -> tuple[str, float]:
    try:
        return read_damaged(entry)
    except Exception as error:
        return f"wrong: {type(error).__name__}: {str(error)[:200]}", 0.0
