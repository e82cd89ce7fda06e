"""The raw-video dataiter: from a list of video files to batches of clips.

Everything random about a training clip (which video, which frames, which view, which colors) is a function of the
run's seed and of the sample's number in the run. No generator lives in a worker, so the number of workers and of
ranks changes nothing, and a run continues in the middle of an epoch with the clips it would have had.

Clips travel as uint8; colors are changed and normalized on the device, see `color.py`. Workers open a reader when
they need it, with one decoding thread, and close it before they hand the clip on.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from datasets.video.index import VideoError
from datasets.video.lists import VideoList
from datasets.video.reader import VideoReader
from datasets.video.sampling import EvenSampling, RandomSampling
from datasets.video.transforms import EvalView, TrainView

STREAMS = {"train": 0, "precise_bn": 1}
MAX_ATTEMPTS = 10  # videos tried for one training sample before the run stops


class TrainClips(Dataset):
    """Training clips by their number in the run.

    Sample k belongs to epoch k // N of a list of N videos, and there to position k % N of that epoch's own order. It is
    a dict of `index` (row of the list), `label`, `clip` (uint8 [3, T, S, S]), what `ColorTransform` takes besides, and
    `failures` (videos that were tried first and could not be read: dicts of path, reason, index, sample).

    A video that cannot be read is replaced, with its label, by one drawn from (seed, epoch, position, attempt). After
    `MAX_ATTEMPTS` of them the sample is an `error`, for which `to_device` raises VideoError in the main process.
    """

    def __init__(self, videos: VideoList, sampling: RandomSampling, view: TrainView, seed: int, stream: str = "train"):
        self.videos, self.sampling, self.view = videos, sampling, view
        self._root = (seed, STREAMS[stream])
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0))  # the epoch drawn last, and its order of the videos

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, number: int) -> dict[str, Any]:
        epoch, position = divmod(number, len(self.videos))
        failures: list[dict[str, Any]] = []
        for attempt in range(MAX_ATTEMPTS):
            rng = self._generator(epoch, position, attempt)
            index = int(rng.integers(len(self.videos))) if attempt else self._video_at(epoch, position)
            try:
                return self._read(index, rng) | {"failures": failures}
            except VideoError as error:
                failures.append({"path": error.path, "reason": error.reason, "index": index, "sample": number})
        first = failures[0]
        reason = f"{first['reason']}; {MAX_ATTEMPTS} videos in a row could not be read, is data.root right?"
        return {"error": (first["path"], reason)}

    def _generator(self, *position: int) -> np.random.Generator:
        return np.random.default_rng((*self._root, *position))

    def _video_at(self, epoch: int, position: int) -> int:
        if self._order[0] != epoch:
            self._order = (epoch, self._generator(epoch).permutation(len(self.videos)))
        return int(self._order[1][position])

    def _read(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        video = self.videos[index]
        with VideoReader(video.path) as reader:
            frames = reader.get_frames(_sample(reader, self.sampling, rng))  # [T, H, W, 3]
        clip, colors = self.view(frames, rng)  # [3, T, S, S]
        return {"index": index, "label": video.label, "clip": clip, **colors}


class VideoViews(Dataset):
    """Every view of one video for evaluation: `num_clips` along the time times `num_crops` across the frame.

    An item is a dict of `index`, `label` (-1: unknown), and `clips`, uint8 [V, 3, T, S, S], V = num_clips x num_crops,
    clips outermost; or, for a video that cannot be read, of `index` and `failure`.
    """

    def __init__(self, videos: VideoList, sampling: EvenSampling, view: EvalView):
        self.videos, self.sampling, self.view = videos, sampling, view

    def __len__(self) -> int:
        return len(self.videos)

    @property
    def num_views(self) -> int:
        return self.sampling.num_clips * self.view.num_crops

    def __getitem__(self, index: int) -> dict[str, Any]:
        video = self.videos[index]
        try:
            with VideoReader(video.path) as reader:
                clips = [_sample(reader, self.sampling, clip) for clip in range(self.sampling.num_clips)]
                wanted = sorted(set().union(*clips))
                frames = reader.get_frames(wanted)  # each frame is decoded once, however many clips share it
        except VideoError as error:
            return {"index": index, "failure": {"path": error.path, "reason": error.reason, "index": index}}
        crops = self.view(frames)  # [M, 3, number of wanted frames, S, S]
        where = {frame: position for position, frame in enumerate(wanted)}
        picked = torch.tensor([[where[frame] for frame in clip] for clip in clips])  # [N, T]
        views = crops[:, :, picked]  # [M, 3, N, T, S, S]
        views = views.permute(2, 0, 1, 3, 4, 5).flatten(0, 1)  # -> [N, M, 3, T, S, S] -> [V, 3, T, S, S]
        return {"index": index, "label": video.label, "clips": views}


def _sample(reader: VideoReader, sampling: Callable[[int, Any], list[int]], argument: Any) -> list[int]:
    """The frames that `sampling` chooses; a video that it refuses (too short, policy "error") counts as unreadable."""
    try:
        return sampling(reader.num_frames, argument)
    except ValueError as error:
        raise VideoError(reader.path, str(error)) from error


def train_loader(
    dataset: TrainClips, first_batch: int, num_batches: int, batch_size: int, rank: int, num_ranks: int, **workers: Any
) -> DataLoader:
    """Batches `first_batch`, ... of one rank: batch b holds the samples from (b * num_ranks + rank) * batch_size on."""
    starts = ((b * num_ranks + rank) * batch_size for b in range(first_batch, first_batch + num_batches))
    return _loader(dataset, [range(start, start + batch_size) for start in starts], _collate_clips, **workers)


def view_loader(dataset: VideoViews, videos_per_batch: int, rank: int, num_ranks: int, **workers: Any) -> DataLoader:
    """Every video once. Whole batches are dealt to the ranks, so that a batch is the same for any number of ranks."""
    batches = [range(at, min(at + videos_per_batch, len(dataset))) for at in range(0, len(dataset), videos_per_batch)]
    return _loader(dataset, batches[rank::num_ranks], _collate_views, **workers)


def _loader(
    dataset: Dataset,
    batches: Sequence[Sequence[int]],
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
    num_workers: int,
    worker_start: Literal["fork", "forkserver", "spawn"] | None,
    pin_memory: bool,
) -> DataLoader:
    num_workers = min(num_workers, len(batches))
    if worker_start is None:  # forking is quick, and safe where the system's own libraries allow it
        worker_start = "fork" if sys.platform == "linux" else "spawn"
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        multiprocessing_context=worker_start if num_workers else None,
        generator=torch.Generator().manual_seed(0),  # the loader draws a seed for its workers; nobody uses it
    )


def _start_worker(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to handle
    assert get_worker_info() is not None
    torch.set_num_threads(1)


def default_num_workers(num_ranks_here: int) -> int:
    """Workers for each of the `num_ranks_here` processes of this machine: the cores shared out, 8 at most."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores // max(1, num_ranks_here)))


