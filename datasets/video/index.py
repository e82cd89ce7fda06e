"""Finds out where each frame of a video file is, by one pass over its packets and as a rule without decoding them.

Frame i is the i-th frame that decoding the whole file from its start gives. What a file says about itself does not tell
which packet that is: frame counts in headers are wrong or missing, packets lie in the order of decoding and not of
display, some are decoded but never shown (edit lists), and AVI stores no presentation times, so that those which FFmpeg
reports for its B-frames are invented. Hence the rule: where the container stores a presentation time with each packet
and nothing looks unusual, these times are the order; in AVI, the types of MPEG-4 pictures tell it; any other file is
decoded once, and every frame tells which packet it came from.
"""

import io
import os
import re
import stat
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext

from datasets.file_list import FileError
from datasets.video.shards import find_member, split_member
from datasets.video.skippable_frames import find_marks

# Containers that store a presentation time with each packet, by FFmpeg's names for them.
TIMED_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "flv", "mpegts"}
# Codecs of which one packet is one frame (VP8, for one, has packets that are never shown).
FRAME_PER_PACKET_CODECS = {"h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg"}
# No decoder holds back more frames than this; times that say so are broken, as where recordings were joined.
MAX_REORDERING = 32
# Newer releases of PyAV can tell the demuxer which streams nobody wants, so that it does not read them.
DISCARD = getattr(av.stream, "Discard", None)
# What a decoder is told of a stream by its container, besides its name and the stream's headers.
DECODER_SETTINGS = (
    "width",
    "height",
    "pix_fmt",
    "codec_tag",
    "reorder_depth",
    "field_order",
    "color_range",
    "color_primaries",
    "color_trc",
    "colorspace",
)
# Codecs whose decoders need no more than that and packets.
STORED_CODECS = {"h264", "hevc", "vp9", "av1", "mpeg4"}
BUFFER_SIZE = 1 << 16  # bytes that are read of a file at once
MAX_HEADER = 32  # bytes that a container puts before the data of a packet
MPEG4_PICTURE = b"\x00\x00\x01\xb6"  # start code; the first two bits that follow are the picture's type
PACKED_MPEG4 = re.compile(rb"DivX\d+(b|Build)\d+p")  # how encoders say that they put two pictures into a packet
MAX_EMPTY = 19  # bytes of a packet that may hold no picture

Stamp = tuple[int, int]  # size in bytes, modification time in nanoseconds


class VideoError(FileError):
    """A video that cannot be read."""


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """Where the T frames of a video lie in its N packets; small and picklable, made to be kept.

    Packets are numbered from 0 in the order of the file, which is the order of decoding.
    """

    frame_packets: np.ndarray  # int64 [T], the packet that holds each frame
    frame_starts: np.ndarray  # int64 [T], the keyframe packet at which to start decoding in order to get it
    packet_positions: np.ndarray  # int64 [N], byte offset in the file, -1 if the container does not tell
    packet_sizes: np.ndarray  # int64 [N], bytes
    packet_times: np.ndarray  # int64 [N], where to seek for it, in ticks of the stream
    data_offsets: np.ndarray  # int64 [N], how far behind its position its data lies; -1 if not in one piece there
    duration: Fraction  # seconds from the first frame's appearance to the last one's end
    rotation: int  # 0, 90, 180 or 270: degrees counter-clockwise by which frames are turned to stand upright
    facts: dict[str, Any]
    """codec, container, pixel_format, height and width (stored), num_streams; stamp of the file; decoder: its settings;
    marks: see `unneeded.find_marks`."""

    @property
    def is_stored(self) -> bool:
        """Whether packets can be read from where they lie in the file, without its container."""
        return self.facts["decoder"] is not None and bool((self.data_offsets >= 0).all())

    def find(self, packet: av.Packet) -> int | None:
        """The number of a packet; None if it is not one of these, or could be several of them."""
        same = (self.packet_positions == _position(packet)) & (self.packet_sizes == packet.size)
        numbers = np.flatnonzero(same)
        return int(numbers[0]) if len(numbers) == 1 else None

    def matches(self, packet: av.Packet, number: int) -> bool:
        """Whether a packet can be the one of this number."""
        known = number < len(self.packet_sizes)
        return known and packet.size == self.packet_sizes[number] and _position(packet) == self.packet_positions[number]


