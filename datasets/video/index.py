"""Locates each frame of a video file, in one pass over its packets and usually without decoding them.

Frame i is the i-th frame when the whole file is decoded from its start. A file's headers do not say which packet that
is: frame counts are wrong or missing, packets are in decoding order rather than display order, some are decoded but
never displayed (edit lists), and AVI stores no presentation times, so FFmpeg invents them for its B-frames. Hence the
rule: if the container stores a presentation time with each packet and nothing looks unusual, these times give the
order; in AVI, the types of MPEG-4 pictures do; any other file is decoded once, and every frame shows which packet it
came from. `frame_order.py` implements these three. `bitstream.py` finds the packets at which decoding may start, and
whether each contains one picture.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy as np

from datasets.video.bitstream import Contents, packet_parser
from datasets.video.container import (
    TIMED_CONTAINERS,
    VideoError,
    decode_packet,
    decoder_settings,
    open_bytes,
    packet_position,
    read_packets,
    stamp,
)
from datasets.video.frame_order import (
    PACKED_MPEG4,
    decoding_starts,
    mpeg4_pictures,
    mpeg4_types,
    order_by_decoding,
    order_by_time,
    order_by_type,
    packed_starts,
)
from datasets.video.orientation import Orientation, read_orientation
from datasets.video.skippable_frames import find_marks

# Codecs whose packets are known to contain one frame each; VP8, for example, has packets that are never displayed.
FRAME_PER_PACKET_CODECS = {"h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg"}
# Codecs whose decoders need only their settings and the packets, not the container.
DIRECT_CODECS = {"h264", "hevc", "vp9", "av1", "mpeg4"}
MAX_HEADER = 32  # bytes that a container puts before the data of a packet
MAX_REORDERED = 16  # frames between a frame's places in decoding and in display order; H.264 and HEVC allow no more


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """Where the T frames of a video are in its N packets; small and picklable, to be stored.

    Packets are numbered from 0 in file order, which is decoding order.
    """

    frame_packets: np.ndarray  # int64 [T], the packet of each frame
    frame_starts: np.ndarray  # int64 [T], the keyframe packet at which decoding must start to get the frame
    packet_positions: np.ndarray  # int64 [N], byte offset in the file, -1 if the container does not provide it
    packet_sizes: np.ndarray  # int64 [N], bytes
    packet_times: np.ndarray  # int64 [N], where to seek for the packet, in ticks of the stream
    data_offsets: np.ndarray  # int64 [N], bytes from the position to the packet's data; -1 if it is not in one piece
    duration: Fraction  # seconds from the start of the first frame to the end of the last
    orientation: Orientation  # how frames are turned upright
    facts: dict[str, Any]
    """codec, container, pixel_format, height and width (as stored), num_streams; stamp: of the file; decoder: its
    settings; marks: see `skippable_frames.find_marks`; interlaced: whether the first frame is; false_keyframes: whether
    some packets are wrongly marked; changes: whether the stream's headers change."""

    @property
    def is_direct(self) -> bool:
        """Whether packets can be read directly from the file's bytes, without a demuxer."""
        return self.facts["decoder"] is not None and bool((self.data_offsets >= 0).all())

    @property
    def num_bytes(self) -> int:
        """Memory of the arrays, in bytes."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))

    def leading_packets(self, start: int) -> set[int]:
        """Packets after the keyframe `start` whose frames need what comes before it."""
        after = self.frame_packets > start
        return set(self.frame_packets[after & (self.frame_starts < start)].tolist())

    def find(self, packet: av.Packet) -> int | None:
        """The number of a packet; None if it is not in this index, or matches several."""
        same = (self.packet_positions == packet_position(packet)) & (self.packet_sizes == packet.size)
        numbers = np.flatnonzero(same)
        return int(numbers[0]) if len(numbers) == 1 else None

    def matches(self, packet: av.Packet, number: int) -> bool:
        """Whether a packet can be the one with this number."""
        if number >= len(self.packet_sizes):
            return False
        position = self.packet_positions[number]
        return packet.size == self.packet_sizes[number] and packet_position(packet) == position


class _Scan(NamedTuple):
    """The result of one pass over the packets of a stream; lists and tuples have an entry for each of the N packets."""

    pts: tuple
    dts: tuple
    positions: tuple
    sizes: tuple
    is_start: tuple  # marked as a keyframe, and one by its content
    num_displayed: tuple  # pictures
    is_false_keyframe: tuple  # marked as a keyframe, but not one by its content
    is_discard: tuple  # decoded, but never displayed
    data_offsets: tuple
    pictures: list[str]  # of MPEG-4, see `mpeg4_pictures`; else empty
    is_packed: bool  # packets may hold two pictures
    changes: bool  # the stream's headers
    last_duration: int | None  # of the last packet, in ticks
    first_frame: av.VideoFrame | None  # what the first packet gives by itself
    stamp: list[int]


def scan_video(path, container, stream) -> VideoIndex:
    """Makes the index of a freshly opened stream, and leaves its container at the end of the file.

    Raises VideoError if no frame can be decoded.
    """
    codec = stream.codec_context.codec.canonical_name
    settings = decoder_settings(stream.codec_context) if codec in DIRECT_CODECS else None
    scan = _read_all(path, container, stream, with_offsets=settings is not None)
    types = mpeg4_types(scan.pictures, scan.is_packed)
    order, keyframes, first_frame = _find_order(path, container, stream, scan, types)
    frame_packets = np.array([number for number in order if not scan.is_discard[number]])
    times = [p if d is None else d for p, d in zip(scan.pts, scan.dts, strict=True)]
    frame_times = [times[n] if scan.pts[n] is None else scan.pts[n] for n in frame_packets]
    return VideoIndex(
        frame_packets=frame_packets,
        frame_starts=decoding_starts(frame_packets, order, keyframes, len(scan.pts)),
        packet_positions=np.array(scan.positions),
        packet_sizes=np.array(scan.sizes),
        packet_times=np.array([0 if time is None else time for time in times]),
        data_offsets=np.array(scan.data_offsets),
        duration=duration_of(frame_times, scan.last_duration, stream),
        orientation=read_orientation(first_frame),
        facts={
            "codec": codec,
            "container": container.format.name,
            "pixel_format": stream.codec_context.pix_fmt,
            "height": stream.codec_context.height,
            "width": stream.codec_context.width,
            "num_streams": len(container.streams.video),
            "stamp": scan.stamp,
            "decoder": settings,
            "marks": find_marks(codec, stream.codec_context.extradata, scan.pictures, types, len(frame_packets)),
            "interlaced": bool(first_frame.interlaced_frame),
            "false_keyframes": any(scan.is_false_keyframe),
            "changes": scan.changes,
        },
    )


def _read_all(path, container, stream, with_offsets: bool) -> _Scan:
    """Reads every packet once. `with_offsets`: also locates the data of each in the file."""
    codec = stream.codec_context
    is_mpeg4 = codec.codec.canonical_name == "mpeg4"
    parse = packet_parser(codec.codec.canonical_name, codec.extradata)
    is_timed = container.format.name in TIMED_CONTAINERS
    rows, pictures, headers, is_packed, duration, first_frame = [], [], set(), False, None, None
    file, start = open_bytes(path)
    with file:
        unchanged, find_data = list(stamp(file.fileno())), _DataFinder(file, start)
        for packet in read_packets(container, stream):
            side_data = [part.data_type for part in packet.iter_sidedata()]
            if "encryption_info" in side_data:
                raise VideoError(path, "is encrypted; decrypt it first")
            data, position = bytes(packet), packet_position(packet)
            # Side data that the demuxer adds is not in the file's data.
            offset = find_data(-1 if side_data else position, data) if with_offsets else -1
            contents = parse(data) if parse else Contents(True, 1)
            headers.add(contents.header)
            is_start, is_marked = contents.is_start, packet.is_keyframe
            flags = is_marked and is_start, contents.num_displayed, is_marked and not is_start, packet.is_discard
            rows.append((packet.pts, packet.dts, position, len(data), *flags, offset))
            duration = packet.duration
            if is_mpeg4:
                pictures.append(mpeg4_pictures(data))
            if len(rows) == 1:
                is_packed = not is_timed and PACKED_MPEG4.search(data) is not None
                first_frame = _decode_alone(stream, packet)
    if not rows:
        raise VideoError(path, "no video packets")
    changes = _has_changes(headers - {b""}, codec.extradata or b"")
    return _Scan(*zip(*rows, strict=True), pictures, is_packed, changes, duration, first_frame, unchanged)


def _has_changes(headers: set[bytes], extradata: bytes) -> bool:
    """Whether the headers in the packets differ from each other or from the container's."""
    others = [header for header in headers if header not in extradata]
    return len(others) > (len(others) == len(headers))


