"""The base class of everything that reads frames by number: video files, other decoders, folders of images."""

from collections.abc import Iterable
from operator import index as to_int
from typing import ClassVar

import torch

from datasets.video.resize import View, resize_fast

ClipRequest = tuple[Iterable[int], View]
"""A clip to read: its frame numbers, and the view of them."""


class FrameReader:
    """Random access to frames. Subclasses set the attributes and implement `get_frames`.

    Attributes:
        path: where the frames are.
        num_frames: number of frames.
        fps: average frames per second; None if unknown.
        height, width: of the upright frames, in pixels.
    """

    can_fork: ClassVar[bool] = True
    """Whether it works in forked processes."""

    path: str
    num_frames: int
    fps: float | None
    height: int
    width: int

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self) -> None:
        """Closes what is open. The attributes stay available."""

    def get_frames(self, indices: Iterable[int]) -> torch.Tensor:
        """Frames by their numbers, in any order and with repeats -> uint8 [T, H, W, 3].

        Raises IndexError for a number outside 0 ... num_frames - 1, and VideoError if a frame cannot be read.
        """
        raise NotImplementedError

    def get_frames_on_device(self, indices: Iterable[int]) -> torch.Tensor:
        """`get_frames`, on the device that decodes."""
        return self.get_frames(indices)

    def get_resized_clips(self, requests: Iterable[ClipRequest]) -> list[torch.Tensor]:
        """Several clips in one pass -> uint8 [3, T, view.num_rows, view.num_columns] each, by `resize_fast`."""
        requests = [(self.check_indices(indices), view) for indices, view in requests]
        wanted = sorted(set().union(*(indices for indices, _ in requests)))
        frames = self.get_frames_on_device(wanted)
        where = {i: place for place, i in enumerate(wanted)}
        return [resize_fast(frames[[where[i] for i in indices]], view).cpu() for indices, view in requests]

    def get_clips(self, requests: Iterable[ClipRequest]) -> list[torch.Tensor]:
        """Like `get_resized_clips`, by the reader's fastest method; pixels may differ slightly."""
        return self.get_resized_clips(requests)

    def check_indices(self, indices: Iterable[int]) -> list[int]:
        """The numbers as a list of int. Raises IndexError for a number out of range."""
        indices = [to_int(i) for i in indices]
        for i in indices:
            if not 0 <= i < self.num_frames:
                raise IndexError(f"{self.path}: no frame {i}, the video has frames 0 to {self.num_frames - 1}")
        return indices