def open_video(path, num_threads: int = 1):
    """Opens a file -> (container, its first video stream, as OpenCV and PyAV choose). The caller closes the container.

    Raises VideoError if there is nothing to decode.
    """
    file, start, end = file_range(path)
    url = f"file:{file}"  # "file:" keeps a colon in the name from being read as a protocol
    if end is not None:
        url = f"subfile,,start,{start},end,{end},,:{url}"
    try:
        # The white list keeps a playlist that poses as a video from waiting for the network.
        container = av.open(url, container_options={"protocol_whitelist": "file,subfile"})
    except (av.FFmpegError, OSError) as error:
        raise VideoError(path, f"cannot be opened as a video: {error.strerror}") from error
    stream = next(iter(container.streams.video), None)
    if stream is None or stream.codec_context is None or not stream.codec_context.width:
        kinds = ", ".join(stream.type for stream in container.streams) or "none"
        container.close()
        raise VideoError(path, f"no video stream that can be decoded (its streams: {kinds})")
    if DISCARD is not None:
        for other in container.streams:
            other.discard = DISCARD.default if other is stream else DISCARD.all
    use_threads(stream.codec_context, num_threads)
    return container, stream


def use_threads(codec: VideoCodecContext, num_threads: int) -> None:
    codec.thread_count = num_threads
    if num_threads > 1:
        codec.thread_type = "AUTO"


def read_packets(container, stream):
    """Yields the packets of a stream from where its container stands to the end, or as far as the file can be read."""
    try:
        for packet in container.demux(stream):
            if packet.size:  # an empty packet would tell the decoder that this is the end
                yield packet
    except av.FFmpegError:
        return


def decode_packet(codec, packet, number: int | None = None) -> list[av.VideoFrame]:
    """Sends a packet (None: the end) to the decoder -> the frames that are ready; none if it makes nothing of it.

    Decoders hand the time of a packet through to its frame, so the number put there tells which packet a frame is from.
    """
    if packet is not None:
        packet.pts = packet.dts = number
    try:
        return codec.decode(packet)
    except av.FFmpegError:
        return []


def scan_video(path, container, stream) -> VideoIndex:
    """Makes the index of a freshly opened stream, and leaves its container at the end of the file.

    Raises VideoError if no frame can be decoded.
    """
    codec = stream.codec_context.codec.canonical_name
    is_timed = container.format.name in TIMED_CONTAINERS
    is_plain = codec in FRAME_PER_PACKET_CODECS and (is_timed or codec in {"mpeg4", "mjpeg"})
    settings = decoder_settings(stream.codec_context) if codec in STORED_CODECS else None
    rows, pictures, is_packed, duration, first_frame = [], [], False, None, None
    file, start = open_bytes(path)
    with file:
        unchanged, find_data = list(stamp(file.fileno())), _DataFinder(file, start)
        for packet in read_packets(container, stream):
            data = bytes(packet)
            offset = -1 if settings is None else find_data(packet, data)
            position, flags = _position(packet), (packet.is_keyframe, packet.is_discard)
            rows.append((packet.pts, packet.dts, position, len(data), *flags, offset))
            duration = packet.duration
            if codec == "mpeg4":
                pictures.append(_mpeg4_pictures(data))
            if len(rows) == 1:
                is_packed = not is_timed and PACKED_MPEG4.search(data) is not None
                first_frame = _decode_alone(stream, packet)
    if not rows:
        raise VideoError(path, "no video packets")
    pts, dts, positions, sizes, is_keyframe, is_discard, offsets = zip(*rows, strict=True)

    has_b_frames, keyframes = stream.codec_context.has_b_frames, np.flatnonzero(is_keyframe)
    types = _mpeg4_types(pictures, is_packed)
    if is_packed:
        keyframes = _packed_starts(keyframes, types)
    if not is_plain or types is None:
        order = None
    elif "B" in types and not is_timed:
        order = _order_by_type(types) if has_b_frames else None
        keyframes = keyframes[[types[number] == "I" for number in keyframes]]
    else:
        order = _order_by_time(pts, has_b_frames)
    # What is displayed before the first keyframe may not decode, and two packets may be one interlaced frame.
    if order is None or order[0] != 0 or first_frame is None or first_frame.interlaced_frame:
        order, decoded_keyframes, first_frame = _order_by_decoding(path)
        keyframes = np.intersect1d(keyframes, decoded_keyframes)
    frame_packets = np.array([number for number in order if not is_discard[number]])
    times = [p if d is None else d for p, d in zip(pts, dts, strict=True)]
    return VideoIndex(
        frame_packets=frame_packets,
        frame_starts=_decoding_starts(frame_packets, order, keyframes, len(rows)),
        packet_positions=np.array(positions),
        packet_sizes=np.array(sizes),
        packet_times=np.array([0 if time is None else time for time in times]),
        data_offsets=np.array(offsets),
        duration=_duration([times[n] if pts[n] is None else pts[n] for n in frame_packets], duration, stream),
        rotation=round(first_frame.rotation / 90) * 90 % 360,
        facts={
            "codec": codec,
            "container": container.format.name,
            "pixel_format": stream.codec_context.pix_fmt,
            "height": stream.codec_context.height,
            "width": stream.codec_context.width,
            "num_streams": len(container.streams.video),
            "stamp": unchanged,
            "decoder": settings,
            "marks": find_marks(codec, stream.codec_context.extradata, pictures, types, len(frame_packets)),
        },
    )


