"""The display order of a video's packets, and where decoding must start to get a frame.

Packets are stored in decoding order. Display order follows from their presentation times, in AVI from the types of
MPEG-4 pictures, and otherwise from decoding the whole file once.
"""

import re
from heapq import heappop, heappush
from itertools import chain, pairwise

import numpy as np

from datasets.video.container import VideoError, decode_packet, open_container, read_packets

MPEG4_PICTURE = b"\x00\x00\x01\xb6"  # start code; the two bits after it are the picture's type
PACKED_MPEG4 = re.compile(rb"DivX\d+(b|Build)\d+p")  # how encoders that put two pictures into a packet say so
MAX_EMPTY = 19  # bytes; a packet of up to this size may hold no picture


def order_by_time(times, num_delayed):
    """Packet numbers in the order of their presentation times; None if that cannot be the display order.

    `num_delayed`: number of frames that the decoder holds back for reordering. Times that would need more are broken,
    as where recordings were joined, and so are times without any reordering if the decoder holds frames back.
    """
    if None in times or len(set(times)) < len(times):
        return None
    held, order = [], []
    for number, time in enumerate(times):
        heappush(held, (time, number))
        if len(held) > num_delayed:
            order.append(heappop(held)[1])
    order += [number for _, number in sorted(held)]
    is_increasing = all(times[before] < times[after] for before, after in pairwise(order))
    is_reordered = order != sorted(order)
    return order if is_increasing and is_reordered == (num_delayed > 0) else None


def order_by_type(types):
    """Packet numbers of MPEG-4 in display order; None if a B-frame lacks one of the frames it refers to.

    A B-frame is displayed as soon as it is decoded, any other frame when the next one that is not a B-frame arrives.
    """
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


def order_by_decoding(path):
    """Decodes the whole video -> (packet number of each frame, those of keyframes, the first frame)."""
    container, stream = open_container(path)
    with container:
        order, keyframes, first_frame = [], [], None
        for number, packet in enumerate(chain(read_packets(container, stream), [None])):
            for frame in decode_packet(stream.codec_context, packet, number) or []:
                order.append(frame.pts)
                if frame.key_frame:
                    keyframes.append(frame.pts)
                first_frame = first_frame or frame
    if not order:
        raise VideoError(path, "no frame can be decoded")
    if None in order or len(set(order)) < len(order):
        raise VideoError(path, "its frames cannot be told apart")
    return order, keyframes, first_frame


def decoding_starts(frame_packets, order, keyframes, num_packets):
    """For each frame [T] the last keyframe from which it can be decoded.

    That keyframe precedes the frame in the file and is not displayed after it: B-frames that follow a keyframe but are
    displayed before it need the frames before it.
    """
    rank = np.full(num_packets, num_packets)  # [N], position in display order; packets that are not displayed are last
    rank[order] = np.arange(len(order))
    rank[0] = -1  # decoding may always start at the first packet
    keyframes = np.union1d([0], keyframes)
    choice = np.searchsorted(keyframes, frame_packets, side="right") - 1  # [T]
    while (too_late := rank[keyframes[choice]] > rank[frame_packets]).any():
        choice -= too_late
    return keyframes[choice]


def mpeg4_pictures(data):
    """The types of the pictures in a packet, one letter each: "I", "P", "B" or "S".

    "" for a packet so small that it may mean "same as before", which decodes to nothing.
    """
    if len(data) <= MAX_EMPTY:
        return ""
    return "".join("IPBS"[part[0] >> 6] for part in data.split(MPEG4_PICTURE)[1:] if part)


def mpeg4_types(pictures, is_packed):
    """The type of the picture decoded at each packet, from the pictures that packets hold; None if that is unclear.

    In old files one packet may contain a P- and a B-frame. The decoder keeps the second until the next packet, then
    keeps that packet's picture, and so on up to an empty packet that makes up for it. What it still keeps at the end of
    the file is not displayed.
    """
    types, kept = [], ""
    for held in pictures:
        if (kept + held)[1:] not in ({"", "B"} if is_packed else {""}) or not kept + held:
            return None
        types.append((kept + held)[0])
        kept = (kept + held)[1:]
    return types


def packed_starts(keyframes, types):
    """The keyframes of a packed video at which decoding may start; none where types are unclear.

    If two B-frames follow in the file, the decoder drops the first, because it lacks the frames it refers to. It also
    drops the packet that contains the second, and takes the empty packet after them for a picture.
    """
    if types is None:
        return keyframes[:0]
    return keyframes[[types[number + 1 : number + 3] != ["B", "B"] for number in keyframes]]
