"""The raw-video dataiter: from a list of video files to clips, which `datasets.dataloader` batches.

Clips are passed on as uint8; color jitter and normalization happen on the device (see `color.py`). A worker opens a
video when a sample needs it, decodes in one thread, and closes the video before it returns the clip.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from datasets.file_list import FileItem, FileList
from datasets.samples import EvalViews, TrainSamples
from datasets.video.container import VideoError
from datasets.video.frame_reader import FrameReader
from datasets.video.multigrid import StepGrids
from datasets.video.open_video import VideoOpener
from datasets.video.sampling import EvenSampling, EvenSegments, RandomSampling, RandomSegments
from datasets.video.transforms import EvalView, TrainView


class TrainClips(TrainSamples):
    """Training clips: `clip` (uint8 [3, T, S, S]) and the random input of `ColorTransform`; see `TrainSamples`.

    Args:
        videos, seed, stream, repeats, weights: see `TrainSamples`.
        sampling: which frames make a clip.
        view: the part of each frame to keep.
          opener: how videos are opened; None: with `VideoReader`, without a time limit.
          grids: the sampling and the view of each sample by its number, if they vary (multigrid).
    """

    stays_on_cpu = ("noise_seed",)

    def __init__(
        self,
        videos: FileList,
        sampling: RandomSampling | RandomSegments,
        view: TrainView,
        seed: int,
        stream: str = "train",
        repeats: int = 1,
        weights: np.ndarray | None = None,
        opener: VideoOpener | None = None,
        grids: StepGrids | None = None,
    ):
        super().__init__(videos, seed, stream, repeats, weights)
        self.sampling, self.view, self.opener, self.grids = sampling, view, opener or VideoOpener(), grids

    def __getitem__(self, number: int) -> dict[str, Any]:
        self._set_grid(number)
        return super().__getitem__(number)

    def __getitems__(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        self._set_grid(numbers[0])  # all samples of a batch belong to one step
        return super().__getitems__(numbers)

    def _set_grid(self, number: int) -> None:
        """From here on, clips have the length and the size of sample `number`."""
        if self.grids is not None:
            self.sampling, self.view = self.grids(number)

    def read(self, item: FileItem, rng: np.random.Generator) -> dict[str, Any]:
        return self.read_several(item, [rng])[0]

    def read_whole(self, item: FileItem, rng: np.random.Generator) -> torch.Tensor:
        with self.opener(item.path) as reader:
            return reader.get_frames(_choose_frames(reader, self.sampling, rng))

    def read_several(self, item: FileItem, rngs: list[np.random.Generator]) -> list[dict[str, Any]]:
        """A clip for each generator, in one pass over the video."""
        with self.opener(item.path) as reader:
            chosen, drawn = [], []
            for rng in rngs:
                chosen.append(_choose_frames(reader, self.sampling, rng))
                drawn.append(self.view.draw(reader.height, reader.width, rng))
            get_clips = reader.get_clips if self.view.settings.direct else reader.get_resized_clips
            clips = get_clips((indices, one.view) for indices, one in zip(chosen, drawn, strict=True))
        return [{"clip": self.view.finish(clip, one), **one.colors} for clip, one in zip(clips, drawn, strict=True)]


class VideoViews(EvalViews):
    """Every view of one video for evaluation: `num_clips` along time times `num_crops` across the frame.

    `views` is uint8 [V, 3, T, S, S], V = num_clips x num_crops, clips outermost; see `EvalViews`. `opener` as in
    `TrainClips`.
    """

    def __init__(
        self, videos: FileList, sampling: EvenSampling | EvenSegments, view: EvalView, opener: VideoOpener | None = None
    ):
        super().__init__(videos)
        self.sampling, self.view, self.opener = sampling, view, opener or VideoOpener()

    @property
    def num_views(self) -> int:
        return self.sampling.num_clips * self.view.num_crops

    def read_views(self, item: FileItem) -> torch.Tensor:
        with self.opener(item.path, self.items.contents.get(item.index)) as reader:
            clips = [_choose_frames(reader, self.sampling, clip) for clip in range(self.sampling.num_clips)]
            wanted = sorted(set().union(*clips))
            frames = reader.get_frames(wanted)  # each frame is decoded once, even if several clips share it
        return arrange_views(self.view(frames), wanted, clips)


def arrange_views(crops: torch.Tensor, frames: Sequence[int], clips: Sequence[Sequence[int]]) -> torch.Tensor:
    """The views of N clips of T frames, clips outermost: uint8 [N * M, 3, T, S, S].

    Args:
        crops: of the frames with the numbers `frames` [F], M for each: uint8 [M, 3, F, S, S].
        clips: the numbers of the frames of each clip.
    """
    where = {frame: position for position, frame in enumerate(frames)}
    picked = torch.tensor([[where[frame] for frame in clip] for clip in clips])  # [N, T]
    views = crops[:, :, picked]  # [M, 3, N, T, S, S]
    return views.permute(2, 0, 1, 3, 4, 5).flatten(0, 1)  # -> [N, M, 3, T, S, S] -> [N * M, 3, T, S, S]


def _choose_frames(reader: FrameReader, sampling: Callable[..., list[int]], argument: Any) -> list[int]:
    """The frames that `sampling` chooses; a video that it rejects (too short, policy "error") counts as unreadable."""
    try:
        return sampling(reader.num_frames, argument, fps=reader.fps)
    except ValueError as error:
        raise VideoError(reader.path, str(error)) from error