def decoder_settings(codec: VideoCodecContext) -> dict[str, Any] | None:
    """What it takes to make another decoder like one that has decoded nothing yet; None if that is not to be found."""
    try:
        settings = {name: getattr(codec, name) for name in DECODER_SETTINGS}
    except (AttributeError, UnicodeDecodeError):  # an older PyAV; a tag of four bytes that are no letters
        return None
    settings = {name: value for name, value in settings.items() if value is not None}
    return {"name": codec.codec.name, "extradata": (codec.extradata or b"").hex(), **settings}


class _DataFinder:
    """Finds where in a file the data of packets is; `start`: of the video in the file."""

    def __init__(self, file, start: int):
        self._file, self._start = file, start
        self._offset = 0  # of the packet before; most packets of a file are alike

    def __call__(self, packet: av.Packet, data: bytes) -> int:
        """How many bytes behind the packet's position its data begins; -1, and so from there on, if it is not there."""
        if self._offset >= 0 and not self._is_at(self._offset, packet, data):
            offsets = (offset for offset in range(MAX_HEADER) if self._is_at(offset, packet, data))
            self._offset = next(offsets, -1)
        return self._offset

    def _is_at(self, offset: int, packet: av.Packet, data: bytes) -> bool:
        position = packet.pos
        if position is None or any(packet.iter_sidedata()):  # what a demuxer adds for the decoder is not in the data
            return False
        try:
            self._file.seek(self._start + position + offset)
            return self._file.read(len(data)) == data
        except OSError:  # whatever reads here later says what is wrong
            return False


def _order_by_time(times, has_b_frames):
    """The numbers of packets in the order of their presentation times; None if this cannot be the order of display."""
    if None in times or len(set(times)) < len(times):
        return None
    order = sorted(range(len(times)), key=times.__getitem__)
    distance = np.abs(order - np.arange(len(order))).max()
    return order if bool(has_b_frames) <= distance <= MAX_REORDERING else None


def _order_by_decoding(path):
    """Decodes all of the video -> (the packet of each frame that comes out, keyframes among these, the first frame)."""
    container, stream = open_video(path)
    with container:
        order, keyframes, first_frame = [], [], None
        for number, packet in enumerate(chain(read_packets(container, stream), [None])):
            for frame in decode_packet(stream.codec_context, packet, number):
                order.append(frame.pts)
                if frame.key_frame:
                    keyframes.append(frame.pts)
                first_frame = first_frame or frame
    if not order:
        raise VideoError(path, "no frame can be decoded")
    if None in order or len(set(order)) < len(order):
        raise VideoError(path, "its frames cannot be told apart")
    return order, keyframes, first_frame


def _decode_alone(stream, packet):
    """The frame that a packet gives by itself, or None. The decoder is left as new."""
    codec = stream.codec_context
    frames = decode_packet(codec, packet, 0) + decode_packet(codec, None)
    codec.flush_buffers()
    return next(iter(frames), None)


