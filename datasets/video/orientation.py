"""How stored frames are turned upright: by quarter turns, mirrored or not; eight orientations in all.

The orientation is in the file's display matrix (phones, front cameras), or in each picture's display orientation
message in an H.264 or HEVC stream; FFmpeg provides both as side data of the decoded frame.
"""

import math
import struct
from typing import NamedTuple

import av
import numpy as np
from av.sidedata.sidedata import Type

from datasets.video.resize import View


class Orientation(NamedTuple):
    """Upright is the stored picture, mirrored left to right if `is_mirrored`, then turned by `rotation`."""

    rotation: int = 0  # degrees counter-clockwise: 0, 90, 180 or 270
    is_mirrored: bool = False

    @property
    def is_upright(self) -> bool:
        return self == Orientation()

    @property
    def swaps_sides(self) -> bool:
        """Whether the height of stored frames is the width of upright ones."""
        return self.rotation % 180 != 0

    def turn(self, picture: np.ndarray, axes: tuple[int, int] = (0, 1)) -> np.ndarray:
        """A view of a stored picture, turned upright. `axes`: the axes of rows and columns."""
        picture = np.flip(picture, axes[1]) if self.is_mirrored else picture
        return np.rot90(picture, self.rotation // 90, axes) if self.rotation else picture

    def turn_back(self, picture: np.ndarray, axes: tuple[int, int] = (0, 1)) -> np.ndarray:
        """A view of an upright picture, as it is stored: undoes `turn`."""
        picture = np.rot90(picture, -self.rotation // 90, axes) if self.rotation else picture
        return np.flip(picture, axes[1]) if self.is_mirrored else picture

    def stored_view(self, view: View) -> View:
        """The view of stored frames that becomes `view` of upright ones."""
        for _ in range(self.rotation // 90):
            height, width, top, left, num_rows, num_columns = view
            view = View(width, height, left, height - top - num_rows, num_columns, num_rows)
        if self.is_mirrored:
            view = view._replace(left=view.width - view.left - view.num_columns)
        return view

    def filters(self) -> list[str]:
        """FFmpeg's filters that turn stored frames upright, in order."""
        turns = {90: ["transpose=cclock"], 180: ["hflip", "vflip"], 270: ["transpose=clock"]}
        return ["hflip"] * self.is_mirrored + turns.get(self.rotation, [])


def read_orientation(frame: av.VideoFrame) -> Orientation:
    """The orientation of a decoded frame; other angles count as the nearest quarter turn."""
    message = frame.side_data.get(Type.DISPLAYMATRIX)
    return Orientation() if message is None else from_matrix(struct.unpack("9i", bytes(message)))


def from_matrix(matrix: tuple[int, ...]) -> Orientation:
    """The orientation of a display matrix a b u, c d v, x y w; upright if it maps everything to a line or point.

    It puts the stored pixel (column, row) at (a column + c row, b column + d row). ISO/IEC 14496-12, 6.2.2.
    """
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    determinant = a * d - b * c
    if determinant == 0:
        return Orientation()
    if determinant < 0:  # mirroring comes first, so take it out of the columns
        a, b = -a, -b
    angle = math.degrees(math.atan2(c - b, a + d))
    return Orientation(round(angle / 90) * 90 % 360, determinant < 0)
