"""Reads made files of about every format that the ffmpeg program can write, plain and odd.

docs/video_formats.md has the table of what comes out.

    ./run_tests.sh -m weekly test/datasets/video/test_formats.py
    python test/datasets/video/test_formats.py             writes the table again, from the repository's root
"""

import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from itertools import chain
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import av
import numpy as np
import pytest
from encode import number_frames, write_matrix

from datasets.video import VideoError, VideoReader
from datasets.video.check import check_video
from datasets.video.container import decode_packet, open_container, read_packets

TABLE = Path(__file__).resolve().parents[3] / "docs" / "video_formats.md"
NUM_FRAMES = 40
COMMON = ["-g", "12", "-pix_fmt", "yuv420p"]
H264 = ["-c:v", "libx264", "-preset", "veryfast", "-bf", "2", *COMMON]
HEVC = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:keyint=12:bframes=3", *COMMON[2:]]
MPEG4 = ["-c:v", "mpeg4", "-bf", "2", *COMMON]
MPEG2 = ["-c:v", "mpeg2video", "-bf", "2", *COMMON]
VP8 = ["-c:v", "libvpx", "-cpu-used", "8", "-deadline", "realtime", *COMMON]
VP9 = ["-c:v", "libvpx-vp9", "-cpu-used", "8", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-b:v", "100k", *COMMON]
AV1 = ["-c:v", "libaom-av1", "-cpu-used", "8", "-lag-in-frames", "16", *COMMON]
MJPEG = ["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"]
THEORA = ["-c:v", "libtheora", "-q:v", "6", *COMMON]

# The plain files: containers by codec, with the encoder's options.
PLAIN = {
    "h264": (H264, "mp4 mov m4v 3gp f4v mkv avi flv ts m2ts mxf asf nut h264"),
    "h264 without B-frames": ([*H264, "-bf", "0"], "mp4 mkv avi flv ts h264"),
    "h264, 10 bits": ([*H264, "-pix_fmt", "yuv420p10le"], "mp4 mkv"),
    "h264, 4:4:4": ([*H264, "-pix_fmt", "yuv444p"], "mp4 avi"),
    "h264 with intra refresh": ([*H264, "-bf", "0", "-x264-params", "intra-refresh=1"], "mp4 mkv flv ts avi"),
    "h264, index first": ([*H264, "-movflags", "faststart"], "mp4 mov"),
    "h264, fragmented": ([*H264, "-movflags", "frag_keyframe+empty_moov"], "mp4"),
    "hevc": (HEVC, "mp4 mov mkv ts avi nut hevc"),
    "hevc, 12 bits": ([*HEVC, "-pix_fmt", "yuv444p12le"], "mkv"),
    "mpeg4": (MPEG4, "avi mp4 mov mkv 3gp asf nut m4v ts"),
    "xvid": (["-c:v", "libxvid", *COMMON], "avi mkv"),
    "mpeg2video": (MPEG2, "mpg ts vob mkv avi mxf mp4 m2v"),
    "mpeg1video": (["-c:v", "mpeg1video", "-bf", "2", *COMMON], "mpg avi mkv"),
    "vp8": (VP8, "webm mkv avi ivf ogg nut"),
    "vp9": (VP9, "webm mkv mp4 ivf avi"),
    "av1": (AV1, "mkv mp4 webm ivf"),
    "mjpeg": (MJPEG, "avi mov mkv mp4 nut"),
    "theora": (THEORA, "ogv mkv nut"),
    "wmv1": (["-c:v", "wmv1", *COMMON], "wmv avi"),
    "wmv2": (["-c:v", "wmv2", *COMMON], "wmv avi mkv"),
    "msmpeg4v2": (["-c:v", "msmpeg4v2", *COMMON], "avi"),
    "msmpeg4v3": (["-c:v", "msmpeg4", *COMMON], "avi asf"),
    "h261": (["-c:v", "h261", "-s", "176x144", *COMMON], "avi"),
    "h263": (["-c:v", "h263", "-s", "176x144", *COMMON], "3gp avi mov"),
    "flv1": (["-c:v", "flv", *COMMON], "flv avi"),
    "prores": (["-c:v", "prores_ks", "-pix_fmt", "yuv422p10le"], "mov mkv"),
    "dnxhd": (["-c:v", "dnxhd", "-profile:v", "dnxhr_lb", "-s", "256x120", "-pix_fmt", "yuv422p"], "mov mkv mxf"),
    "dvvideo": (["-c:v", "dvvideo", "-s", "720x576", "-pix_fmt", "yuv420p"], "avi dv mov mkv"),
    "ffv1": (["-c:v", "ffv1", *COMMON], "avi mkv nut"),
    "huffyuv": (["-c:v", "huffyuv", "-pix_fmt", "yuv422p"], "avi mkv"),
    "ffvhuff": (["-c:v", "ffvhuff", "-pix_fmt", "yuv420p"], "avi mkv"),
    "utvideo": (["-c:v", "utvideo", "-pix_fmt", "yuv420p"], "avi mkv"),
    "magicyuv": (["-c:v", "magicyuv", "-pix_fmt", "gbrp"], "avi mkv"),
    "png": (["-c:v", "png", "-pix_fmt", "rgb24"], "mov avi mkv"),
    "jpeg2000": (["-c:v", "jpeg2000", "-pix_fmt", "yuv420p"], "mov mxf avi"),
    "jpegls": (["-c:v", "jpegls", "-pix_fmt", "rgb24"], "avi"),
    "cineform": (["-c:v", "cfhd", "-pix_fmt", "yuv422p10le"], "mov avi"),
    "qtrle": (["-c:v", "qtrle", "-pix_fmt", "rgb24"], "mov"),
    "rpza": (["-c:v", "rpza", "-pix_fmt", "rgb555le"], "mov"),
    "smc": (["-c:v", "smc", "-pix_fmt", "pal8"], "mov"),
    "svq1": (["-c:v", "svq1", "-pix_fmt", "yuv410p"], "mov"),
    "cinepak": (["-c:v", "cinepak", "-pix_fmt", "rgb24"], "avi mov"),
    "msvideo1": (["-c:v", "msvideo1", "-pix_fmt", "rgb555le"], "avi"),
    "flashsv": (["-c:v", "flashsv", "-pix_fmt", "bgr24"], "flv"),
    "flashsv2": (["-c:v", "flashsv2", "-pix_fmt", "bgr24"], "flv"),
    "zmbv": (["-c:v", "zmbv", "-pix_fmt", "bgr0"], "avi"),
    "amv": (["-c:v", "amv", "-pix_fmt", "yuvj420p", "-strict", "-1"], "avi"),
    "asv2": (["-c:v", "asv2", "-pix_fmt", "yuv420p"], "avi"),
    "snow": (["-c:v", "snow", "-strict", "-2", "-pix_fmt", "yuv420p"], "avi mkv"),
    "vc2": (["-c:v", "vc2", "-pix_fmt", "yuv420p"], "mkv mov"),
    "hap": (["-c:v", "hap"], "mov"),
    "rv10": (["-c:v", "rv10", "-s", "176x144", *COMMON], "rm"),
    "rv20": (["-c:v", "rv20", "-s", "176x144", *COMMON], "rm"),
    "raw yuv": (["-c:v", "rawvideo", "-pix_fmt", "yuv420p"], "avi mkv nut"),
    "yuv4mpeg": (["-pix_fmt", "yuv420p"], "y4m"),
    "v210": (["-c:v", "v210", "-pix_fmt", "yuv422p10le"], "mov avi"),
    "gif": (["-c:v", "gif"], "gif"),
    "apng": (["-c:v", "apng"], "apng"),
    "webp": (["-c:v", "libwebp_anim"], "webp"),
}

# What odd files are made of: codec's options and containers.
ODD_BASES = {
    "h264": (H264, "mp4 mov mkv avi flv ts"),
    "hevc": (HEVC, "mp4 mkv ts"),
    "mpeg4": (MPEG4, "avi mp4 mkv"),
    "mpeg2video": (MPEG2, "mpg ts mkv"),
    "vp9": (VP9, "webm mp4"),
    "av1": (AV1, "mkv mp4"),
    "mjpeg": (MJPEG, "avi mov"),
}
MIRRORS = {"mirror": (-1, 0, 0, 1), "transpose": (0, 1, 1, 0), "turn": (0, 1, -1, 0), "zeros": (0, 0, 0, 0)}
CUT_FILES = [
    *(("h264, index first", "mp4"), ("h264, fragmented", "mp4"), ("h264", "mkv"), ("h264", "ts"), ("h264", "avi")),
    *(("h264", "flv"), ("hevc", "mkv"), ("mpeg4", "avi"), ("mpeg2video", "mpg"), ("vp8", "webm"), ("vp9", "webm")),
    *(("av1", "mkv"), ("mjpeg", "avi"), ("theora", "ogv"), ("wmv2", "wmv"), ("prores", "mkv"), ("png", "avi")),
]


def run_ffmpeg(*arguments) -> None:
    line = ["ffmpeg", "-nostdin", "-y", "-v", "error", "-threads", "1", *map(str, arguments)]
    subprocess.run(line, check=True, capture_output=True, timeout=120)


@cache
def raw_frames(folder: Path, height: int = 96, width: int = 128) -> list[str]:
    """Numbered frames as input of ffmpeg."""
    path = folder / f"{height}x{width}.rgb"
    number_frames(NUM_FRAMES, height, width).tofile(path)
    return ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", "25", "-i", str(path)]


def make_plain(folder: Path, codec: str, container: str) -> Path:
    path = folder / f"plain.{container}"
    run_ffmpeg(*raw_frames(folder), *PLAIN[codec][0], path)
    return path


# Odd files: each function makes one from a codec's options. -------------------------------------------------------


def interlaced(folder: Path, options: list[str], path: Path) -> None:
    x265 = options[1] == "libx265"
    flags = (
        ["-x265-params", "log-level=none:keyint=12:interlace=tff"] if x265 else ["-flags", "+ildct+ilme", "-top", "1"]
    )
    run_ffmpeg(*raw_frames(folder), *options, *flags, path)


def open_gop(folder: Path, options: list[str], path: Path) -> None:
    flags = {
        "libx264": ["-x264-params", "open-gop=1:keyint=12:min-keyint=12:bframes=3"],
        "libx265": ["-x265-params", "log-level=none:open-gop=1:keyint=12:min-keyint=12:bframes=4"],
    }
    run_ffmpeg(*raw_frames(folder), *options, *flags.get(options[1], ["-flags", "-cgop"]), path)


def edit_list(folder: Path, options: list[str], path: Path) -> None:
    whole = path.with_name(f"whole{path.suffix}")
    run_ffmpeg(*raw_frames(folder), *options, whole)
    run_ffmpeg("-ss", "0.6", "-i", whole, "-c", "copy", path)


def variable_rate(folder: Path, options: list[str], path: Path) -> None:
    times = ["-vf", "select='mod(n,7)',setpts='PTS+0.3*sin(N)/(25*TB)'", "-vsync", "passthrough"]
    run_ffmpeg(*raw_frames(folder), *times, "-enc_time_base", "1/1000", *options, path)


def gap(folder: Path, options: list[str], path: Path) -> None:
    whole = path.with_name(f"whole{path.suffix}")
    run_ffmpeg(*raw_frames(folder), *options, whole)
    run_ffmpeg("-i", whole, "-c", "copy", "-bsf:v", r"setts=ts=if(gt(N\,25)\,TS+100/TB\,TS)", path)


def equal_times(folder: Path, options: list[str], path: Path) -> None:
    whole = path.with_name(f"whole{path.suffix}")
    run_ffmpeg(*raw_frames(folder), *options, whole)
    run_ffmpeg("-i", whole, "-c", "copy", "-bsf:v", "setts=ts=0", path)


def cover(folder: Path, options: list[str], path: Path) -> None:
    picture, whole = folder / "cover.jpg", path.with_name(f"whole{path.suffix}")
    run_ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64", "-frames:v", "1", picture)
    run_ffmpeg(*raw_frames(folder), *options, whole)
    marks = ["-disposition:v:0", "attached_pic"]
    run_ffmpeg("-i", picture, "-i", whole, "-map", "0", "-map", "1", "-c", "copy", *marks, path)


def size_change(folder: Path, options: list[str], path: Path) -> None:
    parts = []
    for height, width in ((96, 128), (64, 96)):
        parts.append(path.with_name(f"part{height}.ts"))
        run_ffmpeg(*raw_frames(folder, height, width), *options, parts[-1])
    joined = path.with_name("joined.ts")
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    if path.suffix == ".ts":
        joined.rename(path)
    else:
        run_ffmpeg("-i", joined, "-c", "copy", path)


def hidden_frames_apart(folder: Path, options: list[str], path: Path) -> None:
    whole = path.with_name("whole.mkv")
    run_ffmpeg(*raw_frames(folder), *options, whole)
    split = {"libvpx-vp9": "vp9_superframe_split", "libaom-av1": "av1_frame_split"}[options[1]]
    run_ffmpeg("-i", whole, "-c", "copy", "-bsf:v", split, path)


def joined_recordings(folder: Path, options: list[str], path: Path) -> None:
    part = path.with_name(f"part{path.suffix}")
    run_ffmpeg(*raw_frames(folder), *options, part)
    path.write_bytes(part.read_bytes() * 2)


ODD: dict[str, tuple[Callable, set[str]]] = {  # function, containers that can hold such files
    "interlaced": (interlaced, {"mp4", "mkv", "avi", "ts", "mpg"}),
    "open GOPs": (open_gop, {"mp4", "mkv", "ts", "mpg", "avi", "flv"}),
    "edit list": (edit_list, {"mp4", "mov"}),
    "variable rate": (variable_rate, {"mp4", "mov", "mkv", "webm"}),
    "gap of 100 s": (gap, {"mp4", "mkv", "ts", "flv"}),
    "equal times": (equal_times, {"mkv"}),
    "cover first": (cover, {"mp4", "mkv"}),
    "change of size": (size_change, {"ts", "mkv", "mp4"}),
    "hidden frames apart": (hidden_frames_apart, {"mp4"}),
    "joined": (joined_recordings, {"ts", "mpg"}),
}
# Codecs of which ffmpeg cannot make such files; of AV1, FFmpeg before release 6 also shows what an edit list cuts off.
ODD_UNLESS = {
    "interlaced": {"vp9", "av1", "mjpeg"},
    "edit list": {"av1"},
    "variable rate": {"mpeg4", "mpeg2video", "mjpeg"},
    "change of size": {"vp9", "av1", "mjpeg"},
    "hidden frames apart": {"h264", "hevc", "mpeg4"},
}


# What a file gives -------------------------------------------------------------------------------------------------


def count_by_program(path: Path, stream: int) -> int:
    """How many frames of a stream the ffmpeg program decodes."""
    options = ["-map", f"0:{stream}", "-vsync", "passthrough", "-f", "framecrc", "-"]
    line = ["ffmpeg", "-nostdin", "-v", "quiet", "-threads", "1", "-i", str(path), *options]
    done = subprocess.run(line, capture_output=True, timeout=120)
    return sum(not row.startswith(b"#") for row in done.stdout.splitlines())


def decode_from_start(path: Path) -> tuple[dict[int, np.ndarray], int]:
    """-> (the frames that one thread decodes from the start, by the number of their packet; their stream's number)

    They are RGB, as stored, in the size that the container states.
    """
    container, stream = open_container(path)
    with container:
        frames, size = {}, (stream.codec_context.width, stream.codec_context.height)
        for number, packet in enumerate(chain(read_packets(container, stream), [None])):
            for frame in decode_packet(stream.codec_context, packet, number) or []:
                frames[frame.pts] = frame.reformat(*size, "rgb24").to_ndarray()
        return frames, stream.index


def check_reader(reader: VideoReader, right: dict[int, np.ndarray], num_queries: int) -> None:
    """Random frames are those of decoding from the start; one that does not decode there is refused here."""
    rng, index = random.Random(0), reader.index
    packets = index.frame_packets.tolist()
    for _ in range(num_queries):
        numbers = rng.sample(range(reader.num_frames), min(reader.num_frames, rng.choice([1, 1, 4])))
        try:
            found = reader.get_frames(numbers).numpy()
        except VideoError:
            assert any(packets[i] not in right for i in numbers), f"{numbers}: refused, though it can be decoded"
            continue
        for i, frame in zip(numbers, found, strict=True):
            np.testing.assert_array_equal(frame, index.orientation.turn(right[packets[i]]), err_msg=f"frame {i}")


def verdict(path: Path) -> str:
    """What reading a file gives, for the table; AssertionError if anything in it is wrong."""
    fault = check_video(str(path), full=False).facts["fault"]
    try:
        with VideoReader(path) as first:
            right, stream = decode_from_start(path)
            index = first.index
            decodable = [packet for packet in index.frame_packets.tolist() if packet in right]
            assert len(decodable) == count_by_program(path, stream), "the ffmpeg program gives another number of frames"
            check_reader(first, right, 12)
        with VideoReader(path, index=index, num_threads=3) as again:
            check_reader(again, right, 12)
    except VideoError as error:
        assert fault, f"refused ({error}), though the check finds no fault"
        return f"refused: {error.reason}"
    missing = len(index.frame_packets) - len(decodable)
    return "exact" + (f", {missing} refused" if missing else "")


def each_file():
    """-> (format, variant, function that makes it in a folder) of every file."""
    for codec, (_, containers) in PLAIN.items():
        for container in containers.split():
            yield f"{codec} in {container}", "plain", lambda folder, a=codec, b=container: make_plain(folder, a, b)
    for name, (function, able) in ODD.items():
        for codec, (options, containers) in ODD_BASES.items():
            for container in containers.split():
                if container in able and codec not in ODD_UNLESS.get(name, ()):
                    file_name = f"{name.replace(' ', '_')}.{container}"
                    yield f"{codec} in {container}", name, make_odd(function, options, file_name)
    for name, matrix in MIRRORS.items():
        for container in ("mp4", "mov"):
            make = lambda folder, c=container, m=matrix: write_matrix(make_plain(folder, "h264", c), *m)  # noqa: E731
            yield f"h264 in {container}", f"matrix: {name}", make
    for codec, container in CUT_FILES:
        for tenths in range(1, 10):
            yield f"{codec} in {container}", f"cut at {tenths}0 %", make_cut(codec, container, tenths)


def make_odd(function: Callable, options: list[str], name: str):
    def make(folder: Path) -> Path:
        function(folder, options, folder / name)
        return folder / name

    return make


def make_cut(codec: str, container: str, tenths: int):
    def make(folder: Path) -> Path:
        path = make_plain(folder, codec, container)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) * tenths // 10])
        return path

    return make


