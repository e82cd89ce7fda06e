"""Converted frames are shown when their source shows them, as far as its times make sense."""

from fractions import Fraction

import pytest

from datasets.video.frame_times import MAX_GAP_SECONDS, time_frames

CLOCK = Fraction(1, 12800)


def times_of(times, rates=(Fraction(25),), duration=None, clock=CLOCK):
    return time_frames(times, clock, rates, Fraction(0) if duration is None else duration)


def test_sound_times_are_kept():
    times = [5000, 5512, 6000, 7000, 90_000]
    found = times_of(times, duration=Fraction(86_000, 12800))
    assert found.ticks == [0, 512, 1000, 2000, 85_000, 86_000] and found.ticks_per_second == 12800


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 0, 0, 0], [0, 1, 2, 3, 4]),
        ([7, 8, 9, 7, 8, 9], [0, 1, 2, 3, 4, 5, 6]),  # joined recordings
        ([0, 0, 2, 2, 4], [0, 1, 2, 3, 4, 5]),
        ([None, 8, None, 10], [0, 1, 2, 3, 4]),
        ([None, None, None], [0, 1, 2, 3]),
        ([0, 1, 25 * MAX_GAP_SECONDS + 2, 3, 4], [0, 1, 2, 3, 4, 5]),  # one time is absurd
        ([0, 1, 2, 25 * MAX_GAP_SECONDS + 2], [0, 1, 2, *(25 * MAX_GAP_SECONDS + i for i in (2, 3))]),
        ([0], [0, 1]),
    ],
)
def test_other_times_are_one_period_apart(times, expected):
    """In frames of 25 per second."""
    found = times_of([time and time * 512 for time in times])
    assert [tick / 512 for tick in found.ticks] == expected
    assert found.tick(-2) == -1024


@pytest.mark.parametrize("clock", [Fraction(1, 25), Fraction(1, 1_200_000), Fraction(1, 10**9)])
def test_odd_clocks(clock):
    found = times_of([0, int(1 / clock), 3 * int(1 / clock)], clock=clock)
    assert [tick / found.ticks_per_second for tick in found.ticks[:-1]] == [0, 1, 3]
    assert 10_000 <= found.ticks_per_second <= 1_000_000  # a gap fits into the 31 bits that MP4 has for it


@pytest.mark.parametrize(
    ("step", "rates", "expected"),
    [
        (512, [Fraction(1000), Fraction(90_000)], 25),  # headers that are wrong
        (512, [Fraction(1000), Fraction(30)], 30),
        (534, [None, Fraction(24000, 1001)], Fraction(24000, 1001)),
        (0, [None, Fraction(30)], 30),
        (0, [Fraction(90_000), None], 25),
    ],
)
def test_usual_rate(step, rates, expected):
    assert times_of([number * step for number in range(9)], rates).rate == expected
