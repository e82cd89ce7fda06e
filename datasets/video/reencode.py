"""Re-encodes one video, frame by frame: frame i of the target is frame i of the source, upright, at the same time.

Both the ffmpeg program and PyAV can do it. Either encodes the frames as if evenly spaced, so that no odd time makes an
encoder drop, repeat or starve a frame; the actual times are written when the frames are muxed into the target. The
program may see other frames in a file, so its result counts only if it has as many as `VideoReader` finds. It is told
how to turn frames upright, because its own behavior has changed from release to release.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from math import ceil
from typing import NamedTuple

import av
import numpy as np

from datasets.video.container import VideoError, decode_packet, open_container, read_packets
from datasets.video.frame_times import FrameTimes, time_frames
from datasets.video.index import scan_video
from datasets.video.orientation import read_orientation
from datasets.video.recipes import Recipe

FFMPEG_DEFAULTS = {"bt": "4M", "g": "12"}  # the encoders' own; PyAV changes them
COLOR_TAGS = ("colorspace", "color_range", "color_primaries", "color_trc")
# Encoders divide the bits per second among the frames. More frames than these get more bits, fewer do not.
MIN_RATE, MAX_RATE = 1, 60
MAX_MPEG4_CLOCK = 65535  # ticks per second


class Source(NamedTuple):
    """A video to convert."""

    path: str
    stream_index: int  # which of the file's streams is the video
    frame_packets: np.ndarray  # int64 [T], the packet of each frame
    times: FrameTimes
    turns: list[str]  # filters that turn stored frames upright
    picture: av.VideoFrame  # the first frame as the target has it
    pixel_aspect: Fraction | None  # width over height of the target's pixels; None: unknown

    @property
    def encoder_rate(self) -> Fraction:
        """Frames per second that the encoder is given."""
        rate = min(max(self.times.rate, Fraction(MIN_RATE)), Fraction(MAX_RATE))
        return rate.limit_denominator(MAX_MPEG4_CLOCK // ceil(rate))

    @property
    def filters(self) -> list[str]:
        """Filters that turn a stored frame of any size into one of the target; a source may change its size midway."""
        return [*self.turns, f"scale={self.picture.width}:{self.picture.height}:out_range=tv"]


def read_source(path: str, recipe: Recipe) -> Source:
    """Finds the frames of a video. Raises VideoError if none can be decoded."""
    container, stream = open_container(path)
    with container:
        index = scan_video(path, container, stream)
    container, stream = open_container(path)
    with container:
        times, first = [], None
        for packet in chain(read_packets(container, stream), [None]):
            times.append(None if packet is None else packet.pts)
            if first is None:
                first = next(iter(decode_packet(stream.codec_context, packet, len(times) - 1) or []), None)
        stream_index = stream.index
        time_base, rates = stream.time_base, (stream.average_rate, stream.guessed_rate)
        pixel_aspect = stream.sample_aspect_ratio
    if first is None:
        raise VideoError(path, "no frame can be decoded")
    frame_times = [times[number] for number in index.frame_packets]
    if index.facts["container"] == "avi" and (np.diff(index.frame_packets) < 0).any():
        frame_times = [None] * len(frame_times)  # AVI stores no times, and those that FFmpeg invents here are wrong
    orientation = read_orientation(first)
    turns = orientation.filters()
    picture = _Scaler(first, [*turns, recipe.filter])(first)
    return Source(
        path,
        stream_index,
        index.frame_packets,
        time_frames(frame_times, time_base, rates, index.duration),
        turns,
        picture,
        _scaled_aspect(pixel_aspect, first, orientation.swaps_sides, picture),
    )


def _scaled_aspect(
    pixel_aspect: Fraction | None, stored: av.VideoFrame, swaps_sides: bool, scaled: av.VideoFrame
) -> Fraction | None:
    """Width over height of the pixels after scaling, with which the picture keeps its proportions."""
    if not pixel_aspect:
        return None
    display = pixel_aspect * stored.width / stored.height
    return (1 / display if swaps_sides else display) * scaled.height / scaled.width


# With the program ---------------------------------------------------------------------------------------------------


def reencode_by_program(source: Source, target: str, recipe: Recipe, ffmpeg: str) -> str | None:
    """Re-encodes with the ffmpeg program -> its first complaint, or ""; None if frames are missing."""
    line = command(ffmpeg, source, recipe)
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints) as program,
    ):
        is_whole = _mux_encoded(program.stdout, source, target, recipe)
        if program.wait() or not is_whole:
            return None
        complaints.seek(0)
        lines = complaints.read().decode(errors="replace").splitlines()
    first = next((line for line in lines if line.strip()), "")
    return first.split("] ", 1)[-1].strip().replace(f"file:{source.path}: ", "")


def command(ffmpeg: str, source: Source, recipe: Recipe) -> list[str]:
    """The ffmpeg command that writes the encoded frames to its standard output.

    "-r" before the input numbers the frames, whatever their times. "file:" allows names with colons or leading dashes.
    """
    encoder = [argument for name, value in recipe.options.items() for argument in (f"-{name}:v", value)]
    return [
        *(ffmpeg, "-nostdin", "-v", "error", "-threads", "1", "-protocol_whitelist", "file"),
        *("-noautorotate", "-r", str(source.encoder_rate), "-i", f"file:{source.path}"),
        *("-map", f"0:{source.stream_index}", "-c:v", recipe.codec, "-filter:v", ",".join(source.filters)),
        *("-pix_fmt", "yuv420p", *encoder),
        *("-threads", "1", "-f", "nut", "-"),
    ]


def _mux_encoded(file, source: Source, target: str, recipe: Recipe) -> bool:
    """Writes the encoded frames from a pipe into the target -> whether these are all frames of the source."""
    try:
        encoded = av.open(file, format="nut")
    except (av.FFmpegError, OSError):
        return False
    numbers = range(len(source.frame_packets))
    with encoded, _open_target(source, target, recipe) as output:
        stream = output.add_stream_from_template(encoded.streams.video[0])
        _tag_colors(stream.codec_context, source.picture)
        first, num_frames = None, 0
        for packet in read_packets(encoded, encoded.streams.video[0]):
            first = packet.pts if first is None else first
            frames_per_tick = source.encoder_rate * packet.time_base
            packet.pts, packet.dts = (round((time - first) * frames_per_tick) for time in (packet.pts, packet.dts))
            if packet.pts not in numbers:
                return False
            _mux(output, stream, packet, source.times, numbers)
            num_frames += 1
    return num_frames == len(numbers)


# With PyAV ----------------------------------------------------------------------------------------------------------


def reencode_by_pyav(source: Source, target: str, recipe: Recipe) -> str:
    """Re-encodes with PyAV -> a message on the frames that cannot be decoded, or are damaged, or ""."""
    written, damaged = [], []
    with _open_target(source, target, recipe) as output:
        stream = _add_encoder(output, source, recipe)
        for number, frame in scaled_frames(source):
            if frame.is_corrupt:
                damaged.append(number)
            frame.pts, frame.time_base = len(written), 1 / source.encoder_rate
            frame.pict_type = 0  # unset: the encoder chooses its own keyframes
            written.append(number)
            for packet in stream.encode(frame):
                _mux(output, stream, packet, source.times, written)
        for packet in stream.encode(None):
            _mux(output, stream, packet, source.times, written)
    if not written:
        raise VideoError(source.path, "no frame can be decoded")
    lost = sorted(set(range(len(source.frame_packets))) - set(written))
    faults = {"cannot be decoded": lost, "are damaged": damaged}
    return "; ".join(
        f"{len(numbers)} of {len(source.frame_packets)} frames {fault}, the first is frame {numbers[0]}"
        for fault, numbers in faults.items()
        if numbers
    )


def scaled_frames(source: Source) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decodes a video -> (frame number, the frame as the target has it) of each frame that can be decoded."""
    numbers = {int(packet): number for number, packet in enumerate(source.frame_packets)}
    scaler, last = None, -1
    container, stream = open_container(source.path)
    with container:
        for packet_number, packet in enumerate(chain(read_packets(container, stream), [None])):
            for frame in decode_packet(stream.codec_context, packet, packet_number) or []:
                number = numbers.get(frame.pts, -1)
                if number > last:
                    if scaler is None or not scaler.fits(frame):
                        scaler = _Scaler(frame, source.filters)
                    yield number, scaler(frame)
                    last = number