def _mpeg4_pictures(data):
    """The types of the pictures in a packet: "I", "P", "B" or S, a letter each; "" for a packet of so few bytes that it
    may say "same as before", which decodes to nothing."""
    if len(data) <= MAX_EMPTY:
        return ""
    return "".join("IPBS"[part[0] >> 6] for part in data.split(MPEG4_PICTURE)[1:] if part)


def _mpeg4_types(pictures, is_packed):
    """The type of the picture that is decoded at each packet, from the pictures that packets hold; None if unclear.

    In old files a packet may hold a P- and a B-frame. The decoder keeps the second one until the next packet comes, and
    the one of that until the next, up to an empty packet that makes up for it. What it keeps at the end is not shown.
    """
    types, kept = [], ""
    for held in pictures:
        if (kept + held)[1:] not in ({"", "B"} if is_packed else {""}) or not kept + held:
            return None
        types.append((kept + held)[0])
        kept = (kept + held)[1:]
    return types


def _packed_starts(keyframes, types):
    """Those of the keyframes at which decoding of a packed video may start; none where types are unclear.

    Where two B-frames follow in the file, the decoder, which has not what they refer to, drops the first one and with
    it the packet that holds the second, and takes the empty packet after them for a picture.
    """
    if types is None:
        return keyframes[:0]
    return keyframes[[types[number + 1 : number + 3] != ["B", "B"] for number in keyframes]]


def _order_by_type(types):
    """The numbers of MPEG-4 packets in the order of display: a B-frame is shown when it has been decoded, any other one
    when the next that is no B-frame comes. None if there are B-frames that lack what they lie between."""
    order, held = [], []
    for number, kind in enumerate(types):
        if kind == "B":
            if not order:
                return None
            order.append(number)
        else:
            order.extend(held)
            held = [number]
    return order + held


def _decoding_starts(frame_packets, order, keyframes, num_packets):
    """For each frame [T] the last keyframe from which decoding gives it: one that comes before it in the file and is
    not displayed after it (B-frames that follow a keyframe but are displayed before it need the frames before it)."""
    rank = np.full(num_packets, num_packets)  # [N], place in the order of display; the last for what is not displayed
    rank[order] = np.arange(len(order))
    rank[0] = -1  # whatever it holds, decoding may start at the first packet
    keyframes = np.union1d([0], keyframes)
    choice = np.searchsorted(keyframes, frame_packets, side="right") - 1  # [T]
    while (too_late := rank[keyframes[choice]] > rank[frame_packets]).any():
        choice -= too_late
    return keyframes[choice]


def _duration(times, last_duration, stream):
    """Seconds from the first frame's time to the end of the last; by the stream's own rate where times are missing."""
    if None in times or min(times) == max(times):
        return len(times) / Fraction(stream.average_rate or stream.guessed_rate or 25)
    span = max(times) - min(times)
    return (span + (last_duration or Fraction(span, len(times) - 1))) * stream.time_base


def _position(packet):
    return -1 if packet.pos is None else packet.pos


def file_range(path) -> tuple[str, int, int | None]:
    """The regular file in which a video is, and the bytes of it that it takes: first and end; None: all.

    Raises VideoError if there is none.
    """
    member = split_member(path)
    file = os.fspath(path) if member is None else member[0]
    try:
        status = os.stat(file)
    except OSError as error:
        raise VideoError(path, error.strerror) from error
    if stat.S_ISDIR(status.st_mode):
        raise VideoError(path, "is a directory")
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise VideoError(path, "is not a regular file")
    if status.st_size == 0:
        raise VideoError(path, "is empty (0 bytes)")
    if member is None:
        return file, 0, None
    try:
        return file, *find_member(*member)
    except FileError as error:
        raise VideoError(path, error.reason) from error


def open_bytes(path) -> tuple[io.BufferedReader, int]:
    """The open file in which a video is, and the byte at which the video begins. Raises VideoError as `file_range`."""
    file, start, _ = file_range(path)
    try:
        return open(file, "rb", buffering=BUFFER_SIZE), start
    except OSError as error:
        raise VideoError(path, f"cannot be opened as a video: {error.strerror}") from error


def stamp(file: str | Path | int) -> Stamp:
    """What tells whether a file, by its path or descriptor, has changed; raises OSError if it is not there."""
    status = os.stat(file)
    return status.st_size, status.st_mtime_ns
