"""Reads skeletons: NPZ archives, NTU RGB+D's `.skeleton` files, and the JSON files of Kinetics-skeleton.

Every reader returns positions [T, M, V, 3] of V joints of M people in T frames, NaN where a joint is missing. Missing
joints and extra people are handled later, by `datasets.skeletons.motion`.

Formats: https://github.com/shahroudy/NTURGB-D (Matlab/read_skeleton_file.m), and
https://github.com/yysijie/st-gcn (feeder/feeder_kinetics.py).
"""

import json
import operator
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from datasets.file_list import UNLABELED, FileError, FileList, Given, find_unlabeled
from datasets.find_files import FileKind
from settings import did_you_mean

SKELETONS = FileKind("skeletons", (".npz", ".skeleton", ".json"))
BONES = "bones"
"""An array of an NPZ file that is not a sequence: pairs of joints."""
MAX_KEPT = 2**28
"""Largest NPZ file, in bytes, that stays in memory once it is read."""
MOST_GAPS = 1000
"""Largest ratio of the frames that a JSON file spans to those it has; a larger `frame_index` is a mistake."""
LARGEST = 1e15
"""Largest coordinate, in any unit: sums of larger ones' squares overflow in float32."""
NUM_KINECT_VALUES = 12
"""Numbers of a joint in a `.skeleton` file: x, y, z first, and last, whether it was tracked."""
MANY_PEOPLE = 10
"""More people than this, and more than four for each frame, are taken for the frames of another order of axes."""


def split_sequence(path: str) -> tuple[str, str | None]:
    """A path and the sequence that it picks: "set.npz:walk" -> "set.npz", "walk"; without one, None."""
    file, colon, name = path.rpartition(":")
    if colon and file.lower().endswith(".npz") and name:
        return file, name
    return path, None


def find_skeletons(places: Iterable[Any]) -> FileList:
    """Skeletons without labels: files, "set.npz:walk", or folders; an NPZ file means all its sequences."""
    paths: list[str] = []
    for place in places:
        if isinstance(place, Given):
            raise ValueError(f"{place.name}: expected the path of a skeleton, not an open file or an array")
        file, name = split_sequence(str(place))
        found = [item.path for item in find_unlabeled([file], SKELETONS)]
        for path in found:
            paths += [f"{path}:{name}"] if name else sequences_in(path)
    return FileList(paths, [UNLABELED] * len(paths), paths) if paths else find_unlabeled([], SKELETONS)


def sequences_in(path: str) -> list[str]:
    """The paths of all sequences in a file: "set.npz:walk", ..., or the file itself if it can hold only one."""
    if not path.lower().endswith(".npz"):
        return [path]
    try:
        names = _sequence_names(path)
    except FileError:
        return [path]  # it counts as unreadable
    return [f"{path}:{name}" for name in names] if len(names) > 1 else [path]


def read_skeleton(path: str | Path, num_people: int | None = None) -> np.ndarray:
    """The skeletons in the file at `path`, or in a sequence "set.npz:walk" of it: float32 [T, M, V, 3], NaN: missing.

    NTU's people are identified by their body numbers. Kinetics-skeleton has none: person m is the m-th most confident
    of each frame, as in ST-GCN's code; y points down there, and z is 0.

    `num_people` is how many people the caller keeps: an NPZ array with many more, in few frames, has its axes in
    another order. Short sequences are accepted, as are crowds if the caller keeps as many; None: not checked.

    Raises FileError if there is no such file or sequence, the file is damaged, or it contains no person.
    """
    path = str(path)
    file, name = split_sequence(path)
    if not Path(file).is_file():
        raise FileError(file, "there is no such file")
    if not Path(file).stat().st_size:
        raise FileError(file, "the file is empty")
    readers = {".npz": partial(_read_npz, num_people=num_people), ".skeleton": _read_ntu, ".json": _read_kinetics}
    reader = readers.get(Path(file).suffix.lower())
    if reader is None:
        raise FileError(file, f"not a skeleton file; expected one that ends in {' '.join(SKELETONS.suffixes)}")
    positions = reader(file, name) if name else reader(file)
    if (np.abs(positions) > LARGEST).any():
        raise FileError(path, f"a joint has an infinite coordinate, or one larger than {LARGEST:g}")
    if not np.isfinite(positions).all(axis=-1).any():
        raise FileError(path, "it has no person: every joint is missing in every frame")
    return positions