def _find_order(path, container, stream, scan: _Scan, types):
    """-> (packet numbers in display order, keyframes at which decoding may start, the first frame)"""
    codec, has_b_frames = stream.codec_context.codec.canonical_name, stream.codec_context.has_b_frames
    is_timed = container.format.name in TIMED_CONTAINERS
    is_plain = codec in FRAME_PER_PACKET_CODECS and (is_timed or codec in {"mpeg4", "mjpeg"})
    is_plain = is_plain and all(number == 1 for number in scan.num_displayed)
    keyframes, first_frame = np.flatnonzero(scan.is_start), scan.first_frame
    if scan.is_packed:
        keyframes = packed_starts(keyframes, types)
    if types:
        keyframes = keyframes[[types[number] == "I" for number in keyframes]]
    if not is_plain or types is None:
        order = None
    elif "B" in types and not is_timed:
        order = order_by_type(types) if has_b_frames else None
    else:
        order = order_by_time(scan.pts, stream.codec_context.reorder_depth)
    # Frames displayed before the first keyframe may not be decodable, and two packets may be one interlaced frame.
    if order is None or order[0] != 0 or first_frame is None or first_frame.interlaced_frame:
        order, decoded_keyframes, first_frame = order_by_decoding(path)
        keyframes = np.intersect1d(keyframes, np.array(decoded_keyframes, dtype=np.int64))
    return order, keyframes, first_frame


