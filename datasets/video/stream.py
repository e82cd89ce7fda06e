"""Reads a long video, a live stream or a camera from its start: every frame once, in order, in bounded memory."""

import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy as np

from datasets.video.container import VideoError, open_container
from datasets.video.frame_times import FALLBACK_RATE, MAX_GAP_SECONDS
from datasets.video.orientation import read_orientation
from datasets.video.reader import VideoReader
from datasets.video.rgb import UprightRgb

log = logging.getLogger(__name__)

OPENING_SECONDS, READING_SECONDS = 15.0, 30.0
"""How long a stream may take to open, and to send more."""
CLOSING_SECONDS = 2.0
"""How long to wait for a reading thread when a stream is closed."""
CAMERA_FORMATS = {"linux": "video4linux2", "darwin": "avfoundation", "win32": "dshow"}
PUSHED = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "srt", "tcp")
"""Protocols of streams that do not wait for the reader."""


def is_stream(source: Any) -> bool:
    """Whether `source` is the address of a stream, such as rtsp://..., or a camera, such as /dev/video0."""
    return isinstance(source, str) and (_is_camera(source) or re.match(r"[a-z][a-z0-9+.-]*://", source) is not None)


def _is_camera(source: str) -> bool:
    return re.fullmatch(r"/dev/video\d+", source) is not None


class StreamFrame(NamedTuple):
    """A decoded frame of a stream."""

    number: int
    """The number of the frame, from 0."""
    seconds: float
    """When it is shown, relative to the first frame."""
    picture: av.VideoFrame
    """As decoded; `VideoStream.to_rgb` converts it."""


class VideoStream:
    """The frames of a video file, a stream or a camera, in order.

        with VideoStream("rtsp://camera/1") as stream:
            for frame in stream:
                pixels = stream.to_rgb(frame)  # uint8 [H, W, 3]

    Frame i of a file is frame i of `VideoReader`, except in damaged files, where undecodable frames are skipped.

    Attributes:
        path: the source.
        fps: average frames per second, according to the source.
        duration_seconds: according to the source; None if it does not say, as with live streams.
        is_live: whether frames are lost unless they are read as fast as they come.
        start_seconds: the source's own time of the first frame, once it is read.

    Raises VideoError, with path and reason, if the source cannot be opened or has no video.
    """

    def __init__(self, source: str, num_threads: int = 1):
        self.path = str(source)
        self.is_live = _is_camera(self.path) or self.path.split("://")[0] in PUSHED
        if is_stream(self.path):
            self._container, self._stream = _open_stream(self.path)
        else:
            self._container, self._stream = open_container(self.path, num_threads)
        rate = self._stream.average_rate or self._stream.guessed_rate or FALLBACK_RATE
        self.fps = float(rate)
        ticks, length = self._stream.duration, self._container.duration
        # Some containers give only the length of all streams, in microseconds.
        duration = float(ticks * self._stream.time_base) if ticks else (length or 0) / 1e6
        self.duration_seconds = duration if duration > 0 else None
        self.start_seconds = 0.0
        self._to_rgb: UprightRgb | None = None
        self._is_closed = False
        self._in_use = threading.Lock()  # while FFmpeg reads or decodes, perhaps in another thread: see `newest`

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._is_closed = True
        # A thread waiting for a stalled camera keeps the container: closing it while in use crashes.
        if self._in_use.acquire(timeout=CLOSING_SECONDS):
            self._container.close()
            self._in_use.release()

    def __iter__(self) -> Iterator[StreamFrame]:
        seconds = -1 / self.fps
        first = None
        for number, picture in enumerate(self._decode()):
            time = picture.time
            if first is None and time is not None:
                self.start_seconds = first = time
            usual = seconds + 1 / self.fps
            # If the clock stands still, goes back or jumps ahead, the usual step counts.
            is_usable = time is not None and 0 < time - first - seconds <= MAX_GAP_SECONDS
            seconds = time - first if is_usable else usual
            yield StreamFrame(number, seconds, picture)
        if seconds < 0:
            raise VideoError(self.path, "no frame can be decoded")

    def to_rgb(self, frame: StreamFrame):
        """The upright picture of a frame: uint8 [H, W, 3] in NumPy, valid until the next call."""
        if self._to_rgb is None:
            picture = frame.picture
            self._to_rgb = UprightRgb(picture.height, picture.width, read_orientation(picture))
        return self._to_rgb(frame.picture)

    def pixel_aspect(self, frame: StreamFrame) -> Fraction | None:
        """Width over height of the pixels of the upright frame, according to the source; None: unknown."""
        aspect = self._stream.sample_aspect_ratio
        return 1 / aspect if aspect and read_orientation(frame.picture).swaps_sides else aspect or None

    def _decode(self) -> Iterator[av.VideoFrame]:
        packets = self._container.demux(self._stream)
        while (pictures := self._decode_next(packets)) is not None:
            yield from pictures

    def _decode_next(self, packets: Iterator[av.Packet]) -> list[av.VideoFrame] | None:
        """The pictures of the next packet; None at the end."""
        with self._in_use:
            if self._is_closed:
                return None
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                log.warning("%s: ends here, because no more can be read: %s", self.path, error.strerror)
                return None
            try:
                return None if packet is None else packet.decode()
            except av.FFmpegError:  # a damaged packet
                return []


