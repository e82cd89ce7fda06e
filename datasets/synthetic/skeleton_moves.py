"""Synthetic skeletons of Kinect's 20 joints that make one of eight movements with an arm, a leg or the trunk.

A move rotates a limb about a joint. Two of the classes differ only in the direction of time, and three pairs only in
the side. People differ in size, orientation, position, how far and how fast they move, and when they begin.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import Field

from datasets.synthetic.folder import SPLITS, make_folder_once, write_lists
from settings import Settings

PARENTS = (0, 0, 1, 2, 2, 4, 5, 6, 2, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18)
STANDING = np.array(
    [
        *([0, 0, 0], [0, 0.3, 0], [0, 0.55, 0], [0, 0.75, 0]),
        *([-0.18, 0.5, 0], [-0.22, 0.22, 0], [-0.24, -0.02, 0.03], [-0.24, -0.1, 0.04]),
        *([0.18, 0.5, 0], [0.22, 0.22, 0], [0.24, -0.02, 0.03], [0.24, -0.1, 0.04]),
        *([-0.1, -0.05, 0], [-0.11, -0.45, 0.02], [-0.11, -0.85, 0], [-0.12, -0.9, 0.1]),
        *([0.1, -0.05, 0], [0.11, -0.45, 0.02], [0.11, -0.85, 0], [0.12, -0.9, 0.1]),
    ]
)
"""Joints of a person standing and facing along z, in meters from the hip; x points to the person's right."""
SIDEWAYS, FORWARD = (0.0, 0.0, 1.0), (-1.0, 0.0, 0.0)
NOISE = 0.01
"""Standard deviation of the joints, in meters."""


class Move(NamedTuple):
    """A limb that rotates."""

    joint: int
    """All joints beyond this one rotate."""
    axis: tuple[float, float, float]
    degrees: float
    course: str
    """rise: moves there and stays; fall: moves back from there; swing: there and back, several times."""


MOVES = {
    "bow": Move(0, (1.0, 0.0, 0.0), 60, "swing"),
    "kick_left": Move(12, FORWARD, 70, "swing"),
    "kick_right": Move(16, FORWARD, 70, "swing"),
    "lift_right_arm": Move(8, FORWARD, 140, "rise"),
    "lower_right_arm": Move(8, FORWARD, 140, "fall"),
    "wave_left": Move(4, tuple(-part for part in SIDEWAYS), 120, "swing"),
    "wave_right": Move(8, SIDEWAYS, 120, "swing"),
    "point_left": Move(4, FORWARD, 90, "rise"),
}


class SkeletonMovesSettings(Settings):
    """A synthetic set of skeletons."""

    num_train: int = Field(160, gt=0, le=1_000_000, description="training sequences")
    num_val: int = Field(80, gt=0, le=1_000_000, description="validation sequences")
    seed: int = Field(0, ge=0, description="seed of all random numbers")


def make_skeleton_moves(folder: str | Path, num_train: int, num_val: int, seed: int = 0) -> Path:
    """Writes `folder/<split>.npz`, the lists `folder/<split>.txt` and a mapping table, unless they exist.

    Raises FileExistsError if the folder holds other files, or a set made with other arguments.
    """
    arguments = {"num_train": num_train, "num_val": num_val, "seed": seed}

    def build(staging: Path) -> None:
        staging.mkdir(parents=True)
        names = sorted(MOVES)
        for number, (split, count) in enumerate(zip(SPLITS, (num_train, num_val), strict=True)):
            labels = [row % len(names) for row in range(count)]
            rngs = [np.random.default_rng((seed, number, row)) for row in range(count)]
            clips = {f"{row:04d}": make_move(names[label], rngs[row]) for row, label in enumerate(labels)}
            np.savez_compressed(staging / f"{split}.npz", **clips)
            write_lists(staging, split, names, labels, [f"{split}.npz:{name}" for name in clips])

    return make_folder_once(folder, arguments, build)


def make_move(name: str, rng: np.random.Generator) -> np.ndarray:
    """A sequence of one of `MOVES`: float32 [T, 20, 3], in meters."""
    move, num_frames = MOVES[name], int(rng.integers(24, 60))
    time = np.linspace(0, 1, num_frames)
    begin, end = rng.uniform(0, 0.25), rng.uniform(0.7, 1)
    share = np.clip((time - begin) / (end - begin), 0, 1)
    if move.course == "swing":
        share = (1 - np.cos(2 * np.pi * share * rng.integers(1, 4))) / 2
    elif move.course == "fall":
        share = 1 - share
    angles = np.deg2rad(move.degrees * rng.uniform(0.8, 1.2)) * share
    beyond = [joint for joint in range(len(PARENTS)) if joint != move.joint and _is_beyond(joint, move.joint)]
    positions = np.repeat(STANDING[None], num_frames, axis=0)
    pivot = STANDING[move.joint]
    for t, angle in enumerate(angles):
        positions[t, beyond] = (STANDING[beyond] - pivot) @ _rotation(move.axis, angle).T + pivot
    positions = positions * rng.uniform(0.8, 1.2) @ _rotation((0.0, 1.0, 0.0), rng.uniform(-0.5, 0.5)).T
    positions += rng.uniform((-0.5, -0.2, 2), (0.5, 0.2, 3)) + rng.normal(scale=NOISE, size=positions.shape)
    return positions.astype(np.float32)


def _is_beyond(joint: int, limb: int) -> bool:
    """Whether a joint belongs to `limb`. The trunk, joint 0, carries everything above the hip."""
    while PARENTS[joint] != joint:
        if PARENTS[joint] == limb:
            return limb != 0 or joint == 1
        joint = PARENTS[joint]
    return False


def _rotation(axis: tuple[float, float, float], angle: float) -> np.ndarray:
    """The matrix that rotates column vectors about a unit axis (Rodrigues' formula)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
