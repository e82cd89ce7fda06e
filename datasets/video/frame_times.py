"""When each frame of a converted video is shown: at its source's time, if that is valid."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import numpy as np

FALLBACK_RATE = Fraction(25)  # frames per second, if a file does not say
MAX_GAP_SECONDS = 1800  # between two frames; more is taken for a reset clock
TICKS_PER_SECOND = 90_000  # of a target, where its source's clock is coarser or finer than these:
MIN_TICKS_PER_SECOND, MAX_TICKS_PER_SECOND = 10_000, 1_000_000  # a gap must fit into 31 bits


class FrameTimes(NamedTuple):
    """When T frames are shown."""

    ticks: list[int]  # [T + 1], strictly increasing: the start of each frame, from 0, and the end of the last
    ticks_per_second: int
    rate: Fraction  # usual number of frames per second

    def tick(self, number: int) -> int:
        """The start of a frame. Numbers below 0 count back from the first one: encoders with B-frames use these."""
        return self.ticks[number] if number >= 0 else number * _period(self.ticks_per_second, self.rate)


def time_frames(
    times: Sequence[int | None], time_base: Fraction, rates: Sequence[Fraction | None], duration: Fraction
) -> FrameTimes:
    """Counts the times of a source's frames from its first one.

    Some files lack times, repeat them or go back, as where recordings were joined. A frame whose time is missing, not
    after the previous frame's, or more than half an hour after it, is shown one usual period after that frame.

    Args:
        times: of each frame, in units of `time_base` seconds.
        rates: frames per second according to the file, the best guess first; used only if consistent with the times.
        duration: seconds from the start of the first frame to the end of the last, by the source.
    """
    rate = _usual_rate(times, time_base, rates)
    clock = time_base.denominator
    per_second = clock if MIN_TICKS_PER_SECOND <= clock <= MAX_TICKS_PER_SECOND else TICKS_PER_SECOND
    period, max_gap = _period(per_second, rate), MAX_GAP_SECONDS * per_second
    first = next((time * time_base - number / rate for number, time in enumerate(times) if time is not None), 0)
    ticks = [0]
    for time in times[1:]:
        wanted = None if time is None else round((time * time_base - first) * per_second)
        is_usable = wanted is not None and ticks[-1] < wanted <= ticks[-1] + max_gap
        ticks.append(wanted if is_usable else ticks[-1] + period)
    end = round(duration * per_second)
    ticks.append(end if ticks[-1] < end <= ticks[-1] + max_gap else ticks[-1] + period)
    return FrameTimes(ticks, per_second, rate)


def _usual_rate(times, time_base, rates) -> Fraction:
    """Frames per second: the file's, unless frames are usually less than half or over twice as far apart."""
    steps = [after - before for before, after in pairwise(times) if None not in (before, after)]
    step = Fraction(float(np.median(steps))) * time_base if steps else 0
    stated = [Fraction(rate) for rate in rates if rate]
    if step > 0:
        return next((rate for rate in stated if Fraction(1, 2) < rate * step < 2), 1 / step)
    return next((rate for rate in stated if 1 <= rate <= 240), FALLBACK_RATE)


def _period(ticks_per_second: int, rate: Fraction) -> int:
    return max(1, round(ticks_per_second / rate))
