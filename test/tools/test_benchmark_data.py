"""The comparison of video readers: it runs, names what is not installed, and measures readers that do the same."""

import sys

import pytest
import torch
from encode import encode_video, number_frames, read_numbers

from tools.benchmark import main
from tools.benchmarks import data


@pytest.fixture
def clip(tmp_path):
    return encode_video(tmp_path / "clip.mp4", number_frames(30, 96, 128), gop=10)


def test_table(clip, capsys, monkeypatch):
    for name in ("decord", "cv2", "torchcodec.decoders"):
        monkeypatch.setitem(sys.modules, name, None)
    main(["data", str(clip), "--seconds", "0.05", "--frames", "4", "--interval", "2", "--size", "56"])
    text = capsys.readouterr().out
    title, row = (line for line in text.splitlines() if line.startswith(("clips/s", "clip.mp4")))
    assert title.split("  ")[0] == "clips/s per core" and "ours, indexed" in title
    assert len(row.split()) == 3 and all(float(speed) > 0 for speed in row.split()[1:])
    for name in ("decord", "OpenCV", "torchcodec"):
        assert f"{name}: not installed (" in text


@pytest.mark.slow  # imports OpenCV, decord and torchcodec, where there are any
def test_readers_read_the_same_frames(clip):
    readers, _ = data.find_readers(1, clip)
    expected = readers["ours"](str(clip), [3, 11, 12, 29])
    assert read_numbers(expected) == [3, 11, 12, 29]
    for name, read in readers.items():
        frames = read(str(clip), [3, 11, 12, 29])
        assert frames.shape == expected.shape and frames.dtype == torch.uint8, name
        assert read_numbers(frames) == [3, 11, 12, 29], name


def test_a_reader_that_fails_on_a_file_is_shown_as_such(clip, capsys):
    def read(path, indices):
        raise RuntimeError("no")

    speeds = data.measure_file(
        str(clip), {"ours": data.make_ours(1, False), "other": read}, lambda frames: None, 2, 1, 0.01
    )
    data.print_table({"clip.mp4": speeds | {"ours, indexed": speeds["ours"]}}, ["ours", "ours, indexed", "other"])
    assert "fails" in capsys.readouterr().out


def test_made_clips_are_like_those_of_kinetics(tmp_path):
    path = data.encode_clip(tmp_path / "clip.mp4", num_frames=12, gop=5)
    with data.VideoReader(path) as video:
        assert (video.num_frames, video.height, video.width, video.codec) == (12, 256, 340, "h264")


def test_unknown_benchmark(capsys):
    with pytest.raises(SystemExit):
        main(["dta"])
    assert "invalid choice: 'dta'" in capsys.readouterr().err
