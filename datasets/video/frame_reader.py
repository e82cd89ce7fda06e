"""What all readers have in common, whatever their frames come from."""

from collections.abc import Iterable
from operator import index as to_int
from typing import ClassVar

import torch

from datasets.video.resize import View, resize_fast

Request = tuple[Iterable[int], View]
"""A clip that is wanted: the numbers of its frames, and the view that is taken of them."""


class FrameReader:
    """Random access to frames. Subclasses set the attributes and say how frames are read.

    Attributes:
        path: where the frames are.
        num_frames: how many there are.
        fps: frames per second on average; None where that is unknown.
        height, width: of the upright frames, in pixels.
    """

    can_fork: ClassVar[bool] = True
    """Whether it works in processes that were forked."""

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
        """Closes what is open. What describes the frames stays available."""

    def get_frames(self, indices: Iterable[int]) -> torch.Tensor:
        """Frames by their numbers, in any order and as often as asked for -> uint8 [T, H, W, 3].

        Raises IndexError for a number outside 0 ... num_frames - 1, and VideoError if a frame cannot be read.
        """
        raise NotImplementedError

    def frames_in_place(self, indices: Iterable[int]) -> torch.Tensor:
        """`get_frames`, left on the device that decodes."""
        return self.get_frames(indices)

    def get_resized(self, requests: Iterable[Request]) -> list[torch.Tensor]:
        """Several clips in one pass -> uint8 [3, T, view.num_rows, view.num_columns] each, by `resize_fast`."""
        requests = [(self.check_indices(indices), view) for indices, view in requests]
        wanted = sorted(set().union(*(indices for indices, _ in requests)))
        frames = self.frames_in_place(wanted)
        where = {i: place for place, i in enumerate(wanted)}
        return [resize_fast(frames[[where[i] for i in indices]], view).cpu() for indices, view in requests]

    def get_clips(self, requests: Iterable[Request]) -> list[torch.Tensor]:
        """`get_resized`, or something faster that gives nearly the same."""
        return self.get_resized(requests)

    def check_indices(self, indices: Iterable[int]) -> list[int]:
        """The numbers as whole numbers. Raises IndexError for one that is not a frame's."""
        indices = [to_int(i) for i in indices]
        for i in indices:
            if not 0 <= i < self.num_frames:
                raise IndexError(f"{self.path}: no frame {i}, the video has frames 0 to {self.num_frames - 1}")
        return indices
