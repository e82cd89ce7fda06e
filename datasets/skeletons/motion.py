"""Sequences of skeletons [T, M, V, 3] as pure functions: missing joints, people, time, size, and augmentation.

Axis 1 of the coordinates is vertical, as in the files of Kinect and, upside down, of OpenPose.
"""

import numpy as np


def fill_missing(positions: np.ndarray, center: int) -> np.ndarray:
    """Replaces the NaN of missing joints, [T, M, V, 3].

    Between two frames in which a joint is present it is interpolated linearly; before the first and after the last it
    stays in place. A joint that is never present is placed at the `center`. A person without joints becomes all zeros.
    """
    filled = positions.copy()
    frames = np.arange(len(positions))
    for person in range(positions.shape[1]):
        seen = np.isfinite(positions[:, person]).all(axis=-1)  # [T, V]
        for joint in np.flatnonzero(seen.any(axis=0) & ~seen.all(axis=0)):
            known = seen[:, joint]
            for axis in range(3):
                track = positions[known, person, joint, axis]
                filled[:, person, joint, axis] = np.interp(frames, frames[known], track)
        if not seen.any():
            filled[:, person] = 0
            continue
        never = ~seen.any(axis=0)
        if never.any():
            middle = np.nanmean(filled[:, person], axis=1) if never[center] else filled[:, person, center]
            filled[:, person, never] = middle[:, None]
    return filled


def choose_people(positions: np.ndarray, num_people: int) -> np.ndarray:
    """The `num_people` who move most, in that order, [T, num_people, V, 3]; NaN for absent people.

    Movement is the standard deviation of the joints over the frames in which they are present, times the fraction of
    joints that are present.
    """
    motion = []
    for person in range(positions.shape[1]):
        seen = np.isfinite(positions[:, person])
        spread = np.where(seen.any(axis=0), _deviation(positions[:, person], seen), 0)
        motion.append(float(spread.mean() * seen.mean()) if seen.any() else -1.0)
    order = np.argsort(-np.array(motion), kind="stable")[:num_people]
    chosen = np.full((len(positions), num_people, *positions.shape[2:]), np.nan, dtype=positions.dtype)
    chosen[:, : len(order)] = positions[:, order]
    return chosen


def _deviation(track: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Standard deviation over time of [T, V, 3], where present; 0 for a joint that is never present."""
    count = np.maximum(seen.sum(axis=0), 1)
    track = np.where(seen, track, 0)
    mean = track.sum(axis=0) / count
    return np.sqrt((np.where(seen, track - mean, 0) ** 2).sum(axis=0) / count)


def present(positions: np.ndarray) -> np.ndarray:
    """Which people are present: bool [M]. Absent people are all zeros."""
    return (positions != 0).any(axis=(0, 2, 3))


def centered(positions: np.ndarray, center: int) -> np.ndarray:
    """Centered on the mean position of the first person's `center` over time."""
    origin = positions[:, 0, center].mean(axis=0)
    return np.where(present(positions)[:, None, None], positions - origin, 0).astype(positions.dtype)


def sized(positions: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """Scaled so that the first person's mean bone, from joint to parent, has length 1, as a mean over time.

    Subjects differ in size, and cameras in units. A person who is a single point stays as it is.
    """
    bones = np.linalg.norm(positions[:, 0] - positions[:, 0, parents], axis=-1)  # [T, V]; 0 at the center
    length = bones.sum(axis=1).mean() / max(len(parents) - 1, 1)
    return positions if length == 0 else (positions / length).astype(positions.dtype)


def resampled(positions: np.ndarray, start: float, stop: float, num_frames: int) -> np.ndarray:
    """`num_frames` evenly spaced frames from `start` to `stop`, interpolated linearly: [num_frames, M, V, 3]."""
    place = np.linspace(start, stop, num_frames)
    before = np.clip(np.floor(place).astype(np.int64), 0, len(positions) - 1)
    after = np.minimum(before + 1, len(positions) - 1)
    share = (place - before)[:, None, None, None]
    return (positions[before] * (1 - share) + positions[after] * share).astype(positions.dtype)


def rotated(positions: np.ndarray, degrees: float) -> np.ndarray:
    """Turned about the vertical axis through the origin, counterclockwise as seen from above (y up, right-handed)."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]], dtype=positions.dtype)
    return positions @ matrix.T


def jittered(positions: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Adds normal noise to every coordinate of the people present."""
    noise = rng.normal(scale=deviation, size=positions.shape).astype(positions.dtype)
    return positions + noise * present(positions)[:, None, None]
