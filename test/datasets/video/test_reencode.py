"""Odd sources: each program gives the frames that `VideoReader` finds, in order, upright, at their times."""

import stat
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from encode import encode_two_streams, encode_video, number_frames, read_numbers, write_matrix

from datasets.video import VideoError, VideoReader
from datasets.video.container import open_container, read_packets
from datasets.video.convert import Job, convert
from datasets.video.recipes import RECIPES
from datasets.video.reencode import read_source, reencode_by_program

NUM_FRAMES = 24
PROGRAMS = [
    pytest.param(None, id="PyAV"),
    pytest.param("ffmpeg", id="ffmpeg", marks=pytest.mark.needs("ffmpeg")),
]


def encode(path: Path, size=(48, 64), start=0, **options) -> Path:
    return encode_video(path, number_frames(start + NUM_FRAMES, *size)[start:], **{"b_frames": 0, "gop": 10, **options})


def retime(path: Path, time: Callable[[int, float], float]) -> Path:
    """The same packets, packet i shown `time(i, its seconds)` seconds after the first."""
    plain = encode(path.with_name(f"plain{path.suffix}"))
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(read_packets(source, source.streams.video[0])):
            seconds = time(number, float(packet.pts * packet.time_base))
            packet.pts = round(seconds / packet.time_base)
            # Matroska does not store when a packet is decoded, but its muxer insists that this increases.
            packet.dts = number - NUM_FRAMES if path.suffix == ".mkv" else packet.pts
            packet.stream = stream
            target.mux(packet)
    return path


