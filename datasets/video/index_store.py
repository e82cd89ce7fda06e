"""Keeps on disk what is known of the videos of a list: where their frames are, and what is wrong with them.

`tools/check_videos.py` writes one file, `LIST.index`, beside the list or folder; training and evaluation take the
indices of its videos from there instead of reading every packet of a file before its first frame. An entry holds for a
file of the same size and modification time; for any other it is as if there were none.

The file is a SQLite database, which survives being killed in the middle of writing. Processes open it themselves.
"""

import json
import os
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from datasets.file_list import FileError, existing_path
from datasets.video.index import Stamp, VideoIndex, stamp

VERSION = 3  # of what an entry holds; entries of others are not used
SECONDS_TO_WAIT = 60  # for another process that writes


def store_path(source: str | Path) -> Path:
    """Where the store of a list or folder of videos is."""
    source = Path(os.path.abspath(Path(source).expanduser()))  # "." has no name
    return source.with_name(f"{source.name}.index")


def find_store(source: str | Path, index: str | Path | None = None) -> "IndexStore | None":
    """The store of a list or folder of videos, if there is one; or that at `index`, which must be there."""
    if index is not None:
        return IndexStore(existing_path(Path(index).expanduser(), "index of videos"))
    path = store_path(source)
    return IndexStore(path) if path.exists() else None


class IndexStore:
    """The indices of many videos; small, picklable, and good for any number of processes.

        index = IndexStore("train.txt.index").find("videos/a.mp4")  # None: not known, or the file has changed
        VideoReader("videos/a.mp4", index=index)

    Videos go by their path from the store's folder: both can be moved together.
    """

    def __init__(self, path: str | Path):
        self.path = os.path.abspath(path)
        self._folder = os.path.dirname(self.path)
        self._connection: sqlite3.Connection | None = None
        self._owner = 0  # the process that opened the connection; one that was forked off must not use it

    def __getstate__(self):
        return {**self.__dict__, "_connection": None, "_owner": 0}

    def find(self, path: str | Path) -> VideoIndex | None:
        """The index of a video; None if there is none for the file as it is now."""
        try:
            size, time = stamp(path)
        except OSError:
            return None  # whoever opens the file says what is wrong with it
        with self._errors():
            row = self._open().execute(
                "SELECT packed FROM videos WHERE path = ? AND size = ? AND time = ? AND version = ?",
                (self._key(path), size, time, VERSION),
            ).fetchone()  # fmt: skip
        return None if row is None or row[0] is None else unpack_index(row[0])

    def _open(self) -> sqlite3.Connection:
        if self._owner != os.getpid():
            uri = f"{Path(self.path).as_uri()}?mode=ro"
            self._connection, self._owner = sqlite3.connect(uri, SECONDS_TO_WAIT, uri=True), os.getpid()
        return self._connection

    def _key(self, path: str | Path) -> bytes:
        return os.fsencode(os.path.relpath(path, self._folder))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            advice = "is its folder there and writable, and is no other process writing it?"
            raise FileError(self.path, f"cannot be opened as an index of videos: {error}; {advice}") from error
        except sqlite3.Error as error:
            advice = "remove it, and tools/check_videos.py makes it anew"
            raise FileError(self.path, f"cannot be used as an index of videos ({error}); {advice}") from error


class StoreWriter(IndexStore):
    """A store that can be written, by one process; `with` closes it. What was committed survives."""

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
        """What `write` was given last for a video."""
        with self._errors():
            row = self._connection.execute(
                "SELECT size, time, facts FROM videos WHERE path = ? AND version = ?", (self._key(path), VERSION)
            ).fetchone()
        return None if row is None else ((row[0], row[1]), json.loads(row[2]))

    def write(self, path: str | Path, stamp: Stamp | None, facts: dict[str, Any], index: VideoIndex | None) -> None:
        """Replaces the entry of a video. No stamp: it holds for no file."""
        size, time = stamp or (None, None)
        packed = None if index is None else pack_index(index)
        with self._errors():
            self._connection.execute(
                "REPLACE INTO videos (path, version, size, time, facts, packed) VALUES (?, ?, ?, ?, ?, ?)",
                (self._key(path), VERSION, size, time, json.dumps(facts), packed),
            )


def pack_index(index: VideoIndex) -> bytes:
    """An index in a few bytes for each frame.

    Arrays are written as differences of neighbors, with the first bytes of all numbers before all second ones and so
    on: most of these bytes are then the same, and pack well.
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
        else:
            header[field.name] = ["plain", value]
    return zlib.compress(b"".join([json.dumps(header).encode(), b"\n", *parts]))


def unpack_index(packed: bytes) -> VideoIndex | None:
    """What `pack_index` packed; None if indices had other fields then."""
    text, _, data = zlib.decompress(packed).partition(b"\n")
    header = json.loads(text)
    if list(header) != [field.name for field in fields(VideoIndex)]:
        return None
    values, start = {}, 0
    for name, (kind, value, *dtype) in header.items():
        if kind == "array":
            planes = np.frombuffer(data, np.uint8, 8 * value, start).reshape(8, value)
            values[name] = planes.T.copy().view("<i8")[:, 0].cumsum().astype(dtype[0])
            start += 8 * value
        else:
            values[name] = Fraction(value) if kind == "fraction" else value
    return VideoIndex(**values)
