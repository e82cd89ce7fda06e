"""Re-encodes videos so that training reads them quickly.

The recipes `short288`, `short256` and `short160` are those of https://github.com/facebookresearch/GloRe (README):
MPEG-4, with the shorter side at most that many pixels. `training` is ours: a keyframe every 4 frames and no B-frames,
so that frames far apart take little decoding; docs/preparing_videos.md has the measurement behind it.

Targets are .mp4 files, which store a time with each frame. The ffmpeg program does the work; where there is none, PyAV
does, which brings FFmpeg along.
"""

import errno
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import av

from datasets.file_list import existing_path, find_files
from datasets.video.container import TIMED_CONTAINERS, VideoError, open_container, read_packets
from datasets.video.lists import VIDEOS

SUFFIX = ".mp4"
UPRIGHT = {90: ["transpose=cclock"], 180: ["hflip", "vflip"], 270: ["transpose=clock"]}  # degrees counter-clockwise
FFMPEG_DEFAULTS = {"bt": "4M", "g": "12"}  # the encoders' own; PyAV changes them
DISK_FULL = "No space left on device"


class Recipe(NamedTuple):
    """How videos are re-encoded."""

    short_side: int  # at most, in pixels; smaller videos keep their size
    codec: str
    options: dict[str, str]  # of the encoder, by ffmpeg's names
    muxer: dict[str, str]  # options of the container
    even: bool = False  # even width and height, as subsampled colors need; H.264 insists on it

    @property
    def size(self) -> tuple[str, str]:
        """Width and height as formulas for ffmpeg's scale filter."""
        width = f"min(iw,({self.short_side}*iw)/min(iw,ih))"
        return (f"trunc({width}/2)*2", "-2") if self.even else (width, "-1")

    @property
    def filter(self) -> str:
        width, height = self.size
        return f"scale={width}:{height}".replace(",", r"\,")

    @property
    def comment(self) -> str:
        """The comment written into each target: it tells later by which recipe the file was made."""
        options = " ".join(f"{name}={value}" for name, value in self.options.items())
        return f"short side {self.short_side}, {self.codec} {options}"


RECIPES = {
    "short288": Recipe(288, "mpeg4", {"b": "640k"}, {}),
    "short256": Recipe(256, "mpeg4", {"b": "512k"}, {}),
    "short160": Recipe(160, "mpeg4", {"b": "240k"}, {}),
    "training": Recipe(
        256,
        "mpeg4",
        {"b": "512k", "g": "4", "bf": "0", "mbd": "rd", "trellis": "1", "cmp": "satd", "subcmp": "satd"},
        {"movflags": "+faststart"},
        even=True,
    ),
}


# What to convert ---------------------------------------------------------------------------------------------------


class Job(NamedTuple):
    """A file to convert, and where to write the result."""

    source: str
    target: str


def find_jobs(source: Path, destination: Path) -> list[Job]:
    """A job for each video below `source`; `destination` gets the same folders and names, with suffix .mp4.

    Raises FileNotFoundError if there is no `source`, and ValueError if there is nothing to convert, if one folder is
    inside the other, or if two videos would get the same target.
    """
    existing_path(source, "folder of videos")
    inner, outer = sorted((source.resolve(), destination.resolve()), key=lambda path: len(path.parts), reverse=True)
    if inner.is_relative_to(outer):
        raise ValueError(f"{source} and {destination}: one is inside the other; choose a destination elsewhere")
    jobs: dict[str, Job] = {}
    for path in find_files(source, VIDEOS):
        job = Job(str(source / path), str((destination / path).with_suffix(SUFFIX)))
        if other := jobs.get(job.target):
            raise ValueError(f"{other.source} and {job.source} would both become {job.target}; rename one of them")
        jobs[job.target] = job
    if not jobs:
        raise ValueError(f"{source}: no videos in it; expected files that end in {' '.join(VIDEOS.suffixes)}")
    return list(jobs.values())


