"""How many clips per second one core reads from video files, beside the readers that others use.

Every reader does the whole job of a training sample, from closed file to cropped clip; resizing and cropping is the
same code for all. Readers take turns, clip by clip and with the same frames, so that a change in the machine's speed
meets all of them alike.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch

from datasets.video.reader import VideoReader
from datasets.video.transforms import EvalView, EvalViewSettings

HELP = """Clips per second and core: our video reader beside decord, OpenCV and torchcodec, where these are installed.

A clip is read from scratch: open the file, take frames from a random place on, resize the short side, crop the
centre -> uint8 [3, T, size, size]. "Per core" is by processor time over all threads; the median over clips is shown.

  ours           our reader on a file that it has never seen: it reads all packets first, to index them
  ours, indexed  the same with the file's index kept from an earlier visit
  OpenCV         as the GloRe authors use it: a seek (CAP_PROP_POS_FRAMES) before each frame that is not the next one
  OpenCV, grab   one seek to the first frame, grab() up to the last one, retrieve() of those that are wanted
  torchcodec     its exact seek mode; and its approximate one, which trusts the header
"""

Read = Callable[[str, list[int]], torch.Tensor]  # path, frame numbers -> uint8 [T, H, W, 3], RGB


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", type=Path, help="videos; if none are given, some are made, like Kinetics'")
    parser.add_argument("--frames", type=int, default=8, help="frames of a clip")
    parser.add_argument("--interval", type=int, default=8, help="steps from one frame of a clip to the next")
    parser.add_argument("--size", type=int, default=224, help="side of the cropped square in pixels")
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each reader and file")
    parser.add_argument("--threads", type=int, default=1, help="decoding threads of each reader")


def run(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    view = EvalView(EvalViewSettings(short_side=round(args.size * 256 / 224), crop=args.size))
    with tempfile.TemporaryDirectory() as folder:
        readers, missing = find_readers(args.threads, encode_clip(Path(folder, "sample.mp4"), num_frames=2))
        files = args.files or make_kinetics_like_clips(Path(folder))
        speeds = {}  # file -> reader -> clips per second
        for file in files:
            print(f"reading {file.name} ...", flush=True)
            speeds[file.name] = measure_file(str(file), readers, view, args.frames, args.interval, args.seconds)
    print_table(speeds, list(readers))
    for name, reason in missing.items():
        print(f"{name}: not installed ({reason})")


# Readers ----------------------------------------------------------------------------------------------------------


def find_readers(num_threads: int, sample: Path) -> tuple[dict[str, Read], dict[str, str]]:
    """The readers that can really read the sample, by name; and of the others the reason why they cannot."""
    readers, missing = {}, {}
    for name, (make, *options) in READERS.items():
        try:
            read = make(num_threads, *options)
            read(str(sample), [0])
            readers[name] = read
        except Exception as error:  # each library raises its own; torchcodec may fail as late as when it opens a file
            missing[name] = str(error).strip().split("\n")[0] or type(error).__name__
    return readers, missing


def make_ours(num_threads: int, keep_index: bool) -> Read:
    indexes = {}

    def read(path, indices):
        with VideoReader(path, index=indexes.get(path), num_threads=num_threads) as video:
            if keep_index:
                indexes[path] = video.index
            return video.get_frames(indices)

    return read


def make_decord(num_threads: int) -> Read:
    import decord

    def read(path, indices):
        video = decord.VideoReader(path, decord.cpu(0), num_threads=num_threads)
        return torch.from_numpy(video.get_batch(indices).asnumpy())

    return read


def make_opencv(num_threads: int, seek_often: bool) -> Read:
    import cv2

    cv2.setNumThreads(num_threads)

    def read(path, indices):
        capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, num_threads])
        frames, next_index = [], 0
        for index in indices:
            if index < next_index or (index > next_index and (seek_often or not frames)):
                capture.set(cv2.CAP_PROP_POS_FRAMES, index)
            else:
                for _ in range(index - next_index):
                    capture.grab()
            decoded, frame = capture.read()
            if not decoded:
                raise RuntimeError(f"OpenCV cannot read frame {index} of {path}")
            frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
            next_index = index + 1
        capture.release()
        return torch.from_numpy(np.stack(frames))

    return read


def make_torchcodec(num_threads: int, seek_mode: str) -> Read:
    from torchcodec.decoders import VideoDecoder

    def read(path, indices):
        video = VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=num_threads, seek_mode=seek_mode)
        return video.get_frames_at(indices).data

    return read


READERS = {
    "ours": (make_ours, False),
    "ours, indexed": (make_ours, True),
    "decord": (make_decord,),
    "OpenCV": (make_opencv, True),
    "OpenCV, grab": (make_opencv, False),
    "torchcodec": (make_torchcodec, "exact"),
    "torchcodec, approx.": (make_torchcodec, "approximate"),
}

# Measuring --------------------------------------------------------------------------------------------------------


def measure_file(path: str, readers: dict[str, Read], view, num_frames: int, interval: int, seconds: float) -> dict:
    """Clips per second of processor time, by reader; NaN for one that fails on this file."""
    with VideoReader(path) as video:
        last_frame = video.num_frames - 1
    num_starts = max(0, last_frame - (num_frames - 1) * interval) + 1
    rng = np.random.default_rng(0)
    times = {name: [] for name in readers}
    end = time.monotonic() + seconds * len(readers)
    while times and (time.monotonic() < end or not all(times.values())):
        start = int(rng.integers(num_starts))
        indices = [min(start + i * interval, last_frame) for i in range(num_frames)]  # a short video repeats its last
        for name in list(times):
            before = time.process_time()
            try:
                view(readers[name](path, indices))
            except Exception:  # each library raises its own
                del times[name]
            else:
                times[name].append(time.process_time() - before)
    return {name: 1 / statistics.median(times[name]) if name in times else math.nan for name in readers}


def print_table(speeds: dict[str, dict[str, float]], names: list[str]) -> None:
    """Clips per second, a row for each file; then how many times as fast ours is, in the geometric mean over files."""
    first = max(map(len, [*speeds, *names]))

    def print_row(title, cells):
        columns = [cell.rjust(max(len(name), 6)) for cell, name in zip(cells, names, strict=True)]
        print(title.ljust(first), *columns, sep="  ")

    print()
    print_row("clips/s per core", names)
    for file, row in speeds.items():
        print_row(file, ["fails" if math.isnan(row[name]) else f"{row[name]:.1f}" for name in names])
    print()
    print_row("times as fast as", names)
    for ours in names[:2]:
        ratios = [[row[ours] / row[name] for row in speeds.values() if not math.isnan(row[name])] for name in names]
        print_row(ours, [f"{statistics.geometric_mean(ratio):.2f}" if ratio else "-" for ratio in ratios])


# Videos -----------------------------------------------------------------------------------------------------------


def make_kinetics_like_clips(folder: Path) -> list[Path]:
    """Ten seconds of 340 x 256 in the encodings that copies of Kinetics are kept in."""
    return [
        encode_clip(folder / "h264_gop250.mp4", num_frames=250, fps=25),
        encode_clip(folder / "h264_gop250_30fps.mp4", num_frames=300, fps=30, seed=1),
        encode_clip(folder / "h264_gop32.mp4", num_frames=300, fps=30, gop=32, seed=2),
        encode_clip(folder / "mpeg4_gop12.avi", num_frames=250, fps=25, gop=12, codec="mpeg4"),
    ]


def encode_clip(
    path: Path, *, num_frames: int, fps: int = 25, gop: int = 250, codec: str = "libx264", seed: int = 0
) -> Path:
    """A textured background that pans, a brighter square that crosses it, and the noise of a camera."""
    rng = np.random.default_rng(seed)
    height, width = 256, 340
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 48, 64)).astype(np.float32))
    canvas = torch.nn.functional.interpolate(coarse, size=(480, 640), mode="bicubic")[0]
    canvas = canvas.clamp(0, 255).permute(1, 2, 0).numpy()  # [480, 640, 3]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.gop_size = gop
        stream.codec_context.bit_rate = 600_000
        for t in range(num_frames):
            left, top = round(140 + 130 * math.sin(t / 40)), round(100 + 90 * math.cos(t / 55))
            picture = canvas[top : top + height, left : left + width] + rng.normal(0, 4, (height, width, 1))
            x = 3 * t % (width - 60)
            picture[100:160, x : x + 60] += 60
            frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
