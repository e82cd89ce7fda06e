"""Decoded pictures as upright RGB of one size."""

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from datasets.video.orientation import Orientation


class UprightRgb:
    """Converts the decoded pictures of a video, stored in height x width pixels."""

    def __init__(self, height: int, width: int, orientation: Orientation):
        self._stored_size, self._orientation = (height, width), orientation
        self._reformatter = VideoReformatter()
        self.height, self.width = (width, height) if orientation.swaps_sides else (height, width)

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """uint8 [H, W, 3], upright; valid until the next call. Pictures of other sizes are scaled."""
        height, width = self._stored_size
        plane = self._reformatter.reformat(frame, width, height, "rgb24", threads=1).planes[0]
        picture = np.ndarray((height, width, 3), np.uint8, plane, strides=(plane.line_size, 3, 1))
        return np.ascontiguousarray(self._orientation.turn(picture))
