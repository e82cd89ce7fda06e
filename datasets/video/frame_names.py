"""Which images of a folder are the frames of its video, and in which order, by their names.

Names that differ only in one number, `img_00001.jpg` and `img_00002.jpg`, are a series. Frames often share their folder
with others: optical flow (`flow_x_00001.jpg`), masks (`00001_mask.png`), a cover. The frames are, in this order,

1. the only series;
2. the only series of more than one image;
3. the only such series whose name has no words other than `FRAME_WORDS`.

Several numbers count as one if they advance like a clock in even steps: `12-59-58.jpg`, `12-59-59.jpg`, `13-00-00.jpg`.

Otherwise it is unclear. An image without a number counts only if it is the only one. The log names what is left out,
once for all folders with the same series.
"""

import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from itertools import pairwise
from statistics import median_low
from typing import NamedTuple

from datasets.image_file import SUFFIXES, UNREAD_SUFFIXES
from datasets.video.container import VideoError

log = logging.getLogger(__name__)

FRAME_WORDS = {"color", "frame", "frames", "im", "image", "images", "img", "imgs", "rgb"}
"""The words in the names of frames, in lower case."""

CLOCK = (24, 60, 60)
"""Hours of a day, minutes and seconds."""

_NUMBER = re.compile(r"(\d+(?:\.\d+)?)")  # a time in seconds may have a fraction
_WORD = re.compile(r"[^\W\d_]+")
_said: set[tuple[str, ...]] = set()


class _Image(NamedTuple):
    numbers: tuple[Decimal, ...]
    name: str
    parts: tuple[str, ...]  # of the name without its suffix: text, number, text, ..., text


class _Series(NamedTuple):
    label: str  # `img_*`
    images: list[_Image]  # in order


def find_frames(path: str, names: Iterable[str]) -> list[str]:
    """The frames among the files `names` of the folder `path`, in order; empty if there is no image.

    Raises VideoError if it is unclear which images are the frames, or in which order.
    """
    images, unread = [], []
    for name in names:
        suffix = os.path.splitext(name)[1].lower()
        if not name.startswith(".") and suffix in SUFFIXES + UNREAD_SUFFIXES:
            (images if suffix in SUFFIXES else unread).append(_parse(name))
    if not images:
        return []
    series = _find_series([image for image in images if image.numbers])
    single = [_Series(image.name, [image]) for image in images if not image.numbers]
    frames = _choose(path, series or single)
    for one, other in pairwise(frames.images):
        if one.numbers == other.numbers:
            raise VideoError(path, f"{one.name} and {other.name} have the same number; keep one of them")
    left_out = [one for one in (*series, *single) if one is not frames]
    left_out += [_Series(image.name, [image]) for image in unread]
    if left_out:
        _say(path, frames, left_out)
    return [image.name for image in frames.images]


def _say(path: str, frames: _Series, left_out: list[_Series]) -> None:
    kinds = tuple(_NUMBER.sub("*", one.label) for one in (frames, *left_out))
    if kinds not in _said:
        _said.add(kinds)
        log.warning("%s: its frames are %s; left out: %s", path, frames.label, _list(left_out))


def _parse(name: str) -> _Image:
    parts = tuple(_NUMBER.split(os.path.splitext(name)[0]))
    return _Image(tuple(map(Decimal, parts[1::2])), name, parts)


def _find_series(images: list[_Image]) -> list[_Series]:
    alike = defaultdict(list)
    for image in sorted(images):
        alike[tuple(text.lower() for text in image.parts[::2])].append(image)
    found = []
    for group in alike.values():
        columns = list(zip(*(image.numbers for image in group), strict=True))
        varying = [place for place, column in enumerate(columns) if len(set(column)) > 1] or [len(columns) - 1]
        is_increasing = any(all(one < other for one, other in pairwise(column)) for column in columns)
        if is_increasing or _is_clock(group, varying[0]):
            found.append(_series(group, varying[0]))
            continue
        parts = defaultdict(list)  # cam1_0001, cam2_0001: by all numbers but the last
        for image in group:
            parts[tuple(image.numbers[place] for place in varying[:-1])].append(image)
        found += [_series(part, varying[-1]) for part in parts.values()]
    return found


def _is_clock(images: list[_Image], first: int) -> bool:
    """Whether the numbers from place `first` on are one time, and the times of the images are evenly spaced.

    The last number may be a fraction of a second, of three digits or more. Cameras or shots that are each numbered from
    the start (`cam1_01`, `cam1_02`, `cam2_01`) are not a clock: their times jump.
    """
    digits = [[image.parts[2 * place + 1] for place in range(first, len(image.numbers))] for image in images]
    widths = {len(texts[-1]) for texts in digits}
    has_fraction = len(widths) == 1 and max(widths) >= 3
    units = [*CLOCK, *([10 ** max(widths)] if has_fraction else [])]
    if not all(text.isdecimal() for texts in digits for text in texts) or len(digits[0]) > 1 + len(units):
        return False
    units = units[len(units) + 1 - len(digits[0]) :]  # of all numbers but the first, which may be any
    times = []
    for first_text, *texts in digits:
        time = int(first_text)
        for unit, text in zip(units, texts, strict=True):
            if int(text) >= unit:
                return False
            time = time * unit + int(text)
        times.append(time)
    steps = [other - one for one, other in pairwise(times)]
    return max(steps) < 2 * median_low(steps)


def _series(images: list[_Image], place: int) -> _Series:
    parts = list(images[0].parts)
    parts[2 * place + 1] = "*"
    return _Series("".join(parts), images)


def _choose(path: str, series: list[_Series]) -> _Series:
    several = [one for one in series if len(one.images) > 1] or series
    named = [one for one in several if set(map(str.lower, _WORD.findall(one.label))) <= FRAME_WORDS]
    for candidates in (series, several, named):
        if len(candidates) == 1:
            return candidates[0]
    raise VideoError(path, f"it is unclear which images are its frames: {_list(series)}; move the others elsewhere")


def _list(series: list[_Series]) -> str:
    shown = []
    for one in series[:4]:
        shown.append(f"{one.label} ({len(one.images)} images)" if len(one.images) > 1 else one.images[0].name)
    return ", ".join(shown) + (f" and {len(series) - 4} more" if len(series) > 4 else "")