FILES = list(each_file())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("formats")


@pytest.mark.weekly
@pytest.mark.needs("ffmpeg")
@pytest.mark.parametrize(("name", "variant", "make"), FILES, ids=[f"{name}-{variant}" for name, variant, _ in FILES])
def test_every_frame_is_exact_or_refused(name, variant, make, folder):
    assert verdict(make(folder)) == read_table()[name][variant]


def test_the_table_lists_every_file():
    table = read_table()
    assert {(name, variant) for name, variant, _ in FILES} == {
        (name, variant) for name, row in table.items() for variant in row
    }
    assert len(FILES) >= 150


# The table ---------------------------------------------------------------------------------------------------------


def write_table() -> None:
    """Makes and reads all files, and writes the table."""
    verdicts: dict[str, dict[str, list[str]]] = {}  # format -> verdict -> variants
    with tempfile.TemporaryDirectory() as folder:
        for name, variant, make in FILES:
            verdicts.setdefault(name, {}).setdefault(verdict(make(Path(folder))), []).append(variant)
    rows = [
        f"| {name} | {'; '.join(variants)} | {found} |\n"
        for name, of_format in verdicts.items()
        for found, variants in of_format.items()
    ]
    before = TABLE.read_text(encoding="utf-8").partition("| format |")[0]
    TABLE.write_text(f"{before}| format | files | verdict |\n|---|---|---|\n{''.join(rows)}", encoding="utf-8")


def read_table() -> dict[str, dict[str, str]]:
    """{format: {variant: verdict}}"""
    table: dict[str, dict[str, str]] = {}
    for line in TABLE.read_text(encoding="utf-8").partition("|---|---|---|\n")[2].splitlines():
        name, variants, found = line.strip("| ").split(" | ")
        table.setdefault(name, {}).update(dict.fromkeys(variants.split("; "), found))
    return table


if __name__ == "__main__":
    av.logging.set_level(av.logging.PANIC)
    write_table()