# NPZ: an array [T, V, 3] or [T, M, V, 3] for each sequence.


def _sequence_names(path: str) -> list[str]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return [name for name in archive.files if name != BONES]
    except Exception as error:  # on damaged files, zipfile, zlib and NumPy may raise anything
        raise FileError(path, f"cannot be read as NPZ; is it complete? ({error})") from error


def _read_npz(path: str, name: str | None = None, num_people: int | None = None) -> np.ndarray:
    stat = Path(path).stat()
    arrays = _archive(path, stat.st_mtime_ns) if stat.st_size <= MAX_KEPT else None
    names = list(arrays) if arrays is not None else _sequence_names(path)
    if name is None:
        if len(names) != 1:
            example = f", such as {path}:{names[0]}" if names else ""
            raise FileError(path, f"{len(names)} sequences are in it; name one{example}" if names else "it is empty")
        name = names[0]
    if name not in names:
        raise FileError(path, f"no sequence {name!r} is in it{did_you_mean(name, names)}")
    array = (arrays or _load(path, [name]))[name]
    if isinstance(array, str):
        raise FileError(f"{path}:{name}", array)
    if array.dtype.kind not in "fiu" or array.ndim not in (3, 4) or array.shape[-1] not in (2, 3) or not array.size:
        shape = f"{array.dtype} {list(array.shape)}"
        raise FileError(f"{path}:{name}", f"expected numbers [T, V, 3] or [T, M, V, 3], not {shape}")
    if array.ndim == 3:
        array = array[:, None]
    if num_people is not None and array.shape[1] > max(MANY_PEOPLE, num_people, 4 * len(array)):
        raise FileError(f"{path}:{name}", _other_order(array.shape))
    array = array.astype(np.float32)
    if array.shape[-1] == 2:
        array = np.concatenate([array, 0 * array[..., :1]], axis=-1)  # NaN where the joint is missing
    return array


def _other_order(shape: tuple[int, ...]) -> str:
    """What is wrong with an array of many people in few frames. Only ST-GCN's order has 3 before 2 coordinates."""
    channels_first = (shape[0], shape[-1]) == (3, 2)
    order, axes = ("[C, T, V, M]", "(1, 3, 2, 0)") if channels_first else ("[M, T, V, C]", "(1, 0, 2, 3)")
    return (
        f"expected [T, M, V, 3], but {list(shape)} would be {shape[1]} people in {shape[0]} frames and looks like "
        f"{order}; save array.transpose{axes}, or raise data.num_people if there really are so many people"
    )


@lru_cache(maxsize=4)
def _archive(path: str, mtime: int) -> dict[str, np.ndarray | str]:
    """All sequences of a file: opening it for each of them would take longer than running a small network."""
    return _load(path, _sequence_names(path))


