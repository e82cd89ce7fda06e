"""Keeps the indices of many videos on disk, with the faults found in each.

`tools/check_videos.py` writes one file, `LIST.index`, beside the list or folder; training and evaluation read the
indices of its videos from there instead of reading every packet of a file before its first frame. An entry is valid
only for a file of the same size and modification time.

The file is a SQLite database, so it survives a process that is killed while writing. Each process opens it separately.
"""

import json
import os
import sqlite3
import zlib
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from datasets.file_list import FileError
from datasets.text_files import existing_path
from datasets.video.container import Stamp, video_stamp
from datasets.video.index import VideoIndex
from datasets.video.orientation import Orientation

VERSION = 5  # of the format of entries; those of other versions are ignored
FROM_JSON = {"fraction": Fraction, "orientation": lambda value: Orientation(*value), "plain": lambda value: value}
SECONDS_TO_WAIT = 60  # while another process writes
MAX_KEPT = 64 << 20  # bytes of unpacked indices that a store keeps; three hours of video take 15 MB
MIN_KEPT = 1 << 20  # bytes; smaller indices are unpacked again, faster than a clip is decoded


def store_path(source: str | Path) -> Path:
    """Where the store of a list or folder of videos is."""
    source = Path(os.path.abspath(Path(source).expanduser()))  # "." has no name
    return source.with_name(f"{source.name}.index")


def find_store(source: str | Path, index: str | Path | None = None) -> "IndexStore | None":
    """The store of a list or folder of videos, or None; or the store at `index`, which must exist."""
    if index is not None:
        return IndexStore(existing_path(Path(index).expanduser(), "index of videos"))
    path = store_path(source)
    return IndexStore(path) if path.exists() else None


class IndexStore:
    """The indices of many videos; small, picklable, and usable from any number of processes.

        index = IndexStore("train.txt.index").find("videos/a.mp4")  # None: unknown, or the file has changed
        VideoReader("videos/a.mp4", index=index)

    Videos are keyed by their path relative to the store's folder, so both can be moved together. Recent indices of long
    videos stay unpacked in memory (see `RecentIndices`) until an entry of the store changes.
    """

    def __init__(self, path: str | Path):
        self.path = os.path.abspath(path)
        self._folder = os.path.dirname(self.path)
        self._connection: sqlite3.Connection | None = None
        self._owner = 0  # the process that opened the connection; a forked child must not use it
        self._recent = RecentIndices()
        self._data_version: int | None = None  # of the connection, when the recent indices were read

    def __getstate__(self):
        return {**self.__dict__, "_connection": None, "_owner": 0, "_recent": RecentIndices()}

    def find(self, path: str | Path) -> VideoIndex | None:
        """The index of a video; None if the store has none for the current version of the file."""
        try:
            size, time = video_stamp(path)
        except (OSError, ValueError, FileError):  # a NUL character is a ValueError
            return None  # opening the file reports what is wrong with it
        key = self._key(path), size, time
        with self._errors():
            connection = self._open()
            self._forget_if_written(connection)
            if key in self._recent:
                return self._recent[key]
            row = connection.execute(
                "SELECT packed FROM videos WHERE path = ? AND size = ? AND time = ? AND version = ?", (*key, VERSION)
            ).fetchone()
        index = None if row is None or row[0] is None else unpack_index(row[0])
        if index is not None:
            self._recent.add(key, index)
        return index

    def _forget_if_written(self, connection: sqlite3.Connection) -> None:
        """Drops the recent indices if another connection has written to the store since they were read."""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version != self._data_version:
            self._recent, self._data_version = RecentIndices(), version

    def _open(self) -> sqlite3.Connection:
        if self._owner != os.getpid():
            uri = f"{Path(self.path).as_uri()}?mode=ro"
            self._connection, self._owner = sqlite3.connect(uri, SECONDS_TO_WAIT, uri=True), os.getpid()
            self._data_version = None  # versions of two connections cannot be compared
        return self._connection

    def _key(self, path: str | Path) -> bytes:
        return os.fsencode(os.path.relpath(path, self._folder))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            advice = "does its folder exist, is it writable, and is no other process writing to it?"
            raise FileError(self.path, f"cannot be opened as an index of videos: {error}; {advice}") from error
        except sqlite3.Error as error:
            advice = "remove it, and run tools/check_videos.py to make it again"
            raise FileError(self.path, f"cannot be used as an index of videos ({error}); {advice}") from error


