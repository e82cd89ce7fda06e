"""Opens whatever a list names: files, folders of frames, members of tar files; gives up on what hangs."""

import gc
import os
import pickle
import re
import signal
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from encode import encode_video, number_frames, read_numbers
from PIL import Image

from datasets.video import VideoError, VideoReader
from datasets.video.frame_folder import FrameFolderReader
from datasets.video.open_video import VideoOpener, time_limit
from datasets.video.resize import View, resize_fast


@pytest.fixture
def folder(tmp_path):
    """12 frames; the tenth is img_10, after img_9."""
    path = tmp_path / "frames"
    path.mkdir()
    for number, picture in enumerate(number_frames(12)):
        Image.fromarray(picture).save(path / f"img_{number + 1}.png")
    (path / "notes.txt").write_text("no frame")
    return path


def test_a_folder_of_frames(folder):
    with VideoOpener()(str(folder)) as frames:
        assert isinstance(frames, FrameFolderReader)
        assert (frames.num_frames, frames.height, frames.width, frames.fps) == (12, 48, 64, None)
        clip = frames.get_frames([11, 0, 9, 9])
        np.testing.assert_array_equal(clip, number_frames(12)[[11, 0, 9, 9]])
        view = View(96, 128, 8, 16, 64, 64)
        first, second = frames.get_clips([([3, 1], view), ([1], view)])
        assert torch.equal(first, resize_fast(frames.get_frames([3, 1]), view)) and torch.equal(second, first[:, 1:])
        with pytest.raises(IndexError, match="no frame 12, the video has frames 0 to 11"):
            frames.get_frames([12])


def test_bad_folders_say_why(folder, tmp_path):
    (tmp_path / "clip.mp4").mkdir()
    with (
        pytest.raises(VideoError, match=r"clip\.mp4: is a directory without images"),
        VideoOpener()(tmp_path / "clip.mp4"),
    ):
        pass
    (folder / "img_3.png").write_bytes(b"no image")
    Image.new("RGB", (5, 7)).save(folder / "img_4.png")
    with FrameFolderReader(folder) as frames:
        with pytest.raises(VideoError, match=r"img_3\.png cannot be read as an image"):
            frames.get_frames([0, 2])
        with pytest.raises(VideoError, match=r"img_4\.png has 5 x 7 pixels, the first 64 x 48"):
            frames.get_frames([3])


def test_frames_of_any_depth_and_orientation(tmp_path):
    ramp = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "a_1.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(np.rot90(ramp >> 8).astype(np.uint8)).save(tmp_path / "a_2.png", exif=exif)
    Image.fromarray((ramp >> 8) / np.float32(255)).save(tmp_path / "a_3.tif")
    with FrameFolderReader(tmp_path) as frames:
        assert (frames.num_frames, frames.height, frames.width) == (3, 48, 64)
        for frame in frames.get_frames(range(3)):
            assert np.array_equal(frame, np.repeat((ramp >> 8)[..., None], 3, axis=2))
    Image.fromarray(ramp.astype(np.int32)).save(tmp_path / "a_4.tif")
    with FrameFolderReader(tmp_path) as frames, pytest.raises(VideoError, match=r"a_4\.tif cannot .* signed numbers"):
        frames.get_frames([3])


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi"])
def test_members_of_a_tar_file(name, tmp_path):
    path = encode_video(tmp_path / name, number_frames(40), gop=12)
    with VideoReader(path) as video:
        expected = video.get_frames(range(40))
    shard = tmp_path / "a shard, with commas.tar"
    with tarfile.open(shard, "w") as tar:
        tar.add(encode_video(tmp_path / "other.mp4", number_frames(3)), "other.mp4")
        tar.add(path, f"folder/{name}")
    member = f"{shard}#folder/{name}"
    with VideoOpener()(member) as video:
        assert torch.equal(video.get_frames(range(40)), expected) and video.path == member
        index = pickle.loads(pickle.dumps(video.index))
    with VideoReader(member, index=index) as video:
        assert read_numbers(video.get_frames([37, 14])) == [37, 14]
    with pytest.raises(VideoError, match=r"tar#gone\.mp4: the tar file has no such member; it has 2 files"):
        VideoReader(f"{shard}#gone.mp4")
    with pytest.raises(VideoError, match=re.escape("none.tar#a.mp4: No such file or directory")):
        VideoReader(tmp_path / "none.tar#a.mp4")
    (tmp_path / "bad.tar").write_bytes(b"some text" * 100)
    with pytest.raises(VideoError, match=r"bad\.tar#a\.mp4: not a tar file"):
        VideoReader(tmp_path / "bad.tar#a.mp4")
    for path in ("a\0.mp4", "a\0.tar#a.mp4"):
        with pytest.raises(VideoError, match="null"), VideoOpener()(path):
            pass
    encode_video(odd := tmp_path / "odd.tar#name.mp4", number_frames(2))  # an existing file with such a name
    with VideoReader(odd) as video:
        assert video.num_frames == 2


def test_a_time_limit_ends_what_hangs(tmp_path):
    path = encode_video(tmp_path / "clip.mp4", number_frames(2))
    before = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)[0]
    start = time.monotonic()
    with (
        pytest.raises(VideoError, match=r"clip\.mp4: took longer than 0\.2 seconds to read"),
        VideoOpener(timeout_seconds=0.2)(str(path)),
    ):
        time.sleep(30)
    assert time.monotonic() - start < 10
    with time_limit(5, "a"), VideoOpener(timeout_seconds=60)(str(path)) as video:
        assert video.num_frames == 2
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 60
    after = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)[0]
    assert after[0] == before[0] and before[1] - 20 <= after[1] <= before[1]  # pytest's own alarm goes on


def test_an_unknown_reader():
    with pytest.raises(ValueError, match="no reader is called 'av'; did you mean 'pyav'"):
        VideoOpener("av")


@pytest.mark.slow
@pytest.mark.needs("proc")
def test_memory_stays_flat_over_ten_thousand_clips(tmp_path):
    path = str(encode_video(tmp_path / "clip.mp4", number_frames(6)))
    opener, view, used = VideoOpener(timeout_seconds=60), View(72, 96, 4, 8, 64, 64), []
    for number in range(10_000):
        with opener(path) as video:
            video.get_clips([([number % 6], view)])
        if number % 1000 == 999:
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            used.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
    assert used[-1] - used[1] < 8, f"MiB after each thousand: {used}"
