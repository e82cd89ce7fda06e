"""How many clips per second one core reads from video files: our reader and other libraries.

Every reader does the whole job of a sample, from a closed file to cropped clips. Readers take turns, sample by sample
and with the same frames, so that changes in the machine's speed affect all of them alike.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import av
import numpy as np
import torch

from datasets.video.reader import VideoReader
from datasets.video.resize import resize_fast
from datasets.video.sampling import EvenSampling
from datasets.video.transforms import EvalViewSettings, even_views
from tools.common.arguments import positive, positive_number

HELP = """Clips per second and core: our video reader beside decord, OpenCV and torchcodec, where these are installed.

A sample is read from scratch: open the file, read frames from a random start, resize the short side, crop the center
-> uint8 [3, T, size, size]; or ten such clips, evenly spaced over the video. "Per core" divides by CPU time summed over
threads; the table shows the median over samples.

  ours           our reader on a file that it has never seen: it first reads all packets, to index them
  ours, indexed  the same, with the file's index kept from an earlier read
  ours, RGB      the same with whole frames in RGB, resized like those of the other readers
  OpenCV         as the GloRe authors use it: a seek (CAP_PROP_POS_FRAMES) before each frame that is not the next one
  OpenCV, grab   one seek to the first frame, grab() up to the last one, retrieve() of the frames needed
  torchcodec     its exact seek mode; and its approximate one, which trusts the header
  torchcodec, GPU  its exact mode on the video unit of a GPU, whose own time is not counted

Ours crops and scales while it converts to RGB; the others return whole frames, which torch's fast 8-bit resizing then
scales. Each is asked once for all frames of a sample, in order and without repeats.
"""

Read = Callable[[str, list[list[int]], EvalViewSettings], list[torch.Tensor]]
"""path, frame numbers of each clip, view -> uint8 [3, T, S, S] each"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", type=Path, help="videos (default: synthetic ones, similar to Kinetics)")
    parser.add_argument(
        "--clips", type=positive, nargs="+", default=[1, 10], help="clips of a sample; a table for each number"
    )
    parser.add_argument("--frames", type=positive, default=8, help="frames of a clip")
    parser.add_argument(
        "--interval",
        type=positive,
        default=8,
        help="distance between consecutive frames of a clip, in frames of the video",
    )
    parser.add_argument("--size", type=positive, default=224, help="side of the cropped square in pixels")
    parser.add_argument("--seconds", type=positive_number, default=2.0, help="time for each reader and file")
    parser.add_argument("--threads", type=positive, default=1, help="decoding threads of each reader")


def run(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    av.logging.set_level(av.logging.FATAL)
    view = EvalViewSettings(short_side=round(args.size * 256 / 224), crop=args.size)
    check_videos(args.files)
    with tempfile.TemporaryDirectory() as folder:
        readers, missing = find_readers(args.threads, encode_clip(Path(folder, "sample.mp4"), num_frames=2))
        files = args.files or make_kinetics_like_clips(Path(folder))
        for num_clips in args.clips:
            speeds = {}  # file -> reader -> clips per second
            for file in files:
                print(f"reading {file.name} ...", flush=True)
                sampling = EvenSampling(args.frames, args.interval, num_clips, short="repeat_last")
                speeds[file.name] = measure_file(str(file), readers, view, sampling, args.seconds)
            print_table(speeds, list(readers), num_clips)
    for name, reason in missing.items():
        print(f"{name}: cannot be used here ({reason})")


def check_videos(files: Iterable[Path]) -> None:
    """Raises VideoError for the first file that cannot be opened, before the others are measured."""
    for file in files:
        with VideoReader(str(file)):
            pass


# Readers ----------------------------------------------------------------------------------------------------------


def find_readers(num_threads: int, sample: Path) -> tuple[dict[str, Read], dict[str, str]]:
    """The readers that can read the sample, by name; and why the others cannot."""
    readers, missing = {}, {}
    for name, (make, *options) in READERS.items():
        try:
            read = make(num_threads, *options)
            read(str(sample), [[0]], EvalViewSettings(short_side=32, crop=32))
            readers[name] = read
        except Exception as error:  # each library raises its own errors; torchcodec may fail only when it opens a file
            missing[name] = str(error).strip().split("\n")[0] or type(error).__name__
    return readers, missing


def make_ours(num_threads: int, keep_index: bool, as_rgb: bool = False) -> Read:
    indexes = {}

    def read(path, clips, settings):
        with VideoReader(path, index=indexes.get(path), num_threads=num_threads) as video:
            if keep_index:
                indexes[path] = video.index
            if as_rgb:
                return centers(video.get_frames, clips, settings)
            (view,) = even_views(video.height, video.width, settings)
            return video.get_clips([(indices, view) for indices in clips])

    return read


def make_decord(num_threads: int) -> Read:
    import decord

    decord.logging.set_level(decord.logging.FATAL)

    def read(path, clips, settings):
        video = decord.VideoReader(path, decord.cpu(0), num_threads=num_threads)
        return centers(lambda indices: torch.from_numpy(video.get_batch(indices).asnumpy()), clips, settings)

    return read


def make_opencv(num_threads: int, seek_often: bool) -> Read:
    import cv2

    cv2.setNumThreads(num_threads)

    def read_frames(capture, path, indices) -> torch.Tensor:
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
        return torch.from_numpy(np.stack(frames))

    def read(path, clips, settings):
        capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, num_threads])
        views = centers(lambda indices: read_frames(capture, path, indices), clips, settings)
        capture.release()
        return views

    return read