def _load(path: str, names: Iterable[str]) -> dict[str, np.ndarray | str]:
    """The arrays of these names; where one cannot be read, the reason."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: _array(archive, name) for name in names}
    except Exception as error:
        raise FileError(path, f"cannot be read as NPZ; is it complete? ({error})") from error


def _array(archive: np.lib.npyio.NpzFile, name: str) -> np.ndarray | str:
    try:
        return np.asarray(archive[name])  # a file that is no array is bytes
    except (OSError, MemoryError):  # may not last: not to be kept
        raise
    except Exception as error:  # objects, which NumPy would have to unpickle, or damage
        return f"cannot be read as an array of numbers ({error})"


# NTU RGB+D: text, a number or a row of numbers in each line.


def _read_ntu(path: str) -> np.ndarray:
    try:
        lines = iter(Path(path).read_text().split("\n"))
        frames = [dict(_ntu_bodies(lines)) for _ in range(int(next(lines)))]
    except (StopIteration, RuntimeError, ValueError, LookupError, OSError) as error:
        raise FileError(path, "cannot be read as NTU's skeleton text; is it complete?") from error
    people = list(dict.fromkeys(number for frame in frames for number in frame))  # in order of appearance
    if not people:
        raise FileError(path, "it has no person: every joint is missing in every frame")
    num_joints = {len(body) for frame in frames for body in frame.values()}
    if len(num_joints) > 1:
        raise FileError(path, f"its bodies have different numbers of joints: {sorted(num_joints)}")
    positions = np.full((len(frames), len(people), num_joints.pop(), 3), np.nan, dtype=np.float32)
    for t, frame in enumerate(frames):
        for number, body in frame.items():
            positions[t, people.index(number)] = body
    return positions


def _ntu_bodies(lines: Iterator[str]) -> Iterator[tuple[str, np.ndarray]]:
    """The number and the joints [V, 3] of each body in a frame. A joint that was not tracked is NaN."""
    seen: Counter[str] = Counter()
    for _ in range(int(next(lines))):
        number = next(lines).split()[0]
        seen[number] += 1
        number += f" again {seen[number]}" * (seen[number] > 1)  # two bodies with one number count as two
        rows = [next(lines).split() for _ in range(int(next(lines)))]
        if not all(len(row) == NUM_KINECT_VALUES for row in rows):
            raise ValueError("not twelve numbers for each joint")
        values = np.array(rows, dtype=np.float64)
        values[values[:, -1] == 0] = np.nan
        yield number, values[:, :3]


# Kinetics-skeleton: {"data": [{"frame_index", "skeleton": [{"pose": [x, y, ...], "score": [...]}]}], ...}


def _read_kinetics(path: str) -> np.ndarray:
    try:
        frames = json.loads(Path(path).read_text())["data"]
        people = [sorted(map(_kinetics_body, frame["skeleton"]), key=lambda body: -body[0]) for frame in frames]
        times = _kinetics_times([frame.get("frame_index") for frame in frames])
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError, OSError) as error:
        raise FileError(path, f"cannot be read as JSON of Kinetics-skeleton: {error!r}") from error
    num_joints = {len(body) for frame in people for _, body in frame}
    if not num_joints:
        raise FileError(path, "it has no person: every joint is missing in every frame")
    if len(num_joints) > 1:
        raise FileError(path, f"its bodies have different numbers of joints: {sorted(num_joints)}")
    most = max(map(len, people))
    positions = np.full((max(times) + 1, most, num_joints.pop(), 3), np.nan, dtype=np.float32)
    for t, frame in zip(times, people, strict=True):
        for m, (_, body) in enumerate(frame):
            positions[t, m] = body
    return positions


def _kinetics_times(indices: list[Any]) -> list[int]:
    """The frame of each entry, the first at 0: by `frame_index`, or in file order without one."""
    if all(index is None for index in indices):
        return list(range(len(indices)))
    times = [operator.index(index) - min(indices) for index in indices]
    if len(set(times)) < len(times):
        raise ValueError("two entries have one frame_index")
    if max(times) >= MOST_GAPS * len(times):
        raise ValueError(f"frame_index goes from {min(indices)} to {max(indices)}, but there are {len(indices)} frames")
    return times


def _kinetics_body(person: dict[str, Any]) -> tuple[float, np.ndarray]:
    """The mean score of a person, and the joints [V, 3]. A joint of score 0 is NaN."""
    score = np.array(person["score"], dtype=np.float64)
    pose = np.array(person["pose"], dtype=np.float64).reshape(len(score), 2)
    joints = np.concatenate([pose, np.zeros_like(pose[:, :1])], axis=1)
    joints[score == 0] = np.nan
    return float(score.mean()), joints
