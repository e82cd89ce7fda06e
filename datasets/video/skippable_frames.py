"""Which pictures of a video no other one refers to: where they are not wanted, they need not be decoded.

Decoders leave such pictures out when they are told to (FFmpeg's `skip_frame`), packet by packet. They know them by
marks in H.264 and HEVC, and by their type in MPEG-4, where no picture refers to a B-frame.

In old DivX and Xvid files the B-frames between two others come late: the first lies in the packet of the picture before
them, each of the rest in the packet that the one before should have had, and an empty packet follows. The decoder keeps
a B-frame until the next packet comes. If it then leaves that B-frame out, it loses what this packet holds, and would
take the empty one for a picture. So B-frames in a row are left out together: the packet of the first is sent to make
the decoder drop what it keeps, those of the others are not sent.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Literal

import numpy as np

Marks = Literal["each", "rows"]
"""How unneeded pictures can be left out: each by itself, or B-frames in a row together."""


def find_marks(
    codec: str, extradata: bytes | None, pictures: Sequence[str], types: Sequence[str] | None, num_frames: int
) -> Marks | None:
    """How a decoder can leave out what is unneeded in a video; None where it cannot be trusted to know.

    Args:
        codec: its name. Its settings as the container has them are `extradata`.
        pictures: of MPEG-4, the types of the pictures that each packet holds.
        types: of MPEG-4, the type of the picture that is decoded at each packet; None if unclear.
        num_frames: how many frames come out.
    """
    if codec == "h264" or (codec == "hevc" and has_one_layer(extradata)):
        return "each"
    if not pictures or types is None:
        return None
    if types == pictures:
        return "each"
    return "rows" if num_frames == len(pictures) else None


def has_one_layer(extradata: bytes | None) -> bool:
    """Whether a file says of its HEVC that all pictures are of one temporal layer.

    Then one that is marked as unreferenced is needed by no other; pictures of a higher layer may refer to it. (H.265,
    sub-layer non-reference pictures; ISO/IEC 14496-15, numTemporalLayers in the decoder configuration record.)
    """
    return extradata is not None and len(extradata) > 21 and extradata[0] == 1 and extradata[21] >> 3 & 7 == 1


def left_out(marks: Marks, frame_packets: np.ndarray, first: int, wanted: set[int]) -> tuple[set[int], set[int]]:
    """Of the packets from `first` to the last wanted one: those at which the decoder is to leave out what is unneeded,
    and those that are not sent to it. `frame_packets` [T]: the packet of each frame."""
    numbers = range(first, max(wanted) + 1)
    if marks == "each":
        return set(numbers) - wanted, set()
    frames = np.argsort(frame_packets)[first : max(wanted) + 1]  # each packet has one
    comes_late = frames < np.maximum.accumulate(frames)  # a B-frame is shown before one that was decoded before it
    at, unsent = set(), set()
    for is_b_frame, row in groupby(numbers, key=lambda number: comes_late[number - first]):
        row = list(row)
        if is_b_frame and wanted.isdisjoint(row):
            at.add(row[0])
            unsent.update(row[1:])
    return at, unsent
