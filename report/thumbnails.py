"""Thumbnails of videos and images as data URIs. The frames of a video are side by side; the page plays them."""

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from datasets.image_file import read_image
from datasets.skeletons import read_skeleton
from datasets.skeletons.drawing import draw_skeletons
from datasets.skeletons.motion import fill_missing, resampled
from datasets.video import VideoOpener
from datasets.video.resize import View

WIDTH, HEIGHT = 208, 156  # a frame fits into it, in pixels
NUM_FRAMES = 8
OVERSAMPLING = 3  # videos are read larger than shown: their readers do not antialias
TIMEOUT_SECONDS = 20
QUALITY = 55  # of WebP
SHEET_QUALITY = 88  # of WebP, for images with text


class Thumbnail(NamedTuple):
    """A strip of `num_frames` frames of `width` x `height` pixels each."""

    source: str
    num_frames: int
    width: int
    height: int


def make_thumbnail(path: str, item: str, places: Sequence[Path]) -> Thumbnail | str:
    """The thumbnail of a "video", a "skeleton" or an "image", or the reason why there is none.

    A relative path is searched in the folders `places`, in this order.
    """
    found = find_file(path, places)
    try:
        frames = _READERS.get(item, _image_frames)(found)
        frames = [_fit(frame) for frame in frames]
        width, height = frames[0].size
        strip = Image.new("RGB", (len(frames) * width, height))
        for number, frame in enumerate(frames):
            strip.paste(frame, (number * width, 0))
        return Thumbnail(data_uri(strip, "WEBP", quality=QUALITY), len(frames), width, height)
    except Exception as error:  # of any type: a file may be gone, damaged or replaced; the page goes on
        return str(getattr(error, "reason", "") or error) or type(error).__name__


def read_picture(path: Path) -> str | None:
    """An image file as a data URI; None if it is damaged."""
    try:
        with Image.open(path) as picture:
            return data_uri(picture.convert("RGB"), "WEBP", quality=SHEET_QUALITY)
    except (OSError, ValueError):
        return None


def data_uri(picture: Image.Image, kind: str, **options) -> str:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def find_file(path: str, places: Sequence[Path]) -> str:
    """The path in a report as it is on this machine; unchanged if there is no such file.

    Reports escape bytes that are not UTF-8 as backslash, "udc" and two hexadecimal digits.
    """
    plain = re.sub(r"\\udc([89a-f][0-9a-f])", lambda match: chr(0xDC00 + int(match[1], 16)), path)
    candidates = [place / text for text in (path, plain) for place in places]
    return str(next((place for place in candidates if place.exists()), path))


def _video_frames(path: str) -> list[Image.Image]:
    with VideoOpener(timeout_seconds=TIMEOUT_SECONDS)(path) as video:
        scale = min(1.0, OVERSAMPLING * max(WIDTH / video.width, HEIGHT / video.height))
        height, width = (max(2, round(side * scale)) for side in (video.height, video.width))
        moments = np.linspace(0, video.num_frames - 1, min(NUM_FRAMES, video.num_frames)).round().astype(int)
        (clip,) = video.get_clips([(moments.tolist(), View(height, width, 0, 0, height, width))])
    return [Image.fromarray(frame) for frame in clip.permute(1, 2, 3, 0).numpy()]


def _skeleton_frames(path: str) -> list[Image.Image]:
    """Dots for the joints of all people, without bones, which the file does not name."""
    positions = fill_missing(read_skeleton(path), center=0)
    clip = resampled(positions, 0, len(positions) - 1, min(NUM_FRAMES, len(positions))).swapaxes(0, 1)
    frames = draw_skeletons(torch.from_numpy(clip.copy()), range(clip.shape[2]))
    return [Image.fromarray(frame.numpy()) for frame in frames]


def _image_frames(path: str) -> list[Image.Image]:
    return [read_image(path)]


_READERS = {"video": _video_frames, "skeleton": _skeleton_frames}


def _fit(frame: Image.Image) -> Image.Image:
    scale = min(WIDTH / frame.width, HEIGHT / frame.height)
    size = tuple(max(1, round(side * scale)) for side in frame.size)
    return frame.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)
