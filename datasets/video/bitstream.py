"""What a packet contains, by the first bits of its frames: can decoding start there, and how many are displayed?

Its headers, too: when they change, frames change their size, colors or scanning.

Containers flag keyframes, but not always correctly: without a table of keyframes every packet is flagged, and H.264
with gradual refresh flags packets from which the frame is complete only many frames later. Some packets are never
displayed (the hidden frames of AV1 and VP9) or contain no frame at all.

H.264: Rec. ITU-T H.264, 7.3 and D.1.8; HEVC: H.265, 7.3.1.2; VP9: bitstream specification, 6.2 and annex B; AV1:
bitstream specification, 5.3 and 5.9.2.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

H264_SEI, H264_SPS, HEVC_SPS = 6, 7, 33  # kinds of units: supplemental information, sequence parameters
UNIT_HEADER = 24  # bytes; a slice header begins with what is read here
MPEG4_LAYER = re.compile(rb"\x00\x00\x01[\x20-\x2f].*?(?=\x00\x00\x01|$)", re.DOTALL)
MJPEG_FRAME = re.compile(rb"\xff[\xc0-\xc2]\x00.(.{6})", re.DOTALL)  # bits, height, width, number of components


class Contents(NamedTuple):
    """The contents of a packet."""

    is_start: bool  # a decoder that starts here gives this picture and all displayed after it
    num_displayed: int  # pictures that are displayed
    header: bytes = b""  # of the stream, as far as it describes how pictures are stored; empty if the packet has none


class Malformed(ValueError):
    """A packet that is invalid for its codec."""


PacketParser = Callable[[bytes], Contents]


def packet_parser(codec: str, extradata: bytes | None) -> PacketParser | None:
    """A function that parses a packet of the codec; None for codecs that are not parsed.

    A damaged packet counts as one picture at which decoding cannot start. For codecs without hidden packets and with
    correctly flagged keyframes, only the header is read.

    Args:
        codec: FFmpeg's name for it.
        extradata: the codec's headers, as the container stores them.
    """
    if codec not in PARSERS:
        return None
    parse, length_size = PARSERS[codec], _length_size(codec, extradata or b"")

    def parse_packet(data: bytes) -> Contents:
        try:
            return parse(_nal_units(data, length_size) if codec in ("h264", "hevc") else data)
        except (Malformed, IndexError):
            return Contents(False, 1)

    return parse_packet


# H.264 and HEVC: units with a header each --------------------------------------------------------------------------


def _length_size(codec: str, extradata: bytes) -> int:
    """The number of bytes in a unit's length field; 0 if start codes separate the units."""
    if codec == "h264" and len(extradata) > 4 and extradata[0] == 1:
        return (extradata[4] & 3) + 1
    if codec == "hevc" and len(extradata) > 21 and (extradata[0] or extradata[1] or extradata[2] > 1):
        return (extradata[21] & 3) + 1
    return 0


def _nal_units(data: bytes, length_size: int) -> Iterator[bytes]:
    """The first bytes of each unit, enough for its header; all of H.264's supplemental information."""
    for start, end in _lengths(data, length_size) if length_size else _start_codes(data):
        if start < end:
            if data[start] & 128:  # always zero
                raise Malformed
            yield data[start : end if data[start] & 31 == H264_SEI else min(end, start + UNIT_HEADER)]


def _lengths(data: bytes, size: int) -> Iterator[tuple[int, int]]:
    position = 0
    while position + size <= len(data):
        start = position + size
        position = start + int.from_bytes(data[position:start])
        if position > len(data):
            raise Malformed
        yield start, position


def _start_codes(data: bytes) -> Iterator[tuple[int, int]]:
    start = data.find(b"\0\0\1") + 3
    while start >= 3:
        following = data.find(b"\0\0\1", start)
        yield start, len(data) if following < 0 else following
        start = following + 3


def _parse_h264(units: Iterator[bytes]) -> Contents:
    has_idr, slice_types, recovery_count, header = False, set(), None, b""
    for unit in units:
        kind = unit[0] & 31
        if kind in (1, 2, 5):  # slices; 2 is the first part of a partitioned one
            has_idr |= kind == 5
            bits = _Bits(_unescape(unit[1:]))
            bits.read_golomb()  # first macroblock
            slice_types.add(bits.read_golomb() % 5)
        elif kind == H264_SEI:
            recovery_count = _recovery_count(_unescape(unit[1:]), recovery_count)
        elif kind == H264_SPS:
            header = unit
    if recovery_count is None:
        is_start = has_idr or (bool(slice_types) and slice_types <= {2, 4})  # I and SI
    else:
        is_start = has_idr or recovery_count == 0
    return Contents(is_start and bool(slice_types), int(bool(slice_types)), header)


def _recovery_count(sei: bytes, found: int | None) -> int | None:
    """After how many frames the picture is complete, by a recovery point message; `found` if `sei` has none."""
    position = 0
    while position + 2 < len(sei):
        numbers = []
        for _ in range(2):  # type and size, each a sum of bytes up to the first that is not 255
            number = 0
            while sei[position] == 255:
                number, position = number + 255, position + 1
            numbers.append(number + sei[position])
            position += 1
        kind, size = numbers
        if kind == 6:
            return _Bits(sei[position : position + size]).read_golomb()
        position += size
    return found


