"""Packets read straight from a file give the same frames as demuxed ones, and only for the file that was indexed."""

import os
import tarfile

import av
import numpy as np
import pytest
from encode import encode_video, number_frames

from datasets.video import packets as packets_module
from datasets.video.container import VideoError, make_decoder
from datasets.video.reader import VideoReader

DIRECT = {
    "h264.mp4": {"gop": 12},
    "h264.mkv": {"gop": 12, "audio": True},
    "h264.flv": {"gop": 12},
    "h264.avi": {"gop": 12},
    "h265.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=12:open-gop=1"}},
    "vp9.webm": {"codec": "libvpx-vp9", "gop": 12},
    "mpeg4.avi": {"codec": "mpeg4", "audio": True},
    "mpeg4_b_frames.avi": {"codec": "mpeg4", "b_frames": 2},
    "rotated.mp4": {"rotation": 90},
}
NUMBERS = [37, 3, 14, 15, 3]


def make(path, **options):
    return encode_video(path, number_frames(40, 48, 64), **options)


def read(path, index=None):
    with VideoReader(path, index=index) as video:
        return video.get_frames(NUMBERS).numpy(), video.index


def refuse_to_open(path, *_):
    pytest.fail(f"{path} was opened as a video")


@pytest.mark.parametrize("name", DIRECT)
def test_indexed_files_need_not_be_opened(name, tmp_path, monkeypatch):
    path = make(tmp_path / name, **DIRECT[name])
    expected, index = read(path)
    with VideoReader(path) as video:
        described = {key: value for key, value in vars(video).items() if not key.startswith("_") and key != "index"}
    monkeypatch.setattr(packets_module, "open_container", refuse_to_open)
    np.testing.assert_array_equal(read(path, index)[0], expected)
    with VideoReader(path, index=index) as video:
        assert described.items() <= vars(video).items()


def test_members_of_tar_files_need_not_be_opened(tmp_path, monkeypatch):
    path = make(tmp_path / "clip.mp4")
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        tar.add(make(tmp_path / "other.mp4", gop=3), "other.mp4")
        tar.add(path, "clip.mp4")
    expected, index = read(f"{tmp_path}/shard.tar#clip.mp4")
    monkeypatch.setattr(packets_module, "open_container", refuse_to_open)
    np.testing.assert_array_equal(read(f"{tmp_path}/shard.tar#clip.mp4", index)[0], expected)


@pytest.mark.parametrize("name", ["stream.ts", "mpeg2.mpg"])
def test_fragmented_packets_are_demuxed(name, tmp_path):
    path = make(tmp_path / name, **({"codec": "mpeg2video"} if name.endswith("mpg") else {}))
    expected, index = read(path)
    assert not index.is_direct
    np.testing.assert_array_equal(read(path, index)[0], expected)


def test_a_file_that_has_changed_is_opened(tmp_path, monkeypatch):
    path = make(tmp_path / "clip.mp4")
    expected, index = read(path)
    os.utime(path, ns=(0, 0))
    np.testing.assert_array_equal(read(path, index)[0], expected)  # another time: perhaps a copy
    monkeypatch.setattr(packets_module, "open_container", refuse_to_open)
    with pytest.raises(pytest.fail.Exception, match="was opened as a video"):
        read(path, index)


@pytest.mark.parametrize("settings", [{"name": "unheard-of"}, {"name": "h264", "extradata": "", "unheard_of": 1}])
def test_an_unknown_decoder_is_not_used(settings, tmp_path):
    path = make(tmp_path / "clip.mp4")
    expected, index = read(path)
    index.facts["decoder"] = settings
    np.testing.assert_array_equal(read(path, index)[0], expected)


def test_a_file_truncated_while_it_is_open(tmp_path):
    path = make(tmp_path / "clip.mkv")
    with VideoReader(path, index=read(path)[1]) as video:
        os.truncate(path, path.stat().st_size // 2)
        with pytest.raises(VideoError, match="does not match its index"):
            video.get_frames([39])


@pytest.mark.parametrize("color_range", ["tv", "pc"])
def test_decoders_know_the_colors(color_range, tmp_path):
    options = {"colorprim": "bt709", "transfer": "bt709", "colormatrix": "bt709", "range": color_range}
    parameters = ":".join(f"{name}={value}" for name, value in options.items())
    path = make(tmp_path / "clip.mp4", options={"x264-params": parameters})
    expected, index = read(path)
    np.testing.assert_array_equal(read(path, index)[0], expected)
    with av.open(str(path)) as container:
        original, copy = container.streams.video[0].codec_context, make_decoder(index.facts["decoder"], 1)
        for name in ("extradata", "width", "height", "pix_fmt", "color_range", "colorspace", "reorder_depth"):
            assert getattr(copy, name) == getattr(original, name)
