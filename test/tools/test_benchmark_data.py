"""The comparison of video readers: it runs, names readers that cannot be used, and its readers agree."""

import sys

import pytest
import torch
from encode import encode_video, number_frames

from datasets.video.sampling import EvenSampling
from datasets.video.transforms import EvalViewSettings
from settings import UserError
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
    lines = [line for line in text.splitlines() if line.startswith(("clips/s", "clip.mp4"))]
    for title, row, what in zip(lines[::2], lines[1::2], ("", ", 10 of a video"), strict=True):
        assert title.split("  ")[0] == "clips/s per core" + what and "ours, indexed" in title
        assert len(row.split()) == 4 and all(float(speed) > 0 for speed in row.split()[1:])
    for name in ("decord", "OpenCV", "torchcodec"):
        assert f"{name}: cannot be used here (" in text


@pytest.mark.parametrize("benchmark", ["data", "recipes"])
def test_a_file_that_is_no_video_ends_it_before_others_are_measured(clip, tmp_path, monkeypatch, benchmark):
    (tmp_path / "empty.mp4").touch()
    monkeypatch.setattr(f"tools.benchmarks.{benchmark}.measure_file", lambda *arguments: pytest.fail("measured"))
    with pytest.raises(UserError, match=r"empty\.mp4"):
        main([benchmark, str(clip), str(tmp_path / "empty.mp4")])


@pytest.mark.slow  # imports OpenCV, decord and torchcodec, where there are any
def test_readers_read_the_same_frames(clip):
    readers, _ = data.find_readers(1, clip)
    settings = EvalViewSettings(short_side=96, crop=96)
    clips = [[3, 11, 12, 29], [5, 6]]
    expected = readers["ours, RGB"](str(clip), clips, settings)
    for name, read in readers.items():
        for views, exact in zip(read(str(clip), clips, settings), expected, strict=True):
            assert views.shape == exact.shape and views.dtype == torch.uint8, name
            assert (views.int() - exact).abs().float().mean() < 3, name


def test_a_reader_that_fails_on_a_file_is_shown_as_failing(clip, capsys):
    def read(path, clips, settings):
        raise RuntimeError("no")

    settings, sampling = EvalViewSettings(short_side=48, crop=32), EvenSampling(2)
    readers = {"ours": data.make_ours(1, False), "other": read}
    speeds = data.measure_file(str(clip), readers, settings, sampling, 0.01)
    speeds |= dict.fromkeys(("ours, indexed", "ours, RGB"), speeds["ours"])
    data.print_table({"clip.mp4": speeds}, ["ours", "ours, indexed", "ours, RGB", "other"], 1)
    assert "fails" in capsys.readouterr().out


def test_made_clips_resemble_those_of_kinetics(tmp_path):
    path = data.encode_clip(tmp_path / "clip.mp4", num_frames=12, gop=5)
    with data.VideoReader(path) as video:
        assert (video.num_frames, video.height, video.width, video.codec) == (12, 256, 340, "h264")


def test_unknown_benchmark(capsys):
    with pytest.raises(SystemExit):
        main(["dta"])
    assert "invalid choice: 'dta'" in capsys.readouterr().err