def _parse_hevc(units: Iterator[bytes]) -> Contents:
    of_base_layer = [unit for unit in units if len(unit) >= 2 and not unit[0] & 1 and not unit[1] >> 3]
    kinds = {unit[0] >> 1 & 63: unit for unit in of_base_layer}
    header = kinds.get(HEVC_SPS, b"")
    return Contents(any(16 <= kind <= 23 for kind in kinds), int(any(kind <= 31 for kind in kinds)), header)


# VP9 and AV1: frames with a flag that says whether they are displayed ----------------------------------------------


def _parse_vp9(data: bytes) -> Contents:
    frames = list(_vp9_frames(data))
    kinds = [_vp9_frame(frame) for frame in frames]
    is_start = bool(kinds) and kinds[0][0]
    header = frames[0][4:8] if is_start else b""  # after the sync code: colors, width, most of the height
    return Contents(is_start, sum(is_displayed for _, is_displayed in kinds), header)


def _vp9_frames(data: bytes) -> Iterator[bytes]:
    """The frames in a packet: one, or several with an index of their sizes at the end."""
    last = data[-1]
    size_bytes, num_frames = (last >> 3 & 3) + 1, (last & 7) + 1
    index_size = 2 + size_bytes * num_frames
    if last & 0xE0 != 0xC0 or len(data) < index_size or data[-index_size] != last:
        yield data
        return
    position = 0
    for number in range(num_frames):
        start = len(data) - index_size + 1 + number * size_bytes
        size = int.from_bytes(data[start : start + size_bytes], "little")
        if size:
            yield data[position : position + size]
        position += size


def _vp9_frame(frame: bytes) -> tuple[bool, bool]:
    """-> (is it a keyframe, is it displayed)"""
    bits = _Bits(frame[:2])
    if bits.read(2) != 2:
        raise Malformed
    if bits.read(1) + 2 * bits.read(1) == 3:
        bits.read(1)
    if bits.read(1):  # shows an earlier frame
        return False, True
    is_inter, is_displayed = bits.read(1), bits.read(1)
    return not is_inter, bool(is_displayed)


def _parse_av1(data: bytes) -> Contents:
    position, is_start, num_frames, num_displayed, sequence = 0, False, 0, 0, b""
    while position < len(data):
        header, position = data[position], position + 1
        position += header >> 2 & 1  # extension
        size = len(data) - position
        if header >> 1 & 1:
            size, position = _read_leb128(data, position)
        if header >> 3 & 15 == 1:
            sequence = data[position : position + size]
        if header >> 3 & 15 in (3, 6):  # frame header, frame
            bits = _Bits(data[position : position + 1])
            shows_earlier, kind, is_displayed = bits.read(1), bits.read(2), bits.read(1)
            if num_frames == 0:  # a keyframe displayed only later is not a start: the frames in between need others
                is_start = not shows_earlier and kind == 0 and bool(is_displayed)
            num_frames += 1
            num_displayed += shows_earlier or is_displayed
        position += size
    return Contents(is_start, num_displayed, sequence)


def _read_leb128(data: bytes, position: int) -> tuple[int, int]:
    """-> (number, position after it)"""
    number = 0
    for shift in range(0, 56, 7):
        byte, position = data[position], position + 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, position
    raise Malformed


# Codecs of which only the header is read ---------------------------------------------------------------------------


def _parse_vp8(data: bytes) -> Contents:
    return Contents(True, 1, data[6:10] if not data[0] & 1 else b"")  # width and height of a keyframe


def _parse_mpeg12(data: bytes) -> Contents:
    start = data.find(b"\0\0\1\xb3")
    return Contents(True, 1, data[start + 4 : start + 8] if start >= 0 else b"")  # width, height, aspect, frame rate


def _parse_mpeg4(data: bytes) -> Contents:
    layer = MPEG4_LAYER.search(data)
    return Contents(True, 1, layer[0] if layer else b"")


def _parse_mjpeg(data: bytes) -> Contents:
    frame = MJPEG_FRAME.search(data)
    return Contents(True, 1, frame[1] if frame else b"")


PARSERS: dict[str, Callable] = {
    "h264": _parse_h264,
    "hevc": _parse_hevc,
    "vp8": _parse_vp8,
    "vp9": _parse_vp9,
    "av1": _parse_av1,
    "mpeg1video": _parse_mpeg12,
    "mpeg2video": _parse_mpeg12,
    "mpeg4": _parse_mpeg4,
    "mjpeg": _parse_mjpeg,
}


# Bits --------------------------------------------------------------------------------------------------------------


class _Bits:
    """Reads bits, the highest of each byte first."""

    def __init__(self, data: bytes):
        self._number, self._left = int.from_bytes(data), 8 * len(data)

    def read(self, count: int) -> int:
        if count > self._left:
            raise Malformed
        self._left -= count
        return self._number >> self._left & (1 << count) - 1

    def read_golomb(self) -> int:
        """An Exp-Golomb code without sign: as many zeros as bits follow the first one, and the number plus one."""
        rest = self._number & (1 << self._left) - 1
        count = 2 * (self._left - rest.bit_length()) + 1
        if count > self._left:
            raise Malformed
        self._left -= count
        return (rest >> self._left) - 1


def _unescape(data: bytes) -> bytes:
    """Without the bytes that keep start codes from appearing in a unit."""
    return data.replace(b"\0\0\3", b"\0\0")