def make_torchcodec(num_threads: int, seek_mode: str, device: str = "cpu") -> Read:
    from torchcodec.decoders import VideoDecoder

    def read(path, clips, settings):
        options = {"num_ffmpeg_threads": num_threads, "seek_mode": seek_mode, "device": device}
        video = VideoDecoder(path, dimension_order="NHWC", **options)
        views = centers(lambda indices: video.get_frames_at(indices).data, clips, settings)
        return [view.cpu() for view in views]

    return read


def centers(
    get_frames: Callable[[list[int]], torch.Tensor], clips: list[list[int]], settings: EvalViewSettings
) -> list[torch.Tensor]:
    """The view of each clip. `get_frames` returns the frames at some indices, uint8 [T, H, W, 3]."""
    wanted = sorted(set().union(*clips))
    frames = get_frames(wanted)
    (view,) = even_views(*frames.shape[1:3], settings)
    views = resize_fast(frames, view)
    where = {index: place for place, index in enumerate(wanted)}
    return [views[:, [where[index] for index in clip]] for clip in clips]


READERS = {
    "ours": (make_ours, False),
    "ours, indexed": (make_ours, True),
    "ours, RGB": (make_ours, True, True),
    "decord": (make_decord,),
    "OpenCV": (make_opencv, True),
    "OpenCV, grab": (make_opencv, False),
    "torchcodec": (make_torchcodec, "exact"),
    "torchcodec, approx.": (make_torchcodec, "approximate"),
    "torchcodec, GPU": (make_torchcodec, "exact", "cuda"),
}

# Measuring --------------------------------------------------------------------------------------------------------


def measure_file(
    path: str, readers: dict[str, Read], view: EvalViewSettings, sampling: EvenSampling, seconds: float
) -> dict[str, float]:
    """Clips per second of CPU time, by reader; NaN for one that fails on this file.

    A single clip starts at a random frame; several start where `sampling` puts them.
    """
    with VideoReader(path) as video:
        num_frames = video.num_frames
    rng = np.random.default_rng(0)
    times = {name: [] for name in readers}
    end = time.monotonic() + seconds * len(readers)
    while times and (time.monotonic() < end or not all(times.values())):
        clips = [sampling(num_frames, clip) for clip in range(sampling.num_clips)]
        if sampling.num_clips == 1:
            shift = int(rng.integers(num_frames - max(clips[0]))) - clips[0][0]
            clips = [[max(0, index + shift) for index in clips[0]]]
        for name in list(times):
            before = time.process_time()
            try:
                readers[name](path, clips, view)
            except Exception:  # each library raises its own errors
                del times[name]
            else:
                times[name].append(time.process_time() - before)
    speed = {name: sampling.num_clips / statistics.median(taken) for name, taken in times.items()}
    return {name: speed.get(name, math.nan) for name in readers}


def print_table(speeds: dict[str, dict[str, float]], names: list[str], num_clips: int) -> None:
    """Clips per second, a row for each file; then how many times faster ours is, as a geometric mean over files."""
    title = "clips/s per core" if num_clips == 1 else f"clips/s per core, {num_clips} of a video"
    first = max(map(len, [*speeds, *names, title]))

    def print_row(title, cells):
        columns = [cell.rjust(max(len(name), 6)) for cell, name in zip(cells, names, strict=True)]
        print(title.ljust(first), *columns, sep="  ")

    print()
    print_row(title, names)
    for file, row in speeds.items():
        print_row(file, ["fails" if math.isnan(row[name]) else f"{row[name]:.1f}" for name in names])
    print()
    print_row("times as fast as", names)
    for ours in names[:3]:
        ratios = [[row[ours] / row[name] for row in speeds.values() if not math.isnan(row[name])] for name in names]
        print_row(ours, [f"{statistics.geometric_mean(ratio):.2f}" if ratio else "-" for ratio in ratios])


# Videos -----------------------------------------------------------------------------------------------------------


def make_kinetics_like_clips(folder: Path) -> list[Path]:
    """Ten seconds of 340 x 256 in the encodings of common copies of Kinetics."""
    return [
        encode_clip(folder / "h264_gop250.mp4", num_frames=250, fps=25),
        encode_clip(folder / "h264_gop250_30fps.mp4", num_frames=300, fps=30, seed=1),
        encode_clip(folder / "h264_gop32.mp4", num_frames=300, fps=30, gop=32, seed=2),
        encode_clip(folder / "mpeg4_gop12.avi", num_frames=250, fps=25, gop=12, codec="mpeg4"),
    ]


def encode_clip(
    path: Path, *, num_frames: int, fps: int = 25, gop: int = 250, codec: str = "libx264", seed: int = 0
) -> Path:
    """A textured background that pans, a brighter square that crosses it, and camera noise."""
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
