"""Readers of other libraries give exactly the frames that ours gives, or leave the file to ours."""

import dataclasses
import sys

import numpy as np
import pytest
import torch
from encode import encode_two_streams, encode_video, number_frames, read_numbers, write_matrix

from datasets.video.container import VideoError
from datasets.video.other_decoders import (
    READERS,
    OtherDecoderReader,
    TorchCodecCudaReader,
    TorchCodecReader,
    find_divergences,
    find_reader,
)
from datasets.video.reader import VideoReader
from datasets.video.resize import View, resize_fast

OPEN_GOP = {"x264-params": "open-gop=1:keyint=12:bframes=3"}
CLIPS = {  # name: (encoder options, expected divergences)
    "h264.mp4": ({}, set()),
    "h264.mkv": ({"gop": 12}, set()),
    "h264_open_gop.mkv": ({"options": OPEN_GOP}, {"open_gops"}),
    "h264_open_gop.ts": ({"options": OPEN_GOP}, {"open_gops", "container"}),
    "h264_10_bit.mp4": ({"pix_fmt": "yuv420p10le"}, {"colors", "not_420"}),
    "h264_odd_size.mkv": ({"size": (45, 67), "pix_fmt": "yuv444p"}, {"not_420"}),
    "mpeg4_odd_size.mp4": ({"size": (45, 67), "codec": "mpeg4", "b_frames": 2}, {"colors", "open_gops"}),
    "h265.mp4": ({"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=12:open-gop=0"}}, set()),
    "mpeg4.avi": ({"codec": "mpeg4"}, {"avi"}),
    "mpeg4_b_frames.avi": ({"codec": "mpeg4", "b_frames": 2}, {"avi", "open_gops"}),
    "vp9.webm": ({"codec": "libvpx-vp9", "gop": 12}, set()),
    "mjpeg.avi": ({"codec": "mjpeg", "pix_fmt": "yuvj420p"}, {"avi", "not_420"}),
    "variable_rate.mp4": ({"pts": [round(1.4 * i) for i in range(40)], "gop": 12}, {"uneven_times"}),
    "rotated_90.mp4": ({"rotation": 90}, {"turned"}),
    "mirrored.mp4": ({"matrix": (-1, 0, 0, 1)}, {"turned"}),
    "rare_format.mov": ({"codec": "svq1", "pix_fmt": "yuv410p"}, {"colors", "not_420"}),
    "bt2020.mp4": ({"options": {"colorspace": "bt2020nc"}}, {"bt2020"}),
    "one_frame_a_group.mp4": ({"gop": 1}, set()),
    "audio.mp4": ({"audio": True}, set()),
}


def make(path, *, num_frames=40, size=(48, 64), matrix=None, **options):
    encode_video(path, number_frames(num_frames, *size), **options)
    return write_matrix(path, *matrix) if matrix else path


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return [make(folder / name, **options) for name, (options, _) in CLIPS.items()]


def test_divergences_are_found(clips):
    for path in clips:
        with VideoReader(path) as video:
            assert find_divergences(video) == CLIPS[path.name][1], path.name


def change_index(index, facts=None, **changes):
    return dataclasses.replace(index, facts={**index.facts, **(facts or {})}, **changes)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda index: change_index(index, {"interlaced": True}), "interlaced"),
        (lambda index: change_index(index, {"changes": True}), "changes"),
        (lambda index: change_index(index, {"false_keyframes": True}), "false_keyframes"),
        (lambda index: change_index(index, packet_times=index.packet_times % 800), "times"),
        (lambda index: change_index(index, packet_times=index.packet_times // 100), "times"),
        (lambda index: change_index(index, frame_packets=index.frame_packets[:-1]), "hidden"),
    ],
)
def test_every_reader_leaves_odd_files_to_ours(clips, change, expected):
    with VideoReader(clips[1]) as video:
        index = change(video.index)
    with VideoReader(clips[1], index=index) as video:
        assert expected in find_divergences(video)
    assert all(expected in reader.diverges_on for name, reader in READERS.items() if name != "pyav")


class FailingReader(OtherDecoderReader):
    """A library that opens a file, finds its frames, and decodes some of them."""

    frame_that_fails, can_open = 17, True

    def open_decoder(self, path, num_threads):
        if not self.can_open:
            raise RuntimeError("unknown codec")
        return VideoReader(path).get_frames(range(40))

    def count_frames(self):
        return len(self._decoder)

    def decode_frames(self, indices):
        if self.frame_that_fails in indices:
            raise RuntimeError("cannot seek")
        return self._decoder[indices]


