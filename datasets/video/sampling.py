"""Which frames of a video form a clip: a random clip for training, evenly spaced clips for evaluation.

Or, instead of neighboring frames, one frame from each of several equal segments (TSN, https://arxiv.org/abs/1608.00859).

Paper: Graph-Based Global Reasoning Networks, https://arxiv.org/abs/1811.12814
Code:  https://github.com/facebookresearch/GloRe, data/video_sampler.py

`RandomSampling` and `EvenSampling` return exactly the authors' indices: positions are computed by the same floating
point expressions and random draws come in the same order, because rounding decides some starts (6,517 of 531,495 even
starts differ from exact arithmetic by one frame). Differences: each call takes the random generator, so a clip is a
function of that generator alone; a named policy handles short videos; and intervals may be in seconds.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

ShortVideo = Literal["consecutive", "repeat_last", "wrap", "error"]


class RandomSampling:
    """A clip at a random position, for training.

    Args:
        num_frames: frames in a clip.
        interval: video frames from one frame of the clip to the next; if several are given, each call draws one.
        speed: range of a random factor for the interval, cut off where the clip would leave the video.
        seconds: the interval in seconds instead, at the video's average frame rate.
        short: what to do with a video too short for a clip at the lowest speed. "consecutive" is the paper's policy:
            neighboring frames from 0, starting over at the end of the video. "repeat_last" keeps the interval and
            repeats the last frame, "wrap" keeps it and starts over at 0, "error" raises ValueError.

    The start is floor(U(0, num_video_frames - 1 - span)), where span is the distance from the first to the last frame.
    A uniform draw never reaches its upper end, so at speed 1 the last frame of a longer video is never used: 300 frames
    have 243 starts for an 8 x 8 clip, not 244.
    """

    def __init__(
        self,
        num_frames: int,
        interval: int | Sequence[int] = 1,
        speed: tuple[float, float] = (1.0, 1.0),
        short: ShortVideo = "consecutive",
        seconds: float | None = None,
    ):
        self.num_frames, self.seconds = num_frames, seconds
        self.intervals = (interval,) if isinstance(interval, int) else tuple(interval)
        self.speed = speed
        self.short = short
        _check(num_frames, min(self.intervals, default=0), short)
        if not 0 < speed[0] <= speed[1]:
            raise ValueError(f"speed is {speed}; expected (lowest, highest) with 0 < lowest <= highest")

    def __call__(
        self, num_video_frames: int, rng: np.random.Generator | np.random.RandomState, fps: float | None = None
    ) -> list[int]:
        """The clip's frame indices, ascending. Draws: an interval if there are several, then speed and start."""
        _check_video(num_video_frames)
        interval = int(rng.choice(self.intervals)) if self.seconds is None else _to_frames(self.seconds, fps)
        if self.num_frames == 1:
            return [int(rng.choice(num_video_frames))]
        slowest, fastest = self.speed
        fastest = min(fastest, (num_video_frames - 1) / ((self.num_frames - 1) * interval))
        if fastest < slowest:
            return _short_clip(num_video_frames, self.num_frames, interval * slowest, self.short)
        span = (self.num_frames - 1) * (rng.uniform(slowest, fastest) * interval)
        # max: rounding can make the span an ulp longer than the video, and a Generator rejects an empty range.
        start = rng.uniform(0, max(num_video_frames - 1 - span, 0.0))
        return np.linspace(start, start + span, self.num_frames).astype(int).tolist()


