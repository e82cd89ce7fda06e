"""Indices kept on disk: what is written is found again, and only for the file it was written for."""

import os
import pickle
import sqlite3
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields, make_dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from encode import encode_video, number_frames, read_numbers

from datasets.file_list import FileError
from datasets.video import VideoReader
from datasets.video import index_store as store_module
from datasets.video.container import stamp
from datasets.video.index_store import (
    IndexStore,
    IndexStoreWriter,
    RecentIndices,
    find_store,
    pack_index,
    store_path,
    unpack_index,
)


@pytest.fixture
def video(tmp_path):
    (tmp_path / "videos").mkdir()
    return encode_video(tmp_path / "videos" / "a.mp4", number_frames(40), gop=10)


def index_of(path):
    with VideoReader(path) as reader:
        return reader.index


def keep(store, *paths):
    with IndexStoreWriter(store) as writer:
        for path in paths:
            writer.write(path, stamp(path), {"fault": ""}, index_of(path))
    return IndexStore(store)


def assert_equal(a, b):
    for field in fields(a):
        first, second = getattr(a, field.name), getattr(b, field.name)
        np.testing.assert_array_equal(first, second)
        assert type(first) is type(second) and getattr(first, "dtype", None) == getattr(second, "dtype", None)


@pytest.mark.parametrize("name", ["h264.mp4", "b_frames.avi", "sound.mkv", "stream.ts"])
def test_packed_and_unpacked(tmp_path, name):
    options = {"codec": "mpeg4", "b_frames": 2} if name.endswith("avi") else {"audio": True}
    index = index_of(encode_video(tmp_path / name, number_frames(60, 96, 128), **options))
    packed = pack_index(index)
    assert_equal(unpack_index(packed), index)
    assert len(packed) < 60 * 48 / 3  # a quarter of six 8-byte numbers per frame


def test_indices_with_other_fields_are_ignored(tmp_path, video, monkeypatch):
    packed = pack_index(index_of(video))
    monkeypatch.setattr(store_module, "VideoIndex", make_dataclass("VideoIndex", ["frame_packets", "other"]))
    assert unpack_index(packed) is None


def test_found_by_a_reader(video, tmp_path, monkeypatch):
    store = keep(tmp_path / "list.txt.index", video)
    monkeypatch.chdir(video.parent)
    for path in (video, str(video), "a.mp4", "../videos/a.mp4"):
        assert_equal(store.find(path), index_of(video))
    monkeypatch.setattr("datasets.video.reader.scan_video", lambda *_: pytest.fail("scanned again"))
    with VideoReader(video, index=store.find(video)) as reader:
        assert reader.num_frames == 40 and read_numbers(reader.get_frames([31, 2])) == [31, 2]


def test_not_found(video, tmp_path):
    store = keep(tmp_path / "list.txt.index", video)
    other = encode_video(tmp_path / "b.mp4", number_frames(5))
    assert store.find(other) is None  # not in it
    content, status = video.read_bytes(), os.stat(video)
    os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns + 1000))
    assert store.find(video) is None  # touched
    os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert store.find(video) is not None
    video.write_bytes(content[:-1])
    os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert store.find(video) is None  # another size
    video.unlink()
    assert store.find(video) is None  # gone
    assert store.find("a\0.mp4") is None  # no file can have this name


@pytest.fixture
def unpacked(monkeypatch):
    """What has been unpacked so far; indices of any length are kept."""
    packed = []
    monkeypatch.setattr(store_module, "unpack_index", lambda data: packed.append(data) or unpack_index(data))
    monkeypatch.setattr(RecentIndices.__init__, "__defaults__", (store_module.MAX_KEPT, 0))
    return packed


def test_found_again_without_unpacking(video, tmp_path, unpacked):
    path = tmp_path / "list.txt.index"
    store, index = keep(path, video), index_of(video)
    first = store.find(video)
    assert store.find(str(video)) is first and len(unpacked) == 1
    with pytest.raises(ValueError, match="read-only"):
        first.packet_sizes[0] = 0
    with IndexStoreWriter(path) as writer:  # another entry for the same file
        writer.write(video, stamp(video), {"fault": ""}, replace(index, duration=index.duration + 1))
        assert writer.find(video).duration == index.duration + 1
        writer.write(video, stamp(video), {"fault": ""}, replace(index, duration=index.duration + 2))
        assert writer.find(video).duration == index.duration + 2
    assert store.find(video).duration == index.duration + 2
    status = os.stat(video)
    os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns + 1000))
    assert store.find(video) is None  # touched
    os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns))
    num_unpacked = len(unpacked)
    assert store.find(video).duration == index.duration + 2 and len(unpacked) == num_unpacked
    copy = pickle.loads(pickle.dumps(store))
    assert_equal(copy.find(video), store.find(video))
    assert len(unpacked) == num_unpacked + 1 and len(pickle.dumps(store)) < 1000


def test_recent_indices_take_bounded_memory(video):
    index = index_of(video)
    size = index.num_bytes
    assert size == 40 * 6 * 8
    recent = RecentIndices(max_bytes=2 * size, min_bytes=size)
    recent.add("a", index)
    recent.add("b", index)
    assert recent["a"] is index  # so "b" is the longest unused
    recent.add("c", index)
    assert [key in recent for key in "abc"] == [True, False, True] and recent.num_bytes == 2 * size
    recent.add("short", replace(index, packet_times=index.packet_times[:-1]))
    recent.add("long", replace(index, packet_times=np.zeros(3 * size)))
    assert "short" not in recent and "long" not in recent and recent.num_bytes == 2 * size


def test_list_and_videos_can_be_moved(video, tmp_path):
    keep(tmp_path / "list.txt.index", video)
    (tmp_path / "new").mkdir()
    for name in ("videos", "list.txt.index"):
        (tmp_path / name).rename(tmp_path / "new" / name)
    assert find_store(tmp_path / "new/list.txt").find(tmp_path / "new/videos/a.mp4") is not None
    assert find_store(tmp_path / "list.txt") is None
    assert store_path("lists/train.txt") == Path.cwd() / "lists/train.txt.index"


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_used_by_other_processes(video, tmp_path, start):
    store = keep(tmp_path / "list.txt.index", video)
    store.find(video)  # opens a connection, which must not be inherited
    with ProcessPoolExecutor(2, get_context(start)) as pool:
        for index in pool.map(store.find, [video] * 4):
            assert_equal(index, index_of(video))
    assert len(pickle.dumps(store)) < 1000


def test_committed_entries_survive(video, tmp_path):
    path = tmp_path / "list.txt.index"
    with IndexStoreWriter(path) as writer:
        writer.write(video, stamp(video), {"fault": ""}, None)
        writer.commit()
        with sqlite3.connect(path) as other:  # what other processes see
            assert other.execute("SELECT count(*) FROM videos").fetchone() == (1,)
    with IndexStoreWriter(path) as writer:
        assert writer.facts(video) == (stamp(video), {"fault": ""})
        writer.write(video, None, {"fault": "gone"}, None)
        assert writer.facts(video) == ((None, None), {"fault": "gone"})


def test_not_a_store(tmp_path, video):
    path = tmp_path / "list.txt.index"
    path.write_text("something else, and long enough to be read as a header of a database" * 20)
    with pytest.raises(FileError, match=r"list.txt.index: cannot be used as an index of videos .*; remove it"):
        IndexStore(path).find(video)