def test_what_a_library_cannot_read_is_read_by_ours(clips, caplog, monkeypatch):
    with FailingReader(clips[0]) as reader:
        assert read_numbers(reader.get_frames([3, 2])) == [3, 2] and not reader.divergences
        assert read_numbers(reader.get_frames([16, 17, 3])) == [16, 17, 3]
        assert reader.divergences == {"error"} and "FailingReader failed (cannot seek); PyAV reads it" in caplog.text
        assert read_numbers(reader.get_frames([5])) == [5]
    monkeypatch.setattr(FailingReader, "can_open", False)
    with FailingReader(clips[0]) as reader:
        assert read_numbers(reader.get_frames([5])) == [5] and reader.divergences == {"error"}
    assert "unknown codec" in caplog.text


@pytest.mark.slow  # imports OpenCV, decord and torchcodec, where there are any
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.needs(name)) for name in READERS if name not in ("pyav", "torchcodec_cuda")],
)
def test_every_frame_is_the_same(name, clips):
    reader_class = find_reader(name)
    for path in clips:
        with VideoReader(path) as video:
            expected = video.get_frames(range(video.num_frames))
        with reader_class(path) as reader:
            assert bool(reader.divergences) == bool(CLIPS[path.name][1] & reader.diverges_on), path.name
            assert reader.num_frames == len(expected) and (reader.height, reader.width) == expected.shape[1:3]
            assert torch.equal(reader.get_frames(range(len(expected))), expected), path.name
        for indices in ([31, 5, 5, 38], [17], [0, 39], [], [38, 2, 21, 14, 9]):
            with reader_class(path, index=reader.index) as again:
                frames = again.get_frames(indices)
                assert torch.equal(frames, expected[indices]), (path.name, indices)
                with pytest.raises(IndexError, match="no frame 40, the video has frames 0 to 39"):
                    again.get_frames([40])
        view = View(96, 128, 8, 16, 64, 64)
        with reader_class(path) as reader:
            clips_of_one_pass = reader.get_clips([([30, 2], view), ([2, 2], view)])
        for indices, clip in zip(([30, 2], [2, 2]), clips_of_one_pass, strict=True):
            if not reader.divergences:
                assert torch.equal(clip, resize_fast(expected[indices], view))
    with pytest.raises(VideoError, match=r"missing\.mp4: No such file"):
        reader_class("missing.mp4")


@pytest.mark.slow  # imports torchcodec
@pytest.mark.needs("torchcodec")
def test_the_gpu_of_the_rank_decodes(clips, monkeypatch):
    from torchcodec import decoders

    asked = []

    def decoder_of_a_cpu(path, device, **options):
        asked.append(device)
        return video_decoder(path, **options)

    video_decoder = decoders.VideoDecoder
    monkeypatch.setattr(decoders, "VideoDecoder", decoder_of_a_cpu)
    monkeypatch.setenv("SUITE_GPU", "3")
    view = View(96, 128, 8, 16, 64, 64)
    for path in clips:
        with VideoReader(path) as video, TorchCodecCudaReader(path) as reader:
            assert reader.divergences == CLIPS[path.name][1] & reader.diverges_on
            assert torch.equal(reader.get_frames([31, 5, 5]), video.get_frames([31, 5, 5])), path.name
            if not reader.divergences:
                assert torch.equal(reader.get_clips([([7], view)])[0], resize_fast(video.get_frames([7]), view))
    assert asked == ["cuda:3"] * sum(not found & TorchCodecCudaReader.diverges_on for _, found in CLIPS.values())


@pytest.mark.slow  # imports torchcodec
@pytest.mark.needs("gpu", "torchcodec")
def test_a_gpu_gives_nearly_the_same_frames(clips):
    reader_class = find_reader("torchcodec_cuda")
    view = View(96, 128, 8, 16, 64, 64)
    for path in clips:
        with VideoReader(path) as video, reader_class(path) as reader:
            for ours, theirs in [
                (video.get_frames([31, 5]), reader.get_frames([31, 5])),
                (video.get_resized_clips([([2, 30], view)])[0], reader.get_resized_clips([([2, 30], view)])[0]),
            ]:
                assert theirs.device.type == "cpu" and theirs.dtype == torch.uint8
                assert (ours.float() - theirs.float()).abs().mean() < 3, path.name


def test_unknown_names_and_missing_libraries(monkeypatch):
    assert find_reader("pyav") is VideoReader
    with pytest.raises(ValueError, match=r"no reader is called 'decrod'; did you mean 'decord'\? \(choices: pyav"):
        find_reader("decrod")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ValueError, match=r"reader opencv cannot be used here .* use pyav"):
        find_reader("opencv")
    monkeypatch.setattr(TorchCodecReader, "load", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"reader torchcodec_cuda cannot .* \(this machine has no usable GPU\).* pyav"):
        find_reader("torchcodec_cuda")


def test_several_streams_are_a_divergence(tmp_path):
    with VideoReader(encode_two_streams(tmp_path / "two.mkv", num_frames=1)) as video:
        assert find_divergences(video) == {"streams"}
        assert read_numbers(np.asarray(video.get_frames([0]))) == [0]