PAUSE = 10
"""Usual steps between two frames; a longer one is a pause."""


def rate_and_length(path: str) -> tuple[float, float]:
    """Average frames per second of a file, and its seconds, by the times of its frames, not by its header.

    Pauses do not count in the average, and what a stream takes for a reset clock does not count in the seconds. If the
    file cannot be indexed, both come from the header; 0 seconds if that has none. Raises VideoError if the file cannot
    be opened, and for a folder of frames.
    """
    if os.path.isdir(path):
        raise VideoError(path, "is a folder; windows need the times of a video file, which frames in a folder lack")
    try:
        with VideoReader(path) as video:
            return _without_pauses(video)
    except VideoError:
        with VideoStream(path) as stream:
            return stream.fps, stream.duration_seconds or 0.0


def _without_pauses(video: VideoReader) -> tuple[float, float]:
    steps = np.diff(np.sort(video.index.packet_times[video.index.frame_packets]))  # ticks of the file's clock
    usual = np.median(steps) if len(steps) else 0
    if usual <= 0 or steps.max() <= PAUSE * usual:
        return video.fps, video.duration_seconds
    tick = video.duration_seconds / (steps.sum() + usual)
    is_leap = steps * tick > MAX_GAP_SECONDS
    length = video.duration_seconds - tick * (steps[is_leap] - usual).sum()
    return 1 / float(tick * steps[steps <= PAUSE * usual].mean()), float(length)


def _open_stream(source: str):
    options = {"rtsp_transport": "tcp"} if source.startswith("rtsp") else {}
    camera = CAMERA_FORMATS.get(sys.platform) if _is_camera(source) else None
    try:
        timeout = (OPENING_SECONDS, READING_SECONDS)
        container = av.open(source, format=camera, options=options, timeout=timeout, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoError(source, f"the stream cannot be opened: {reason}") from error
    if not container.streams.video or container.streams.video[0].codec_context is None:
        container.close()
        raise VideoError(source, "the stream has no video that can be decoded")
    return container, container.streams.video[0]


def newest(items: Iterator[Any]) -> Iterator[Any]:
    """Yields the newest item whenever one is asked for; a thread makes the items, and the others are dropped.

    Raises what making an item raises.
    """
    box: list[Any] = []  # the newest item, if nobody has taken it
    errors: list[BaseException] = []
    changed, is_wanted, has_ended = threading.Condition(), True, False

    def make() -> None:
        nonlocal has_ended
        try:
            for item in items:
                with changed:
                    box[:] = [item]
                    changed.notify()
                if not is_wanted:
                    return
        except BaseException as error:  # for the reader to raise
            errors.append(error)
        finally:
            with changed:
                has_ended = True
                changed.notify()

    threading.Thread(target=make, daemon=True).start()
    try:
        while True:
            with changed:
                changed.wait_for(lambda: box or has_ended)
                if not box:
                    break
                item = box.pop()
            yield item
    finally:
        is_wanted = False
    if errors:
        raise errors[0]
