"""Skeletons as samples: the joints of some people in a fixed number of frames, float32 [M, T, V, 3]."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import Field

from datasets.file_list import FileError, FileItem, FileList
from datasets.samples import EvalViews, TrainSamples
from datasets.skeletons.files import read_skeleton
from datasets.skeletons.motion import (
    centered,
    choose_people,
    fill_missing,
    jittered,
    present,
    resampled,
    rotated,
    sized,
)
from settings import Settings


class SkeletonViewSettings(Settings):
    """Augmentation of training sequences."""

    shortest: float = Field(
        0.7, gt=0, le=1, description="a training clip is a random part of the sequence, at least this fraction of it"
    )
    rotation: float = Field(20, ge=0, le=180, description="rotation about the vertical axis by up to this many degrees")
    scale: float = Field(0.1, ge=0, lt=1, description="larger or smaller by up to this fraction")
    jitter: float = Field(
        0.02, ge=0, le=10, description="standard deviation of noise on the coordinates, in mean bone lengths"
    )


class Skeleton(NamedTuple):
    """The network's input: a body, and the number of people and frames."""

    parents: Sequence[int]
    center: int
    num_people: int
    num_frames: int

    def read(self, path: str) -> np.ndarray:
        """The people who move most in the file, centered on the hip, in units of bones: float32 [T, M, V, 3].

        Raises FileError if the file cannot be read, has other bodies or another order of axes, or none of the people
        kept has a body.
        """
        positions = read_skeleton(path, self.num_people)
        if positions.shape[2] != len(self.parents):
            expected = f"the body of the recipe has {len(self.parents)}; is data.body right?"
            raise FileError(path, f"its skeletons have {positions.shape[2]} joints, but {expected}")
        positions = fill_missing(choose_people(positions, self.num_people), self.center)
        positions = sized(centered(positions, self.center), np.asarray(self.parents))
        if not present(positions).any():
            raise FileError(path, "it has no person: all joints are missing, or zero, or at one place, in every frame")
        return positions

    def clip(self, positions: np.ndarray, start: float, length: float) -> np.ndarray:
        """The network's frames of `length` frames from `start` on: [T, M, V, 3] -> [num_frames, M, V, 3]."""
        return resampled(positions, start, start + length, self.num_frames)


def as_tensor(clip: np.ndarray) -> torch.Tensor:
    """[T, M, V, 3] -> [M, T, V, 3]."""
    return torch.from_numpy(np.ascontiguousarray(clip.swapaxes(0, 1)))


class SkeletonSamples(TrainSamples):
    """Training samples: `skeleton` [M, T, V, 3] and its label; see `TrainSamples`.

    Args:
        files: sequences and their labels.
        skeleton: the network's input.
        view: augmentation.
        options: further arguments of `TrainSamples`.
    """

    def __init__(self, files: FileList, skeleton: Skeleton, view: SkeletonViewSettings, *options: Any):
        super().__init__(files, *options)
        self.skeleton, self.view = skeleton, view

    def read(self, item: FileItem, rng: np.random.Generator) -> dict[str, Any]:
        positions, view = self.skeleton.read(item.path), self.view
        last = len(positions) - 1
        length = rng.uniform(view.shortest, 1) * last
        start = rng.uniform(0, last - length)
        positions = rotated(positions, rng.uniform(-view.rotation, view.rotation))
        positions = positions * np.float32(1 + rng.uniform(-view.scale, view.scale))
        clip = jittered(self.skeleton.clip(positions, start, length), view.jitter, rng)
        return {"skeleton": as_tensor(clip)}


class SkeletonViews(EvalViews):
    """Every sequence once, whole: `views` [1, M, T, V, 3]; see `EvalViews`."""

    num_views = 1

    def __init__(self, files: FileList, skeleton: Skeleton):
        super().__init__(files)
        self.skeleton = skeleton

    def read_views(self, item: FileItem) -> torch.Tensor:
        positions = self.skeleton.read(item.path)
        return as_tensor(self.skeleton.clip(positions, 0, len(positions) - 1))[None]
