"""Videos given instead of a path: frames in memory, and open files."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from datasets.video.container import VideoError
from datasets.video.frame_reader import FrameReader


class FramesReader(FrameReader):
    """Reads frames in memory: a tensor or an array, uint8 [T, H, W, 3]. `fps` is None: they have no times.

    Raises VideoError for anything else.
    """

    fps = None

    def __init__(self, name: str, frames: Any):
        self.path = name
        try:
            is_tensor = isinstance(frames, torch.Tensor)  # perhaps on a GPU
            # An array with negative strides, such as frames[..., ::-1], is copied: tensors cannot have them.
            self._frames = frames.detach().cpu() if is_tensor else torch.as_tensor(np.ascontiguousarray(frames))
        except (TypeError, ValueError):
            raise VideoError(name, f"is of type {type(frames).__name__}; expected frames, uint8 [T, H, W, 3]") from None
        shape, dtype = list(self._frames.shape), str(self._frames.dtype).removeprefix("torch.")
        if dtype != "uint8" or len(shape) != 4 or shape[3] != 3 or 0 in shape:
            raise VideoError(name, f"is {dtype} {shape}; expected frames, uint8 [T, H, W, 3]")
        self.num_frames, self.height, self.width, _ = shape

    def get_frames(self, indices: Iterable[int]) -> torch.Tensor:
        return self._frames[self.check_indices(indices)]


@contextlib.contextmanager
def file_on_disk(name: str, file: BinaryIO) -> Iterator[str]:
    """The path of a temporary copy of an open file, from its position on: readers seek in a video.

    Raises VideoError if the file cannot be read. A VideoError about the copy becomes one about `name`.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "video" + Path(name).suffix)
        try:
            with open(path, "wb") as copy:
                shutil.copyfileobj(file, copy)
        except TypeError:
            raise VideoError(name, "is open as text; open it in binary mode, 'rb'") from None
        except (OSError, ValueError) as error:  # a closed file is a ValueError
            raise VideoError(name, getattr(error, "strerror", None) or str(error)) from error
        try:
            yield path
        except VideoError as error:
            raise (VideoError(name, error.reason) if error.path == path else error) from error