class _Scaler:
    """Sends frames of one size and format through filters."""

    def __init__(self, frame: av.VideoFrame, filters: list[str]):
        self._options = _buffer_options(frame)
        self._graph = av.filter.Graph()
        self._graph.threads = 1
        steps = [self._graph.add("buffer", **self._options)]
        steps += [self._graph.add(*step.split("=", 1)) for step in filters]
        steps += [self._graph.add("format", "yuv420p"), self._graph.add("buffersink")]
        self._graph.link_nodes(*steps).configure()

    def fits(self, frame: av.VideoFrame) -> bool:
        return self._options == _buffer_options(frame)

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        self._graph.push(frame)
        return self._graph.pull()


def _buffer_options(frame: av.VideoFrame) -> dict[str, str]:
    """What filters must know about frames beforehand. PyAV's `add_buffer` does not pass on how colors are coded."""
    return {
        "video_size": f"{frame.width}x{frame.height}",
        "pix_fmt": frame.format.name,
        "time_base": "1/1000",
        "colorspace": str(int(frame.colorspace)),
        "range": str(int(frame.color_range)),
    }


def _add_encoder(output, source: Source, recipe: Recipe):
    rate = source.encoder_rate
    stream = output.add_stream(recipe.codec, rate=rate, options={**FFMPEG_DEFAULTS, **recipe.options})
    stream.width, stream.height, stream.pix_fmt = source.picture.width, source.picture.height, "yuv420p"
    stream.codec_context.time_base = 1 / rate
    stream.codec_context.thread_count = 1
    if source.pixel_aspect is not None:
        stream.codec_context.sample_aspect_ratio = source.pixel_aspect
    _tag_colors(stream.codec_context, source.picture)
    return stream


# The target ---------------------------------------------------------------------------------------------------------


@contextmanager
def _open_target(source: Source, target: str, recipe: Recipe):
    options = {"video_track_timescale": str(source.times.ticks_per_second), **recipe.muxer}
    with av.open(f"file:{target}", "w", format="mp4", options=options) as output:
        output.metadata["comment"] = recipe.comment
        yield output


def _tag_colors(codec, picture: av.VideoFrame) -> None:
    """Marks in the target how its colors are coded, so that readers convert them to RGB like the source's."""
    for name in COLOR_TAGS:
        if (value := getattr(picture, name)) is not None:
            setattr(codec, name, value)


def _mux(output, stream, packet, times: FrameTimes, numbers) -> None:
    """Writes a packet whose times count encoded frames. `numbers`: the source frame of each of these."""

    def tick(count: int) -> int:
        return times.tick(numbers[count] if count >= 0 else count)

    packet.duration = times.tick(numbers[packet.pts] + 1) - tick(packet.pts)
    packet.pts, packet.dts = tick(packet.pts), tick(packet.dts)
    packet.time_base, packet.stream = Fraction(1, times.ticks_per_second), stream
    output.mux(packet)
