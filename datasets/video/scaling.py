"""Crops and scales decoded pictures before they are converted to RGB, so that fewer pixels are converted.

Conversion at full size and a separate resize cost several times as much. The view is the same within half a pixel, but
not bit for bit: chroma and luma are scaled at their own resolutions, then converted. So this is for training;
evaluation uses `resize.resize_exact`.
"""

from fractions import Fraction

import av
import numpy as np
from av.filter import Graph

from datasets.video.resize import View

ALIGNMENT = 4  # pixels; in all common formats at most four neighbors share a chroma sample


class ViewScaler:
    """Takes one view of pictures of one size and format.

    Args:
        frame: a picture of that size and format.
        view: the part to keep; see `View`.
    """

    def __init__(self, frame: av.VideoFrame, view: View):
        self.kind = _kind(frame)
        top, height, num_rows, self._top = _aligned_part(frame.height, view.height, view.top, view.num_rows)
        left, width, num_columns, self._left = _aligned_part(frame.width, view.width, view.left, view.num_columns)
        self._size = view.num_rows, view.num_columns
        # One byte per value, a plane per channel; but without scaling, FFmpeg 8 leaves the last columns of some widths
        # black in these.
        pixel_format = "gbrp" if (height, width) != (num_rows, num_columns) else "rgb24"
        self._graph = Graph()
        self._graph.threads = 1
        steps = [
            self._graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
            ),
            self._graph.add("crop", f"{width}:{height}:{left}:{top}"),
            self._graph.add("scale", f"{num_columns}:{num_rows}:flags=bilinear"),
            self._graph.add("format", pixel_format),
            self._graph.add("buffersink"),
        ]
        self._graph.link_nodes(*steps).configure()
        self._source, self._sink = steps[0], steps[-1]

    def fits(self, frame: av.VideoFrame) -> bool:
        """Whether the picture has the size and format that this scaler was made for."""
        return self.kind == _kind(frame)

    def __call__(self, frame: av.VideoFrame, out: np.ndarray) -> None:
        """Writes the view of a picture into `out`, uint8 [3, num_rows, num_columns]."""
        self._source.push(frame)
        planes = self._sink.pull().planes
        rows, columns = slice(self._top, self._top + self._size[0]), slice(self._left, self._left + self._size[1])
        if len(planes) == 1:
            (plane,) = planes
            pixels = np.ndarray((plane.height, plane.width, 3), np.uint8, plane, strides=(plane.line_size, 3, 1))
            out[:] = pixels[rows, columns].transpose(2, 0, 1)
            return
        for plane, channel in zip(planes, (1, 2, 0), strict=True):  # green, blue, red
            pixels = np.ndarray((plane.height, plane.width), np.uint8, plane, strides=(plane.line_size, 1))
            out[channel] = pixels[rows, columns]


def _kind(frame: av.VideoFrame) -> tuple:
    return frame.width, frame.height, frame.format.name


def _aligned_part(num_in: int, num_out: int, first: int, count: int) -> tuple[int, int, int, int]:
    """The part of one axis to scale so that the result contains `count` pixels from `first` on.

    Returns the first input pixel, the number of input pixels, the number of output pixels, and where among these the
    wanted ones start. The part is aligned to chroma samples, so it is a little larger than wanted.
    """
    scale = num_out / num_in
    start = int(first / scale) // ALIGNMENT * ALIGNMENT
    end = min(num_in, -(-int((first + count) / scale + 1) // ALIGNMENT) * ALIGNMENT)
    num_scaled = max(round((end - start) * scale), count)
    return start, end - start, num_scaled, min(max(round(first - start * scale), 0), num_scaled - count)
