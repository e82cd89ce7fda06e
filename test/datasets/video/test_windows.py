"""Sliding windows equal the views of the pieces of a video, each as a video of its own; and keep little."""

import numpy as np
import pytest
import torch
from encode import number_frames

from datasets.file_list import FileList
from datasets.video import EvalView, EvalViewSettings, EvenSampling, EvenSegments, VideoViews
from datasets.video.stream import StreamFrame
from datasets.video.windows import SlidingWindows

FPS = 25.0
VIEW = EvalView(EvalViewSettings(short_side=24, crop=16), num_crops=2)


def stream_of(frames):
    return (StreamFrame(number, number / FPS, pixels) for number, pixels in enumerate(frames))


def views_of(frames, sampling):
    """The views of an evaluation, in which `frames` are a whole video."""
    files = FileList(["a"], [-1], ["a"], contents={0: frames})
    return VideoViews(files, sampling, VIEW)[0]["views"]


@pytest.mark.parametrize(
    ("sampling", "num_frames", "stride"),
    [
        (EvenSampling(4, 3), 10, 5),
        (EvenSampling(4, 3, num_clips=3), 20, 7),
        (EvenSampling(4, 3), 10, 13),  # with gaps
        (EvenSampling(4, 9, short="repeat_last"), 10, 4),
        (EvenSegments(4, num_clips=2), 12, 6),
    ],
)
def test_windows_are_videos_of_their_own(sampling, num_frames, stride):
    frames = number_frames(50)
    sliding = SlidingWindows(sampling, VIEW, num_frames, stride, FPS)
    windows = list(sliding.slide(stream_of(frames), lambda frame: frame.picture))
    starts = list(range(0, 50 - num_frames + 1, stride))
    assert len(windows) == len(starts) > 2
    for start, window in zip(starts, windows, strict=True):
        assert torch.equal(window.views, views_of(frames[start : start + num_frames], sampling))
        assert (window.start_seconds, window.end_seconds) == pytest.approx((start / FPS, (start + num_frames) / FPS))
    later = list(sliding.slide(stream_of(frames), lambda frame: frame.picture, first=2))
    assert [window.start_seconds for window in later] == [window.start_seconds for window in windows[2:]]
    assert all(torch.equal(one.views, two.views) for one, two in zip(later, windows[2:], strict=True))


def test_a_video_shorter_than_a_window_is_one_window():
    frames, sampling = number_frames(7), EvenSampling(4, 3)
    (window,) = SlidingWindows(sampling, VIEW, 10, 5, FPS).slide(stream_of(frames), lambda frame: frame.picture)
    assert torch.equal(window.views, views_of(frames, sampling))
    assert (window.start_seconds, window.end_seconds) == pytest.approx((0, 7 / FPS))


def test_only_shown_frames_are_converted():
    converted = []

    def to_rgb(frame):
        converted.append(frame.number)
        return frame.picture

    frames = np.zeros((1000, 24, 24, 3), np.uint8)
    windows = SlidingWindows(EvenSampling(2, 40), VIEW, 41, 100, FPS).slide(stream_of(frames), to_rgb)
    assert len(list(windows)) == 10
    assert [number for number in converted if number > 41] == [
        number for start in range(100, 1000, 100) for number in (start, start + 40)
    ]


def test_windows_need_a_length():
    with pytest.raises(ValueError, match="num_frames is 0 and stride 1; expected both to be at least 1"):
        SlidingWindows(EvenSampling(2, 1), VIEW, 0, 1, FPS)
