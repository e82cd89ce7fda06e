"""Makes the small encoded clips that the tests read: frames that carry their own number, and an encoder for them."""

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

NUMBER_ROWS, NUMBER_COLUMNS = 3, 4  # a frame shows its number as 12 bits: white is one, the highest bit is top left
QUIET = {"libx265": {"x265-params": "log-level=none"}}
AUDIO_CODECS = {".avi": "mp2", ".mpg": "mp2", ".webm": "libopus"}


def number_frames(num_frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames that can be told apart after lossy coding -> uint8 [T, H, W, 3].

    Each shows its number (up to 4095) as black and white blocks, which :func:`read_numbers` reads back, over a texture
    that moves and changes color, so that predicted frames have something to predict.
    """
    bits = NUMBER_ROWS * NUMBER_COLUMNS
    row, column = np.arange(height)[:, None], np.arange(width)[None, :]
    block = row * NUMBER_ROWS // height * NUMBER_COLUMNS + column * NUMBER_COLUMNS // width  # [H, W], which bit
    numbers = np.arange(num_frames)[:, None, None]
    white = numbers >> (bits - 1 - block) & 1  # [T, H, W]
    phases = np.arange(3) * 2.1 + numbers[..., None] * 0.1  # [T, 1, 1, 3], one phase for each color
    texture = np.sin((row + 2 * column)[None, :, :, None] * 0.2 + phases)  # [T, H, W, 3]
    return (48 + 160 * white[..., None] + 32 * texture).astype(np.uint8)


def read_numbers(frames) -> list[int]:
    """The numbers that frames of :func:`number_frames` show: uint8 [T, H, W, 3] (array or tensor) -> T numbers."""
    frames = np.asarray(frames)
    height, width = frames.shape[1:3]
    numbers = np.zeros(len(frames), dtype=np.int64)
    for row in range(NUMBER_ROWS):
        for column in range(NUMBER_COLUMNS):
            top, left = (2 * row + 1) * height // (2 * NUMBER_ROWS), (2 * column + 1) * width // (2 * NUMBER_COLUMNS)
            center = frames[:, max(top - 1, 0) : top + 2, max(left - 1, 0) : left + 2]
            numbers = 2 * numbers + (center.mean(axis=(1, 2, 3)) > 128)
    return numbers.tolist()


def encode_video(
    path,
    frames: np.ndarray | None,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    fps: int | Fraction = 25,
    options: dict | None = None,
    pts: list[int] | None = None,
    audio: bool = False,
    rotation: int = 0,
    gop: int | None = None,
    b_frames: int | None = None,
    format: str | None = None,
) -> Path:
    """Encodes frames (uint8 [T, H, W, 3]) into the file `path`. Returns the path.

    format: the container, by FFmpeg's name, instead of the one that the path's suffix chooses.

    pts: when each frame is shown, in units of 1 / fps seconds, increasing (0, 1, 2, ... if not given).
    audio: adds a tone as long as the frames (one second when `frames` is None: a file without a video stream).
    rotation: by how many degrees counter-clockwise a player turns the picture (.mp4 and .mov only).
    gop, b_frames: frames between keyframes and consecutive B-frames at most, instead of the encoder's own choice.
    """
    path = Path(path)
    with _same_priority(), av.open(str(path), "w", format=format) as container:
        video = None if frames is None else _add_video(container, frames, codec, pix_fmt, fps, options, gop, b_frames)
        sound = container.add_stream(AUDIO_CODECS.get(path.suffix, "aac"), rate=48000) if audio else None
        if video is not None:
            for number, picture in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = (number if pts is None else pts[number]), 1 / Fraction(fps)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        if sound is not None:
            _write_tone(container, sound, 1.0 if frames is None else len(frames) / float(fps))
    if rotation:
        cosine, sine = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[rotation % 360]
        write_matrix(path, cosine, -sine, sine, cosine)
    return path


@contextlib.contextmanager
def _same_priority() -> Iterator[None]:
    """SVT-AV1 makes the thread that calls it a real-time one, if root calls, and would leave it so: others starve."""
    if not hasattr(os, "sched_getscheduler"):  # not Linux
        yield
        return
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def encode_two_streams(path: Path, num_frames: int) -> Path:
    """A file with two video streams of `num_frames` numbered frames: 48 x 64 and 96 x 128 pixels."""
    sizes = [(48, 64), (96, 128)]
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("mpeg4", rate=25) for _ in sizes]
        for stream, (height, width) in zip(streams, sizes, strict=True):
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for stream, size in zip(streams, sizes, strict=True):
            for picture in number_frames(num_frames, *size):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


def _add_video(container, frames, codec, pix_fmt, fps, options, gop, b_frames):
    stream = container.add_stream(codec, rate=Fraction(fps), options={**QUIET.get(codec, {}), **(options or {})})
    stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
    stream.codec_context.time_base = 1 / Fraction(fps)
    stream.codec_context.thread_count = 1
    if gop is not None:
        stream.codec_context.gop_size = gop
    if b_frames is not None:
        stream.codec_context.max_b_frames = b_frames
    return stream


def _write_tone(container, stream, num_seconds):
    tone = 0.1 * np.sin(np.arange(round(num_seconds * stream.rate)) * (2 * np.pi * 440 / stream.rate))
    samples = np.tile(tone.astype(np.float32), (len(stream.layout.channels), 1))
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=stream.layout.name)
    frame.sample_rate, frame.pts, frame.time_base = stream.rate, 0, Fraction(1, stream.rate)
    fifo, resampler = av.AudioFifo(), av.AudioResampler(stream.format.name, stream.layout.name, stream.rate)
    for resampled in resampler.resample(frame):
        fifo.write(resampled)
    for chunk in [*fifo.read_many(stream.codec_context.frame_size or 960), fifo.read(0, partial=True)]:
        if chunk is not None:
            container.mux(stream.encode(chunk))
    container.mux(stream.encode(None))


def write_matrix(path: Path, a: float, b: float, c: float, d: float) -> Path:
    """Sets the display matrix in the first track header of an MP4 file, which only new releases of PyAV can write."""
    values = [round(value * 65536) for value in (a, b, 0, c, d, 0)]
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 40  # version 0: 40 bytes of times, ids and volume come before the matrix
    content[start : start + 24] = b"".join(value.to_bytes(4, "big", signed=True) for value in values)
    path.write_bytes(content)
    return path