class IndexStoreWriter(IndexStore):
    """A store that one process can write to, inside a `with`. Committed entries survive a crash."""

    def __enter__(self):
        with self._errors():
            self._connection, self._owner = sqlite3.connect(self.path, SECONDS_TO_WAIT), os.getpid()
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS videos (path BLOB PRIMARY KEY, version INTEGER, size INTEGER, "
                "time INTEGER, facts TEXT, packed BLOB)"
            )
        return self

    def __exit__(self, *error):
        self.commit()
        self._connection.close()

    def commit(self) -> None:
        with self._errors():
            self._connection.commit()

    def facts(self, path: str | Path) -> tuple[Stamp, dict[str, Any]] | None:
        """The stamp and facts last written for a video; None if there are none."""
        with self._errors():
            row = self._connection.execute(
                "SELECT size, time, facts FROM videos WHERE path = ? AND version = ?", (self._key(path), VERSION)
            ).fetchone()
        return None if row is None else ((row[0], row[1]), json.loads(row[2]))

    def write(self, path: str | Path, stamp: Stamp | None, facts: dict[str, Any], index: VideoIndex | None) -> None:
        """Replaces the entry of a video. Without a stamp it is never valid."""
        self._recent = RecentIndices()
        size, time = stamp or (None, None)
        packed = None if index is None else pack_index(index)
        with self._errors():
            self._connection.execute(
                "REPLACE INTO videos (path, version, size, time, facts, packed) VALUES (?, ?, ?, ?, ?, ?)",
                (self._key(path), VERSION, size, time, json.dumps(facts), packed),
            )


class RecentIndices:
    """The most recently used indices, by any key, in at most `max_bytes`; those below `min_bytes` are not kept."""

    def __init__(self, max_bytes: int = MAX_KEPT, min_bytes: int = MIN_KEPT):
        self.num_bytes = 0
        self._max_bytes, self._min_bytes = max_bytes, min_bytes
        self._indices: OrderedDict[Hashable, VideoIndex] = OrderedDict()  # the most recently used at the end

    def __contains__(self, key: Hashable) -> bool:
        return key in self._indices

    def __getitem__(self, key: Hashable) -> VideoIndex:
        self._indices.move_to_end(key)
        return self._indices[key]

    def add(self, key: Hashable, index: VideoIndex) -> None:
        """Keeps the index of a new key, dropping the least recently used to make room."""
        if self._min_bytes <= index.num_bytes <= self._max_bytes:
            self._indices[key] = index
            self.num_bytes += index.num_bytes
            while self.num_bytes > self._max_bytes:
                self.num_bytes -= self._indices.popitem(last=False)[1].num_bytes


def pack_index(index: VideoIndex) -> bytes:
    """An index in a few bytes per frame.

    Arrays are written as differences of neighbors, first the lowest bytes of all numbers, then all second bytes, and so
    on, so that most bytes are equal and compress well.
    """
    header, parts = {}, []
    for field in fields(index):
        value = getattr(index, field.name)
        if isinstance(value, np.ndarray):
            header[field.name] = ["array", len(value), value.dtype.str]
            differences = np.diff(value.astype(np.int64), prepend=0)
            parts.append(differences.astype("<i8").view(np.uint8).reshape(-1, 8).T.tobytes())
        elif isinstance(value, Fraction):
            header[field.name] = ["fraction", str(value)]
        elif isinstance(value, Orientation):
            header[field.name] = ["orientation", list(value)]
        else:
            header[field.name] = ["plain", value]
    return zlib.compress(b"".join([json.dumps(header).encode(), b"\n", *parts]))


def unpack_index(packed: bytes) -> VideoIndex | None:
    """The index that `pack_index` packed; None if it was packed with other fields."""
    data = zlib.decompress(packed)
    start = data.index(b"\n") + 1
    header = json.loads(data[:start])
    if list(header) != [field.name for field in fields(VideoIndex)]:
        return None
    values = {}
    for name, (kind, value, *dtype) in header.items():
        if kind == "array":
            planes = np.frombuffer(data, np.uint8, 8 * value, start).reshape(8, value)
            values[name] = planes.T.copy().view("<i8")[:, 0].cumsum().astype(dtype[0])
            values[name].setflags(write=False)  # readers share it
            start += 8 * value
        else:
            values[name] = FROM_JSON[kind](value)
    return VideoIndex(**values)