def join(path: Path, **second) -> Path:
    parts = encode(path.with_name("0.ts")), encode(path.with_name("1.ts"), start=NUM_FRAMES, **second)
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def cut(path: Path) -> Path:
    with VideoReader(encode(path, codec="mpeg4")) as video:
        end = int(video.index.packet_positions[18] + video.index.packet_sizes[18] // 2)
    path.write_bytes(path.read_bytes()[:end])
    return path


def cover_first(path: Path) -> Path:
    with av.open(str(encode(path.with_name("film.mp4")))) as film, av.open(str(path), "w") as target:
        cover = target.add_stream("mjpeg", rate=25)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        stream = target.add_stream_from_template(film.streams.video[0])
        target.mux(cover.encode(av.VideoFrame(64, 48, "yuvj420p")) + cover.encode(None))
        for packet in read_packets(film, film.streams.video[0]):
            packet.stream = stream
            target.mux(packet)
    return path


SOURCES = {
    "equal times.mkv": lambda path: retime(path, lambda number, time: 0),
    "pairs of times.mkv": lambda path: retime(path, lambda number, time: number // 2 * 0.08),
    "times go back.mkv": lambda path: retime(path, lambda number, time: time - 0.48 * (number > 20)),
    "gap.mp4": lambda path: retime(path, lambda number, time: time + 100 * (number > 20)),
    "gap.mkv": lambda path: retime(path, lambda number, time: time + 4000 * (number > 20)),
    "starts late.mkv": lambda path: retime(path, lambda number, time: time + 5000),
    "variable rate.mp4": lambda path: retime(path, lambda number, time: number**2 / 100),
    "1000 frames a second.mkv": lambda path: retime(path, lambda number, time: number / 1000),
    "120000 by 1001.mp4": lambda path: encode(path, fps=Fraction(120_000, 1001)),
    "joined.ts": join,
    "joined, of two sizes.ts": lambda path: join(path, size=(72, 80)),
    "B-frames.avi": lambda path: encode(path, b_frames=2),
    "mirrored.mp4": lambda path: write_matrix(encode(path), -1, 0, 0, 1),
    "upside down.mp4": lambda path: write_matrix(encode(path), 1, 0, 0, -1),
    "transposed.mp4": lambda path: write_matrix(encode(path), 0, 1, 1, 0),
    "transverse.mp4": lambda path: write_matrix(encode(path), 0, -1, -1, 0),
    "turned.mp4": lambda path: encode(path, rotation=90),
    "zero matrix.mp4": lambda path: write_matrix(encode(path), 0, 0, 0, 0),
    "cover first.mkv": cover_first,
    "two streams.mkv": lambda path: encode_two_streams(path, NUM_FRAMES),
    "cut.avi": cut,
    "10 bits.mkv": lambda path: encode(path, pix_fmt="yuv420p10le"),
    "odd size.mp4": lambda path: encode(path, (47, 63), pix_fmt="yuv444p"),
    "interlaced.mkv": lambda path: encode(path, options={"flags": "+ildct+ilme", "x264-params": "tff=1"}),
    "full range.avi": lambda path: encode(path, codec="mjpeg", pix_fmt="yuvj420p"),
    "HD colors.mp4": lambda path: encode(path, options={"colorspace": "bt709"}),
    "one frame.mp4": lambda path: encode_video(path, number_frames(1)),
}
LOSE_TIMES = {"equal times.mkv", "pairs of times.mkv", "times go back.mkv", "gap.mkv"}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    for name, make in SOURCES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        make(folder / name)
    return folder


@pytest.fixture(scope="module")
def by_pyav(sources, tmp_path_factory):
    """Frames of the targets that PyAV makes, by the source's name."""
    folder, frames = tmp_path_factory.mktemp("targets"), {}
    for name in SOURCES:
        target = folder / f"{name}.mp4"
        convert(Job(str(sources / name), str(target)), RECIPES["training"], None)
        with VideoReader(target) as video:
            frames[name] = video.get_frames(range(video.num_frames)).numpy()
    return frames


def frame_times(path) -> np.ndarray:
    container, stream = open_container(path)
    with container:
        times = sorted(packet.pts for packet in read_packets(container, stream))
        return np.array([float((time - times[0]) * stream.time_base) for time in times])


@pytest.mark.parametrize("ffmpeg", PROGRAMS)
@pytest.mark.parametrize("name", SOURCES)
def test_every_frame_at_its_time(sources, by_pyav, tmp_path, name, ffmpeg):
    job = Job(str(sources / name), str(tmp_path / "out.mp4"))
    complaint = convert(job, RECIPES["training"], ffmpeg)
    assert bool(complaint) == (name == "cut.avi")
    with VideoReader(job.source) as source, VideoReader(job.target) as target:
        assert target.num_frames == source.num_frames >= (1 if name == "one frame.mp4" else 15)
        frames, expected = (video.get_frames(range(video.num_frames)).numpy() for video in (target, source))
    assert read_numbers(frames) == read_numbers(expected)
    if frames.shape == expected.shape:  # else cropped to an even size
        assert np.abs(frames.mean((0, 1, 2)) - expected.mean((0, 1, 2))).max() < 2  # the colors
    assert np.abs(frames.astype(int) - by_pyav[name]).mean() < 2
    times = frame_times(job.target)
    assert (np.diff(times) > 0).all()
    if name in LOSE_TIMES or name.startswith("joined"):
        assert np.diff(times).max() < 0.2
    elif name != "B-frames.avi":  # AVI stores no times
        assert np.abs(times - frame_times(job.source)).max() < 0.001
        with VideoReader(job.source) as source, VideoReader(job.target) as target:
            assert target.duration_seconds == pytest.approx(source.duration_seconds, abs=0.002)


@pytest.mark.parametrize(
    "script",
    [
        "sys.exit(0)",
        "sys.exit('cannot')",
        "sys.stdout.write('no video'); sys.exit(0)",
        "import os; os.abort()",
        "import av; out = av.open(sys.stdout.buffer, 'w', format='nut'); s = out.add_stream('mpeg4', rate=25);"
        "s.width, s.height = 64, 48; [out.mux(s.encode(av.VideoFrame(64, 48, 'yuv420p'))) for _ in range(23)];"
        "out.mux(s.encode(None)); out.close()",  # a frame less
    ],
)
def test_programs_that_fail_are_not_believed(tmp_path, script):
    program = tmp_path / "ffmpeg"
    program.write_text(f"#!{sys.executable}\nimport sys\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    job = Job(str(encode(tmp_path / "a.mp4")), str(tmp_path / "out.mp4"))
    source = read_source(job.source, RECIPES["short160"])
    assert reencode_by_program(source, job.target, RECIPES["short160"], str(program)) is None
    assert convert(job, RECIPES["short160"], str(program)) == ""
    with VideoReader(job.target) as video:
        assert read_numbers(video.get_frames(range(NUM_FRAMES))) == list(range(NUM_FRAMES))


@pytest.mark.parametrize("ffmpeg", PROGRAMS)
def test_lost_frames_are_counted(tmp_path, ffmpeg):
    source = encode(tmp_path / "a.mp4")
    with VideoReader(source) as video:
        starts, sizes = video.index.packet_positions, video.index.packet_sizes
    data = bytearray(source.read_bytes())
    for number in (15, 22):
        data[starts[number] : starts[number] + sizes[number]] = b"\xff" * sizes[number]
    source.write_bytes(data)
    complaint = convert(Job(str(source), str(tmp_path / "out.mp4")), RECIPES["training"], ffmpeg)
    assert complaint == "2 of 24 frames cannot be decoded, the first is frame 15"
    with VideoReader(tmp_path / "out.mp4") as video:
        assert video.num_frames == 22 and video.duration_seconds == pytest.approx(0.96)  # the others keep their times


@pytest.mark.parametrize("ffmpeg", PROGRAMS)
def test_no_frame_can_be_decoded(tmp_path, ffmpeg):
    source = encode(tmp_path / "a.mp4")
    data = source.read_bytes()
    start, size = data.index(b"mdat") + 4, int.from_bytes(data[data.index(b"mdat") - 4 : data.index(b"mdat")]) - 8
    source.write_bytes(data[:start] + b"\xff" * size + data[start + size :])
    with pytest.raises(VideoError, match="no frame can be decoded"):
        convert(Job(str(source), str(tmp_path / "out.mp4")), RECIPES["training"], ffmpeg)
    assert not (tmp_path / "out.mp4").exists()