def is_done(job: Job, recipe: Recipe) -> bool:
    """Whether the job's target is complete, made by this recipe, and not older than its source."""
    try:
        target = os.stat(job.target)
        if target.st_mtime < os.stat(job.source).st_mtime or not _is_complete(job.target, target.st_size):
            return False
        container, _ = open_container(job.target)
    except (OSError, VideoError):
        return False
    with container:
        return container.metadata.get("comment") == recipe.comment


def _is_complete(path: str, num_bytes: int) -> bool:
    """Whether the boxes of an MP4 file end exactly where the file does, and are not empty."""
    position, sizes = 0, {}
    with open(path, "rb") as file:
        while position < num_bytes:
            file.seek(position)
            header = file.read(16)
            size = int.from_bytes(header[:4])
            if size == 1:  # a large box: its size follows in eight bytes
                size = int.from_bytes(header[8:16])
            if size < 8:
                return False
            sizes[header[4:8]] = size
            position += size
    return position == num_bytes and b"moov" in sizes and sizes.get(b"mdat", 0) > 16


# Converting --------------------------------------------------------------------------------------------------------


def find_ffmpeg(recipe: Recipe) -> str | None:
    """The ffmpeg program: the system's, else that of the package imageio-ffmpeg; None if neither has the codec."""
    candidates = [shutil.which("ffmpeg")]
    if importlib.util.find_spec("imageio_ffmpeg"):
        import imageio_ffmpeg

        candidates.append(imageio_ffmpeg.get_ffmpeg_exe())
    return next((program for program in candidates if program and _can_encode(program, recipe.codec)), None)


def _can_encode(program: str, codec: str) -> bool:
    help_text = subprocess.run(
        [program, "-hide_banner", "-h", f"encoder={codec}"], stdin=subprocess.DEVNULL, capture_output=True
    ).stdout
    return f"Encoder {codec}".encode() in help_text


def convert(job: Job, recipe: Recipe, ffmpeg: str | None) -> str:
    """Converts one file with the program `ffmpeg` (None: with PyAV) -> the decoder's first complaint, or "".

    The target appears only when it is complete: it is written under another name, then renamed.

    Raises VideoError if the file cannot be converted, and OSError if the disk is full.
    """
    os.makedirs(os.path.dirname(job.target), exist_ok=True)
    partial = partial_path(job.target)
    try:
        if ffmpeg:
            complaint = convert_by_program(job.source, partial, recipe, ffmpeg)
        else:
            complaint = convert_by_pyav(job.source, partial, recipe)
        if not _is_complete(partial, os.stat(partial).st_size):
            raise VideoError(job.source, complaint or "no frame can be decoded")
        os.replace(partial, job.target)
    except av.FFmpegError as error:
        if error.errno == errno.ENOSPC:
            raise _disk_full(job.target) from error
        raise VideoError(job.source, f"cannot be converted: {error.strerror}") from error
    finally:
        if os.path.exists(partial):
            os.remove(partial)
    return complaint


def partial_path(target: str) -> str:
    """The name of a target while it is being written."""
    folder, name = os.path.split(target)
    return os.path.join(folder, f".{name}.partial")


def _disk_full(target: str) -> OSError:
    return OSError(f"{target}: {DISK_FULL}; free some, and the same command continues")


def command(ffmpeg: str, source: str, target: str, recipe: Recipe) -> list[str]:
    """The ffmpeg command that converts a file. "file:" lets names contain colons and start with dashes."""
    encoder = [argument for name, value in recipe.options.items() for argument in (f"-{name}:v", value)]
    muxer = [argument for name, value in recipe.muxer.items() for argument in (f"-{name}", value)]
    return [
        *(ffmpeg, "-nostdin", "-y", "-v", "error", "-threads", "1", "-protocol_whitelist", "file"),
        *("-i", f"file:{source}", "-map", "0:v:0", "-an", "-c:v", recipe.codec, "-filter:v", recipe.filter),
        *("-pix_fmt", "yuv420p", *encoder, "-threads", "1", *muxer),
        *("-map_metadata", "-1", "-metadata", f"comment={recipe.comment}", "-f", "mp4", f"file:{target}"),
    ]


