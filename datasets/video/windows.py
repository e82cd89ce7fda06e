"""Sliding windows over a sequence of frames: each becomes the same views as a video of its length."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from datasets.video.dataiter import arrange_views
from datasets.video.sampling import EvenSampling, EvenSegments
from datasets.video.stream import StreamFrame
from datasets.video.transforms import EvalView


class Window(NamedTuple):
    """A window of a stream of frames."""

    start_seconds: float
    end_seconds: float  # the end of its last frame
    views: torch.Tensor  # uint8 [V, 3, T, S, S], see `VideoViews`


class SlidingWindows:
    """Windows of `num_frames` frames, `stride` frames apart.

    Frames are kept only if some window shows them, resized and cropped, and only while a window may need them. Frames
    after the last complete window are in no window; a video shorter than a window is one window.

    Args:
        sampling: which frames of a window form its clips.
          view: the part of each frame to keep.
        num_frames, stride: in frames, at least 1.
        fps: frames per second, for clips whose interval is in seconds.
    """

    def __init__(self, sampling: EvenSampling | EvenSegments, view: EvalView, num_frames: int, stride: int, fps: float):
        if num_frames < 1 or stride < 1:
            raise ValueError(f"num_frames is {num_frames} and stride {stride}; expected both to be at least 1")
        self.num_frames, self.stride = num_frames, stride
        self._sampling, self._view, self._fps = sampling, view, fps
        self._clips = self._sample(num_frames)
        self._offsets = sorted(set().union(*self._clips))

    def slide(
        self, frames: Iterable[StreamFrame], to_rgb: Callable[[StreamFrame], np.ndarray], first: int = 0
    ) -> Iterator[Window]:
        """The windows from number `first` on, each as soon as its last frame has arrived."""
        crops: dict[int, torch.Tensor] = {}  # by frame: uint8 [M, 3, 1, S, S]
        starts: dict[int, float] = {}  # by the number of a window's first frame: when it is shown
        frame, start = None, first * self.stride  # of the next window
        for frame in frames:
            number = frame.number
            if number % self.stride == 0 and number >= start:
                starts[number] = frame.seconds
            if self._is_needed(number, start):
                crops[number] = self._crop(to_rgb(frame))
            if number == start + self.num_frames - 1:
                yield self._window(starts.pop(start), frame.seconds, start, self._clips, crops)
                start += self.stride
                for gone in [number for number in crops if number < start]:
                    del crops[gone]
        if frame is not None and start == 0:  # too short for a window
            clips = self._sample(frame.number + 1)
            yield self._window(0.0, frame.seconds, 0, clips, crops)

    def _sample(self, num_frames: int) -> list[list[int]]:
        return [self._sampling(num_frames, clip, fps=self._fps) for clip in range(self._sampling.num_clips)]

    def _is_needed(self, number: int, start: int) -> bool:
        """Whether a window that begins at `start` or later shows the frame; all frames may be, before the first."""
        if start == 0 and number < self.num_frames:
            return True
        return any((number - offset) % self.stride == 0 and number - offset >= start for offset in self._offsets)

    def _crop(self, pixels: np.ndarray) -> torch.Tensor:
        return self._view(torch.from_numpy(pixels)[None])

    def _window(
        self, start: float, last: float, first: int, clips: list[list[int]], crops: dict[int, torch.Tensor]
    ) -> Window:
        shown = sorted(set().union(*clips))
        kept = torch.cat([crops[first + offset] for offset in shown], dim=2)  # [M, 3, F, S, S]
        return Window(start, last + 1 / self._fps, arrange_views(kept, shown, clips))