def _collate_clips(samples: list[dict[str, Any]]) -> dict[str, Any]:
    errors = [sample["error"] for sample in samples if "error" in sample]
    if errors:
        return {"error": errors[0]}
    stacked = {
        name: torch.stack([torch.as_tensor(sample[name]) for sample in samples])
        for name in samples[0]
        if name != "failures"
    }
    return stacked | {"failures": [failure for sample in samples for failure in sample["failures"]]}


def _collate_views(items: list[dict[str, Any]]) -> dict[str, Any]:
    read = [item for item in items if "clips" in item]
    return {
        "index": torch.tensor([item["index"] for item in read], dtype=torch.int64),
        "label": torch.tensor([item["label"] for item in read], dtype=torch.int64),
        "clips": torch.stack([item["clips"] for item in read]) if read else torch.zeros(0),
        "failures": [item["failure"] for item in items if "failure" in item],
    }


def to_device(loader: DataLoader, device: torch.device) -> Iterator[dict[str, Any]]:
    """The loader's batches, with what the network takes on `device`; copied without waiting from pinned memory."""
    wanted = ("clip", "clips", "label", "hls")
    for batch in loader:
        if "error" in batch:
            raise VideoError(*batch["error"])
        yield batch | {name: batch[name].to(device, non_blocking=True) for name in wanted if name in batch}