class EvenSampling:
    """Clip number `clip` of `num_clips` spread evenly over the video, for evaluation.

    A clip spans (num_frames - 1) * interval + 1 frames. If all clips fit side by side, the gaps before, between and
    after them are equal; a single clip is in the center. If they do not fit, they overlap, the first at the start and
    the last at the end of the video. Clip numbers from `num_clips` on start over. `short` and `seconds` as in
    `RandomSampling`.
    """

    def __init__(
        self,
        num_frames: int,
        interval: int = 1,
        num_clips: int = 1,
        short: ShortVideo = "consecutive",
        seconds: float | None = None,
    ):
        self.num_frames, self.seconds = num_frames, seconds
        self.interval = interval
        self.num_clips = num_clips
        self.short = short
        _check(num_frames, interval, short)
        if num_clips < 1:
            raise ValueError(f"num_clips is {num_clips}; expected at least 1")

    def span(self, fps: float | None = None) -> int:
        """The number of video frames from the first to the last frame of a clip, inclusive."""
        return int((self.num_frames - 1) * self._interval(fps)) + 1

    def _interval(self, fps: float | None) -> float:
        return self.interval if self.seconds is None else _to_frames(self.seconds, fps)

    def __call__(self, num_video_frames: int, clip: int = 0, fps: float | None = None) -> list[int]:
        """The frame indices of clip number `clip`, ascending."""
        _check_video(num_video_frames)
        interval = self._interval(fps)
        offsets = [int(i * interval) for i in range(self.num_frames)]
        span = self.span(fps)
        if span > num_video_frames:
            return _short_clip(num_video_frames, self.num_frames, interval, self.short)
        clip %= self.num_clips
        spare = num_video_frames - span * self.num_clips
        if spare > 0:
            start = math.ceil((clip + 1) * (spare / (self.num_clips + 1) + span) - span)
        elif spare == 0:
            start = clip * span
        else:
            start = int(clip * (spare / (self.num_clips - 1) + span))
        return [start + offset for offset in offsets]


class RandomSegments:
    """One random frame from each of `num_frames` equal segments of the video, for training.

    If the video has fewer frames than segments, neighboring segments share a frame.
    """

    def __init__(self, num_frames: int):
        _check(num_frames, 1, "error")
        self.num_frames = num_frames

    def __call__(self, num_video_frames: int, rng: np.random.Generator, fps: float | None = None) -> list[int]:
        """The clip's frame indices, ascending; `fps` is ignored. Draws one number per segment."""
        _check_video(num_video_frames)
        edges = np.arange(self.num_frames + 1) * num_video_frames // self.num_frames
        return rng.integers(edges[:-1], np.maximum(edges[1:], edges[:-1] + 1)).tolist()


class EvenSegments:
    """One frame from each of `num_frames` equal segments of the video, for evaluation.

    With one clip it is the middle of the segment; clip k of `num_clips` takes the middle of the segment's k-th part.
    Clip numbers from `num_clips` on start over.
    """

    def __init__(self, num_frames: int, num_clips: int = 1):
        _check(num_frames, 1, "error")
        if num_clips < 1:
            raise ValueError(f"num_clips is {num_clips}; expected at least 1")
        self.num_frames, self.num_clips = num_frames, num_clips

    def __call__(self, num_video_frames: int, clip: int = 0, fps: float | None = None) -> list[int]:
        """The frame indices of clip number `clip`, ascending; `fps` is ignored."""
        _check_video(num_video_frames)
        num_halves = 2 * self.num_clips  # half parts of a segment, so that the middle of each part is an integer
        middle = 2 * (clip % self.num_clips) + 1
        positions = np.arange(self.num_frames) * num_halves + middle
        return (positions * num_video_frames // (self.num_frames * num_halves)).tolist()


def _to_frames(seconds: float, fps: float | None) -> float:
    if not fps:
        raise ValueError("its frames have no times, so an interval in seconds has no meaning; give it in frames")
    return seconds * fps


def _short_clip(num_video_frames: int, num_frames: int, interval: float, short: ShortVideo) -> list[int]:
    if short == "consecutive":
        return [i % num_video_frames for i in range(num_frames)]
    if short == "repeat_last":
        return [min(int(i * interval), num_video_frames - 1) for i in range(num_frames)]
    if short == "wrap":
        return [int(i * interval) % num_video_frames for i in range(num_frames)]
    needed = math.ceil((num_frames - 1) * interval) + 1
    raise ValueError(
        f"the video has {num_video_frames} frames; a clip of {num_frames}, {interval:g} apart, needs {needed}. Use "
        "fewer frames or a smaller interval, remove the video, or choose another policy for short videos: "
        "consecutive, repeat_last or wrap"
    )


def _check(num_frames: int, interval: int, short: str) -> None:
    if num_frames < 1 or interval < 1:
        raise ValueError(f"num_frames is {num_frames} and interval {interval}; expected both to be at least 1")
    if short not in ShortVideo.__args__:
        raise ValueError(f"short is {short!r}; expected one of {', '.join(ShortVideo.__args__)}")


def _check_video(num_video_frames: int) -> None:
    if num_video_frames < 1:
        raise ValueError(f"a video of {num_video_frames} frames has no clip; expected at least 1 frame")
