"""Reads the frames of a video from a folder of images, ordered by the numbers in their names."""

import os
from collections.abc import Iterable

import numpy as np
import torch

from datasets.image_file import SUFFIXES, ImageError, read_image
from datasets.video.container import VideoError
from datasets.video.frame_names import find_frames
from datasets.video.frame_reader import FrameReader


class FrameFolderReader(FrameReader):
    """Reads frames from a folder such as `clip/img_00001.jpg`, `clip/img_00002.jpg`, ...

    Frame i is the i-th image by the numbers in the names, so img_9 comes before img_10, and missing numbers leave no
    gap. Of several kinds of images, such as `img_*` and `flow_x_*`, one is the video (see `frame_names`). All frames
    are upright (see `datasets.image_file`) and have the size of the first. `fps` is None, because images have no times.

    Raises VideoError if the folder does not exist or has no image, if it is unclear which images are the frames and in
    which order, or if the first cannot be read.
    """

    fps = None

    def __init__(self, path):
        self.path = str(path)
        try:
            names = os.listdir(path)
        except OSError as error:
            raise VideoError(self.path, error.strerror) from error
        self._names = find_frames(self.path, names)
        if not self._names:
            raise VideoError(self.path, f"is a directory without images (names that end in {' '.join(SUFFIXES)})")
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
            return np.asarray(read_image(os.path.join(self.path, self._names[i])))
        except ImageError as error:
            raise VideoError(self.path, f"{self._names[i]} cannot be read as an image: {error.reason}") from error
