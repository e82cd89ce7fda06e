"""Answers for sliding windows over a long video or a live stream."""

import itertools
import math
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn

from datasets.file_list import UNLABELED, FileList
from datasets.video import EvenSegments, VideoViews
from datasets.video.stream import VideoStream, is_stream, newest, rate_and_length
from datasets.video.windows import SlidingWindows
from engine.task import Answer
from settings import SettingsError
from tasks.answers import answer_batch

if TYPE_CHECKING:
    from tasks.clip_classification import ClipClassification

MAX_DECODING_THREADS = 4


def answer_windows(
    task: "ClipClassification",
    model: nn.Module,
    source: str,
    num_answers: int,
    seconds: float | None = None,
    stride: float | None = None,
    done: int = 0,
) -> Iterator[Answer]:
    """See `engine.task.PredictsParts.answer_parts`. Windows are numbered 0, 1, ... in the order they are done."""
    inputs = FileList([source], [UNLABELED], [source])
    dataset = task.eval_views(inputs)
    per_batch = 1 if is_stream(source) else task.files_per_batch(dataset)
    kept = done - done % per_batch  # windows of whole batches, so that no digit depends on `done`
    with VideoStream(source, min(MAX_DECODING_THREADS, os.cpu_count() or 1)) as stream:
        fps = stream.fps if is_stream(source) else rate_and_length(source)[0]
        windows = sliding_windows(dataset, fps, seconds, stride).slide(stream, stream.to_rgb, kept)
        if stream.is_live:
            windows = newest(windows)
        numbers = itertools.count(kept)
        while group := list(itertools.islice(windows, per_batch)):
            views = torch.stack([window.views for window in group]).to(task.ranks.device)
            rows = torch.zeros(len(group), dtype=torch.int64)  # all are of the one input
            batch = {"views": views, "index": rows, "label": rows + UNLABELED}
            answers = answer_batch(task, model, batch, inputs, num_answers)
            for number, window, answer in zip(numbers, group, answers, strict=False):
                if number >= done:
                    times = (window.start_seconds, window.end_seconds)
                    yield answer._replace(row=number, seconds=times)


def sliding_windows(
    dataset: VideoViews, fps: float, seconds: float | None = None, stride: float | None = None
) -> SlidingWindows:
    """Windows of `seconds` seconds, `stride` seconds apart, with the views of `dataset`.

    By default a window is a clip, as the recipe samples it, and the stride is half a window. Raises SettingsError if
    the recipe fixes no length for clips.
    """
    for name, value in (("window", seconds), ("stride", stride)):
        if value is not None and not 0 < value < math.inf:
            raise SettingsError(f"the {name} is {value:g} seconds; it must be more than 0")
    sampling = dataset.sampling
    if seconds is not None:
        num_frames = max(1, round(seconds * fps))
    elif isinstance(sampling, EvenSegments):
        raise SettingsError(
            "data.sampling=segments fixes no length for a window, because a clip covers the whole video; set one in "
            "seconds (--window), such as the usual length of the training videos"
        )
    else:
        sampling.num_clips = 1  # more would all be the same
        num_frames = sampling.span(fps)
    num_between = max(1, num_frames // 2 if stride is None else round(stride * fps))
    return SlidingWindows(sampling, dataset.view, num_frames, num_between, fps)
