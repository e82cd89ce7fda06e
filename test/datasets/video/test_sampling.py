import json
from pathlib import Path

import numpy as np
import pytest

from datasets.video.sampling import EvenSampling, EvenSegments, RandomSampling, RandomSegments

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "glore_data.json").read_text())


@pytest.mark.parametrize("row", GOLDEN["evenly_sampling"]["rows"], ids=lambda row: "-".join(map(str, row[:5])))
def test_even_clips_are_the_authors(row):
    num_video_frames, num_frames, interval, num_clips, clip, indices = row
    assert EvenSampling(num_frames, interval, num_clips)(num_video_frames, clip) == indices


def test_even_starts_round_as_the_authors():
    examples = GOLDEN["evenly_sampling"]["float_vs_exact"]
    key = "examples_[range_max,num,interval,num_times,copy_id,official_start,exact_start]"
    for num_video_frames, num_frames, interval, num_clips, clip, official, exact in examples[key]:
        assert EvenSampling(num_frames, interval, num_clips)(num_video_frames, clip)[0] == official != exact


@pytest.mark.parametrize("config", GOLDEN["random_sampling"]["configs"], ids=lambda c: f"{c['num']}x{c['interval']}")
def test_random_clips_are_the_authors(config):
    sampling, rng = RandomSampling(config["num"], config["interval"], config["speed"]), np.random.RandomState(0)
    lengths = config["range_max_cycle"]
    for k, indices in enumerate(config["draws"]):
        assert sampling(lengths[k % len(lengths)], rng) == indices


@pytest.mark.parametrize("num_video_frames", [57, 58, 59, 100])
def test_random_starts_cover_all_but_the_last_frame(num_video_frames):
    sampling, rng = RandomSampling(8, 8), np.random.default_rng(0)
    clips = np.array([sampling(num_video_frames, rng) for _ in range(2000)])
    expected = GOLDEN["random_sampling"]["properties_8x8"][str(num_video_frames)]
    assert len(np.unique(clips[:, 0])) == expected["distinct_starts"]
    assert clips.max() == expected["largest_index"]
    assert (np.diff(clips) == 8).all()


def test_speed_that_just_fits_stays_inside():
    rng = np.random.default_rng(0)
    for num_video_frames in range(29, 120):
        for _ in range(20):
            indices = RandomSampling(8, 8, speed=(0.5, 3.0))(num_video_frames, rng)
            assert indices[0] >= 0 and indices[-1] < num_video_frames and indices == sorted(indices)


@pytest.mark.parametrize(
    ("short", "indices"),
    [
        ("consecutive", [0, 1, 2, 3, 4, 0, 1, 2]),
        ("repeat_last", [0, 2, 4, 4, 4, 4, 4, 4]),
        ("wrap", [0, 2, 4, 1, 3, 0, 2, 4]),
    ],
)
def test_short_videos(short, indices):
    assert EvenSampling(8, 2, num_clips=3, short=short)(5, clip=2) == indices
    assert RandomSampling(8, 2, short=short)(5, np.random.default_rng(0)) == indices


def test_messages():
    with pytest.raises(ValueError, match=r"has 56 frames; a clip of 8, 8 apart, needs 57.*repeat_last or wrap"):
        EvenSampling(8, 8, short="error")(56)
    with pytest.raises(ValueError, match="has 28 frames; a clip of 8, 4 apart, needs 29"):
        RandomSampling(8, 8, speed=(0.5, 1.0), short="error")(28, np.random.default_rng(0))
    with pytest.raises(ValueError, match="video of 0 frames"):
        EvenSampling(8)(0)
    with pytest.raises(ValueError, match="short is 'loop'; expected one of consecutive, repeat_last, wrap, error"):
        RandomSampling(8, short="loop")
    with pytest.raises(ValueError, match="num_frames is 0 and interval 1"):
        EvenSampling(0)
    with pytest.raises(ValueError, match="num_clips is 0"):
        EvenSampling(8, num_clips=0)
    with pytest.raises(ValueError, match="0 < lowest <= highest"):
        RandomSampling(8, speed=(2.0, 1.0))


def test_intervals_in_seconds_follow_the_frame_rate():
    for fps, interval in ((25, 8), (50, 16), (12.5, 4)):
        seconds = {"seconds": 0.32}
        for clip in range(3):
            assert EvenSampling(8, 1, 3, **seconds)(300, clip, fps) == EvenSampling(8, interval, 3)(300, clip)
        draws = [RandomSampling(8, **options) for options in (seconds, {"interval": interval})]
        first, second = (sampling(300, np.random.default_rng(5), fps) for sampling in draws)
        assert first == second
    assert EvenSampling(4, seconds=0.1)(20, 0, fps=15) == [8, 9, 11, 12]
    assert EvenSampling(4, seconds=0.01)(20, 0, fps=25) == [10, 10, 10, 10]
    with pytest.raises(ValueError, match="its frames have no times"):
        EvenSampling(4, seconds=0.1)(20, 0)


@pytest.mark.parametrize("num_video_frames", [3, 8, 30, 301])
def test_segments_take_a_frame_of_each_part(num_video_frames):
    rng = np.random.default_rng(0)
    clips = np.array([RandomSegments(8)(num_video_frames, rng) for _ in range(400)])
    edges = np.arange(9) * num_video_frames // 8
    assert (clips >= edges[:-1]).all() and (clips <= np.maximum(edges[1:] - 1, edges[:-1])).all()
    assert len(np.unique(clips)) == num_video_frames  # any frame may be taken
    even = np.array([EvenSegments(8, 3)(num_video_frames, clip) for clip in range(3)])
    assert (np.diff(even, axis=0) >= 0).all() and even.max() < num_video_frames
    assert ((even >= edges[:-1]) & (even <= edges[1:])).all()


def test_even_segments():
    assert EvenSegments(4)(40) == [5, 15, 25, 35] == EvenSegments(4, 3)(40, clip=1) == EvenSegments(4, 3)(40, clip=4)
    assert EvenSegments(4, 2)(40, 0) == [2, 12, 22, 32]
    assert EvenSegments(4, 2)(40, 1) == [7, 17, 27, 37]
    assert EvenSegments(4)(2) == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="num_clips is 0; expected at least 1"):
        EvenSegments(4, 0)