def convert_by_program(source: str, target: str, recipe: Recipe, ffmpeg: str) -> str:
    """Converts with the ffmpeg program -> its first complaint, or ""."""
    open_container(source)[0].close()  # raises our own error if this is not a video at all
    line = command(ffmpeg, source, target, recipe)
    done = subprocess.run(line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    complaints = done.stderr.decode(errors="replace")
    if DISK_FULL in complaints:
        raise _disk_full(target)
    lines = [line.split("] ", 1)[-1] for line in complaints.splitlines() if line.strip()]
    first = lines[0].strip().replace(f"file:{source}: ", "") if lines else ""
    if done.returncode:
        raise VideoError(source, first or f"ffmpeg ended with status {done.returncode}")
    return first


def convert_by_pyav(source: str, target: str, recipe: Recipe) -> str:
    """Converts with PyAV -> a message on the packets that cannot be decoded, or ""."""
    failures: list[int] = []
    container, stream = open_container(source)
    with container, av.open(f"file:{target}", "w", format="mp4", options=recipe.muxer) as output:
        output.metadata["comment"] = recipe.comment
        rate = Fraction(stream.guessed_rate or stream.average_rate or 25).limit_denominator(1001)
        encoder, last, has_times = None, -1, container.format.name in TIMED_CONTAINERS
        for frame in scaled_frames(source, container, stream, recipe, failures):
            if encoder is None:
                encoder = _add_encoder(output, recipe, frame, rate)
                start = frame.time or 0.0
            # A frame goes to the tick nearest to its time, unless that is taken; without a time, to the next tick.
            number = round((frame.time - start) * rate) if has_times and frame.time is not None else last + 1
            if number > last:
                frame.pts, frame.time_base, last = number, 1 / rate, number
                frame.pict_type = 0  # unset: the encoder chooses its own keyframes
                output.mux(encoder.encode(frame))
        if encoder is None:
            raise VideoError(source, "no frame can be decoded")
        output.mux(encoder.encode(None))
    return f"{len(failures)} packets cannot be decoded, the first is number {failures[0]}" if failures else ""


def scaled_frames(source: str, container, stream, recipe: Recipe, failures: list[int]) -> Iterator[av.VideoFrame]:
    """The frames of a freshly opened video, upright, in the recipe's size and in yuv420p.

    Appends to `failures` the numbers of the packets that cannot be decoded.
    """
    graph, shape = None, None
    for number, packet in enumerate(chain(read_packets(container, stream), [None])):
        try:
            frames = stream.codec_context.decode(packet)
        except av.FFmpegError:
            failures.append(number)
            continue
        for frame in frames:
            if graph is None:
                graph, shape = _scaling_graph(stream, frame, recipe), (frame.width, frame.height, frame.format.name)
            if (frame.width, frame.height, frame.format.name) != shape:
                raise VideoError(source, "its frames change size; cut the video where they do")
            graph.push(frame)
            yield graph.pull()


def _scaling_graph(stream, frame: av.VideoFrame, recipe: Recipe) -> av.filter.Graph:
    graph = av.filter.Graph()
    width, height = recipe.size
    steps = [graph.add_buffer(template=stream, width=frame.width, height=frame.height, format=frame.format)]
    steps += [graph.add(*turn.split("=")) for turn in UPRIGHT.get(round(frame.rotation / 90) * 90 % 360, [])]
    steps += [graph.add("scale", w=width, h=height), graph.add("format", "yuv420p"), graph.add("buffersink")]
    graph.link_nodes(*steps).configure()
    return graph


def _add_encoder(output, recipe: Recipe, frame: av.VideoFrame, rate: Fraction):
    encoder = output.add_stream(recipe.codec, rate=rate, options={**FFMPEG_DEFAULTS, **recipe.options})
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "yuv420p"
    encoder.codec_context.time_base = 1 / rate
    encoder.codec_context.thread_count = 1
    return encoder