class _DataFinder:
    """Locates the data of packets in a file. `start`: the video's first byte in the file."""

    def __init__(self, file, start: int):
        self._file, self._start = file, start
        self._offset = 0  # of the previous packet; most packets of a file have the same one

    def __call__(self, position: int, data: bytes) -> int:
        """Bytes from a packet's position to its data; -1 if it is not there, and for every packet after that.

        A position of -1 is unknown.
        """
        if self._offset >= 0 and not self._is_at(self._offset, position, data):
            offsets = (offset for offset in range(MAX_HEADER) if self._is_at(offset, position, data))
            self._offset = next(offsets, -1)
        return self._offset

    def _is_at(self, offset: int, position: int, data: bytes) -> bool:
        if position < 0:
            return False
        try:
            self._file.seek(self._start + position + offset)
            return self._file.read(len(data)) == data
        except OSError:  # the next read reports the error
            return False


def _decode_alone(stream, packet):
    """The frame decoded from a packet by itself, or None. The decoder is reset afterwards."""
    codec = stream.codec_context
    frames = (decode_packet(codec, packet, 0) or []) + decode_packet(codec, None)
    codec.flush_buffers()
    return next(iter(frames), None)


def duration_of(times, last_duration, stream):
    """Seconds from the first frame's start to the last one's end; by the stream's frame rate if times are missing.

    Where times go back by more than decoding order explains, recordings were joined: the first frame of the next one
    counts as one usual period after the last. So do frames that repeat a time.
    """
    if None in times or min(times) == max(times):
        return len(times) / Fraction(stream.average_rate or stream.guessed_rate or 25)
    steps = np.diff(times)
    joins = np.flatnonzero(steps < -MAX_REORDERED * np.median(np.abs(steps[steps != 0]))) + 1
    # Sorted: frames without times of their own have those of decoding, in which B-frames follow later frames.
    parts = [np.sort(part) for part in np.split(np.asarray(times), joins)]
    steps = np.concatenate([np.diff(part, prepend=part[0]) for part in parts])[1:]  # 0 at a join
    period = int(np.median(steps[steps > 0])) if (steps > 0).any() else 1
    span = int(np.where(steps > 0, steps, period).sum())
    return (span + (last_duration or Fraction(span, len(times) - 1))) * stream.time_base
