"""The raw-video dataiter: from a list of video files to clips; `datasets.loading` makes batches of them.

Clips travel as uint8; colors are changed and normalized on the device, see `color.py`. Workers open a reader when
they need it, with one decoding thread, and close it before they hand the clip on.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from datasets.files import FileItem, FileList
from datasets.loading import EvalViews, TrainSamples
from datasets.video.index import VideoError
from datasets.video.reader import VideoReader
from datasets.video.sampling import EvenSampling, RandomSampling
from datasets.video.store import IndexStore
from datasets.video.transforms import EvalView, TrainView


class TrainClips(TrainSamples):
    """Training clips: `clip` (uint8 [3, T, S, S]) and what `ColorTransform` takes besides; see `TrainSamples`.

    `store`: where indices of the videos may be found, so that they need not be made anew.
    """

    def __init__(
        self,
        videos: FileList,
        sampling: RandomSampling,
        view: TrainView,
        seed: int,
        stream: str = "train",
        store: IndexStore | None = None,
    ):
        super().__init__(videos, seed, stream)
        self.sampling, self.view, self.store = sampling, view, store

    def read(self, item: FileItem, rng: np.random.Generator) -> dict[str, Any]:
        with _open(item, self.store) as reader:
            frames = reader.get_frames(_sample(reader, self.sampling, rng))  # [T, H, W, 3]
        clip, colors = self.view(frames, rng)  # [3, T, S, S]
        return {"clip": clip, **colors}


class VideoViews(EvalViews):
    """Every view of one video for evaluation: `num_clips` along the time times `num_crops` across the frame.

    `views` is uint8 [V, 3, T, S, S], V = num_clips x num_crops, clips outermost; see `EvalViews`. `store`: as in
    `TrainClips`.
    """

    def __init__(self, videos: FileList, sampling: EvenSampling, view: EvalView, store: IndexStore | None = None):
        super().__init__(videos)
        self.sampling, self.view, self.store = sampling, view, store

    @property
    def num_views(self) -> int:
        return self.sampling.num_clips * self.view.num_crops

    def read(self, item: FileItem) -> torch.Tensor:
        with _open(item, self.store) as reader:
            clips = [_sample(reader, self.sampling, clip) for clip in range(self.sampling.num_clips)]
            wanted = sorted(set().union(*clips))
            frames = reader.get_frames(wanted)  # each frame is decoded once, however many clips share it
        crops = self.view(frames)  # [M, 3, number of wanted frames, S, S]
        where = {frame: position for position, frame in enumerate(wanted)}
        picked = torch.tensor([[where[frame] for frame in clip] for clip in clips])  # [N, T]
        views = crops[:, :, picked]  # [M, 3, N, T, S, S]
        return views.permute(2, 0, 1, 3, 4, 5).flatten(0, 1)  # -> [N, M, 3, T, S, S] -> [V, 3, T, S, S]


def _open(item: FileItem, store: IndexStore | None) -> VideoReader:
    return VideoReader(item.path, index=store.find(item.path) if store else None)


def _sample(reader: VideoReader, sampling: Callable[[int, Any], list[int]], argument: Any) -> list[int]:
    """The frames that `sampling` chooses; a video that it refuses (too short, policy "error") counts as unreadable."""
    try:
        return sampling(reader.num_frames, argument)
    except ValueError as error:
        raise VideoError(reader.path, str(error)) from error
