"""Which pictures of a video no other picture refers to: the decoder may skip these if they are not wanted.

Decoders skip such pictures on request (FFmpeg's `skip_frame`), packet by packet. They recognize them by marks in H.264
and HEVC, and by type in MPEG-4, where no picture refers to a B-frame.

In old DivX and Xvid files, B-frames between two other frames come late: the first is in the packet of the picture
before them, each further one in the packet of the B-frame before it, and an empty packet follows. The decoder keeps a
B-frame until the next packet comes. If it then skips that B-frame, it loses the contents of this packet, and would take
the empty one for a picture. So consecutive B-frames are skipped together: the packet of the first is sent, to make the
decoder drop what it keeps, and the packets of the others are not.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Literal

import numpy as np

Marks = Literal["each", "rows"]
"""How skippable pictures can be skipped: each on its own, or consecutive B-frames together."""


def find_marks(
    codec: str, extradata: bytes | None, pictures: Sequence[str], types: Sequence[str] | None, num_frames: int
) -> Marks | None:
    """How the decoder can skip pictures of a video; None if it may not recognize them correctly.

    Args:
        codec: FFmpeg's name for it.
        extradata: the codec's headers, as the container stores them.
        pictures: for MPEG-4, the types of the pictures in each packet.
        types: for MPEG-4, the type of the picture decoded at each packet; None if unclear.
        num_frames: number of decoded frames.
    """
    if codec == "h264" or (codec == "hevc" and has_one_layer(extradata)):
        return "each"
    if not pictures or types is None:
        return None
    if types == pictures:
        return "each"
    return "rows" if num_frames == len(pictures) else None


def has_one_layer(extradata: bytes | None) -> bool:
    """Whether an HEVC file says that all its pictures are in one temporal layer.

    Then no picture refers to one marked as unreferenced; with more layers, pictures of a higher layer may.
    (H.265, sub-layer non-reference pictures; ISO/IEC 14496-15, numTemporalLayers in the decoder configuration record.)
    """
    return extradata is not None and len(extradata) > 21 and extradata[0] == 1 and extradata[21] >> 3 & 7 == 1


def find_skippable(marks: Marks, frame_packets: np.ndarray, first: int, wanted: set[int]) -> tuple[set[int], set[int]]:
    """What to skip between packet `first` and the last wanted one.

    `frame_packets` [T] is the packet of each frame. Returns the packets at which the decoder skips what it can, and
    those that are not sent to it at all.
    """
    numbers = range(first, max(wanted) + 1)
    if marks == "each":
        return set(numbers) - wanted, set()
    frames = np.argsort(frame_packets)[first : max(wanted) + 1]  # each packet has one
    is_late = frames < np.maximum.accumulate(frames)  # a B-frame is displayed before a frame that was decoded before it
    skipped, unsent = set(), set()
    for is_b_frame, row in groupby(numbers, key=lambda number: is_late[number - first]):
        row = list(row)
        if is_b_frame and wanted.isdisjoint(row):
            skipped.add(row[0])
            unsent.update(row[1:])
    return skipped, unsent
