"""Reads the frames of a video from a folder of images, in the order of the numbers in their names."""

import os
import re
from collections.abc import Iterable

import numpy as np
import torch
from PIL import Image

from datasets.video.container import VideoError
from datasets.video.frame_reader import FrameReader

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


class FrameFolderReader(FrameReader):
    """Reads frames from a folder such as `clip/img_00001.jpg`, `clip/img_00002.jpg`, ...

    Frame i is the i-th image: names are sorted with the numbers in them as numbers, so img_9 comes before img_10. All
    have the size of the first. `fps` is None, because images carry no times.

    Raises VideoError if there is no such folder, no image in it, or the first cannot be read.
    """

    fps = None

    def __init__(self, path):
        self.path = str(path)
        try:
            names = [name for name in os.listdir(path) if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
        except OSError as error:
            raise VideoError(self.path, error.strerror) from error
        if not names:
            raise VideoError(self.path, f"is a directory without images (names that end in {' '.join(SUFFIXES)})")
        self._names = sorted(names, key=_numeric_key)
        self.num_frames = len(self._names)
        self.height, self.width = self._read(0).shape[:2]

    def get_frames(self, indices: Iterable[int]) -> torch.Tensor:
        """uint8 [T, H, W, 3], see `FrameReader.get_frames`; each image is read once."""
        indices = self.check_indices(indices)
        clip = np.empty((len(indices), self.height, self.width, 3), dtype=np.uint8)
        for i in set(indices):
            picture = self._read(i)
            if picture.shape != clip.shape[1:]:
                height, width, _ = picture.shape
                expected = f"{self.width} x {self.height}"
                raise VideoError(self.path, f"{self._names[i]} has {width} x {height} pixels, the first {expected}")
            clip[[place for place, index in enumerate(indices) if index == i]] = picture
        return torch.from_numpy(clip)

    def _read(self, i: int) -> np.ndarray:
        try:
            with Image.open(os.path.join(self.path, self._names[i])) as image:
                return np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            raise VideoError(self.path, f"{self._names[i]} cannot be read as an image") from error


def _numeric_key(name: str) -> list[tuple[int, str]]:
    """A sort key that compares the numbers in names as numbers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
