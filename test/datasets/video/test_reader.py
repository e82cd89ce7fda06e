"""Every frame is the one that decoding the whole file from its start gives; bad files are explained."""

import functools
import gc
import os
import pickle
import random
import re
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from encode import encode_two_streams, encode_video, number_frames, read_numbers
from faults import as_nobody
from torch.utils.data import DataLoader

from datasets.video import reader as reader_module
from datasets.video.reader import VideoError, VideoReader

OPEN_GOP = {"x264-params": "open-gop=1:keyint=12:bframes=3"}
UNEVEN_TIMES = [round(1.4 * i) + (i % 5 == 3) for i in range(40)]
CLIPS = {
    "h264.mp4": {},
    "h264_gop_8.mp4": {"gop": 8},
    "h264_long_gop.mkv": {"gop": 250},
    "h264_open_gop.mp4": {"options": OPEN_GOP},
    "h264_open_gop.mkv": {"options": OPEN_GOP},
    "h264_open_gop.ts": {"options": OPEN_GOP},
    "h264_open_gop.flv": {"options": OPEN_GOP},
    "h264_open_gop.avi": {"options": OPEN_GOP},
    "h264_no_clean_keyframes.mp4": {"options": {"x264-params": "intra-refresh=1:keyint=12"}},
    "h264_interlaced.ts": {"options": {"x264-params": "tff=1:keyint=12"}},
    "h264_10_bit.mp4": {"pix_fmt": "yuv420p10le"},
    "h264_odd_size.mkv": {"size": (45, 67), "pix_fmt": "yuv444p"},
    "h265.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=12:open-gop=1"}},
    "h265.ts": {"codec": "libx265", "gop": 8},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg4_b_frames.avi": {"codec": "mpeg4", "b_frames": 2},
    "mpeg4_b_frames.mp4": {"codec": "mpeg4", "b_frames": 2, "size": (45, 67)},
    "mpeg2.mpg": {"codec": "mpeg2video", "b_frames": 2},
    "vp8_hidden_frames.webm": {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "12"}},
    "vp9.webm": {"codec": "libvpx-vp9", "gop": 12, "options": {"auto-alt-ref": "1", "lag-in-frames": "12"}},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "bare.h264": {},
    "variable_rate.mp4": {"pts": UNEVEN_TIMES},
    "variable_rate.mkv": {"pts": UNEVEN_TIMES},
    "rotated_90.mp4": {"rotation": 90},
    "rotated_180.mp4": {"rotation": 180},
    "rotated_270.mov": {"rotation": 270, "audio": True},
    "audio.mp4": {"audio": True},
    "audio.avi": {"audio": True, "codec": "mpeg4", "b_frames": 2},
    "one_frame.mp4": {"num_frames": 1},
    "two_frames.avi": {"num_frames": 2, "codec": "mpeg4"},
}


def make(path: Path, *, num_frames: int = 40, size: tuple[int, int] = (48, 64), **options) -> Path:
    return encode_video(path, number_frames(num_frames, *size), **options)


def decode_all(path: Path) -> np.ndarray:
    """Plain decoding from the start, ignoring errors -> uint8 [T, H, W, 3]."""
    frames = []
    with av.open(str(path)) as container:
        container.streams.video[0].thread_count = 1
        for packet in container.demux(video=0):
            try:
                frames += packet.decode()
            except av.FFmpegError:
                continue
    return np.stack([np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90) for frame in frames])


def check_all_frames(path: Path) -> None:
    expected = decode_all(path)
    with VideoReader(path) as video:
        assert (video.num_frames, video.height, video.width) == expected.shape[:3]
        np.testing.assert_array_equal(video.get_frames(range(video.num_frames)), expected)
        index = pickle.loads(pickle.dumps(video.index))
    rng = random.Random(0)
    with VideoReader(path, index=index) as video:  # single and shuffled frames, without reading the whole file
        for _ in range(8):
            numbers = rng.choices(range(len(expected)), k=rng.choice([1, 7]))
            np.testing.assert_array_equal(video.get_frames(numbers), expected[numbers])


@pytest.mark.parametrize("name", CLIPS)
def test_frames_are_those_of_a_plain_decode(name, tmp_path):
    options = CLIPS[name]
    path = make(tmp_path / name, **options)
    check_all_frames(path)
    with VideoReader(path) as video:
        upright = video.get_frames(range(video.num_frames)).numpy()
    stored = np.rot90(upright, -options.get("rotation", 0) // 90, axes=(1, 2))
    assert read_numbers(stored) == list(range(options.get("num_frames", 40)))


def test_av1(tmp_path):
    if "libsvtav1" not in av.codecs_available:
        pytest.skip("this PyAV has no AV1 encoder")
    check_all_frames(make(tmp_path / "clip.mkv", codec="libsvtav1", gop=12, num_frames=24, options={"preset": "12"}))


@pytest.mark.parametrize("b_frames", [1, 2, 3])
@pytest.mark.parametrize("size", [(48, 64), (96, 128)])
def test_packed_b_frames_in_avi(size, b_frames, tmp_path):
    """As in old DivX and Xvid files: a packet holds a P- and a B-frame, and an empty one follows."""
    options = {"b_strategy": "0"}
    plain = make(tmp_path / "plain.avi", codec="mpeg4", b_frames=b_frames, options=options, gop=9, size=size)
    check_all_frames(pack_b_frames(plain, tmp_path / "packed.avi"))


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg2video"])
def test_recording_that_starts_between_keyframes(codec, tmp_path):
    content = make(tmp_path / "whole.ts", codec=codec, gop=12, num_frames=60).read_bytes()
    part = tmp_path / "part.ts"
    part.write_bytes(content[len(content) // 188 // 3 * 188 :])
    check_all_frames(part)


def test_frames_cut_off_by_an_edit_list(tmp_path):
    path = copy_packets(make(tmp_path / "whole.mp4", gop=12), tmp_path / "cut.mp4", first_shown=17)
    check_all_frames(path)
    with VideoReader(path) as video:
        assert read_numbers(video.get_frames(range(video.num_frames))) == list(range(17, 40))


def test_several_decoding_threads_give_the_same(tmp_path):
    path = make(tmp_path / "clip.mp4", gop=12)
    with VideoReader(path) as one, VideoReader(path, num_threads=2) as two:
        for numbers in [range(40), [31, 5, 5], [0]]:
            assert torch.equal(one.get_frames(numbers), two.get_frames(numbers))


def test_description(tmp_path):
    path = make(
        tmp_path / "name with 3:4 and spaces.mp4", num_frames=25, fps=30, size=(48, 80), rotation=90, audio=True
    )
    with VideoReader(path) as video:
        assert video.num_frames == 25
        assert video.fps == 30.0
        assert video.duration_seconds == pytest.approx(25 / 30)
        assert (video.height, video.width, video.rotation, video.codec) == (80, 48, 90, "h264")
        frames = video.get_frames([24, 0])
    assert frames.dtype == torch.uint8 and frames.shape == (2, 80, 48, 3)


def test_the_first_of_two_video_streams_is_read(tmp_path):
    check_all_frames(encode_two_streams(tmp_path / "two.mkv", num_frames=6))


def test_numbers_of_frames(tmp_path):
    with VideoReader(make(tmp_path / "clip.mp4", num_frames=9)) as video:
        assert video.get_frames([]).shape == (0, 48, 64, 3)
        assert read_numbers(video.get_frames(torch.tensor([8, 3, 3]))) == [8, 3, 3]
        assert read_numbers(video.get_frames(np.array([2]))) == [2]
        for wrong in (-1, 9):
            with pytest.raises(IndexError, match=rf"clip.mp4: no frame {wrong}, the video has frames 0 to 8"):
                video.get_frames([0, wrong])
    with pytest.raises(ValueError, match="the reader is closed"):
        video.get_frames([0])


def test_only_what_is_needed_is_decoded(tmp_path, monkeypatch):
    sent = []

    def decode_packet(codec, packet, number):
        sent.append(number)
        return original(codec, packet, number)

    original = reader_module.decode_packet
    monkeypatch.setattr(reader_module, "decode_packet", decode_packet)
    options = {"x264-params": "keyint=10:scenecut=0"}
    with VideoReader(make(tmp_path / "clip.mp4", num_frames=100, b_frames=0, options=options)) as video:
        assert read_numbers(video.get_frames([93, 91, 12])) == [93, 91, 12]
    assert [number for number in sent if number is not None] == [10, 11, 12, 90, 91, 92, 93]


SKIPPABLE = {  # encoder options that give pictures no other picture refers to
    "h264.mp4": {"codec": "libx264", "options": {"x264-params": "b-adapt=0:bframes=3:scenecut=0"}},
    "h265.mkv": {"codec": "libx265", "options": {"x265-params": "log-level=none:b-adapt=0:bframes=3:scenecut=0"}},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"b_strategy": "0"}},
    "mpeg4.mp4": {"codec": "mpeg4", "options": {"b_strategy": "0"}},
    "packed.avi": {"codec": "mpeg4", "options": {"b_strategy": "0"}},
}


@pytest.mark.parametrize("name", SKIPPABLE)
def test_skippable_pictures_are_not_decoded(name, tmp_path, monkeypatch):
    decoded = []

    def decode_packet(codec, packet, number):
        frames = original(codec, packet, number)
        decoded.extend(frame.pts for frame in frames)
        return frames

    original = reader_module.decode_packet
    frames = np.random.default_rng(0).integers(0, 256, (30, 96, 128, 3), dtype=np.uint8)
    path = encode_video(tmp_path / name, frames, b_frames=3, gop=30, **SKIPPABLE[name])
    if name == "packed.avi":
        path = pack_b_frames(path, tmp_path / "two_in_a_packet.avi")
    expected = decode_all(path)
    monkeypatch.setattr(reader_module, "decode_packet", decode_packet)
    for numbers in ([29], [11, 18], [1, 2, 5, 27]):
        decoded.clear()
        with VideoReader(path) as video:
            np.testing.assert_array_equal(video.get_frames(numbers), expected[numbers])
        assert len(decoded) < 25 and len(set(decoded)) == len(decoded)


# Files that cannot be read ----------------------------------------------------------------------------------------


def make_missing(path):
    pass


def make_folder(path):
    path.mkdir()


def make_empty(path):
    path.touch()


def make_garbage(path):
    path.write_bytes(random.Random(0).randbytes(5000))


def make_text(path):
    path.write_text("<html>404 Not Found</html>\n" * 50)


def make_sound(path):
    encode_video(path, None, audio=True)


def make_headless(path):
    path.write_bytes(make(path.with_name("whole.mp4")).read_bytes()[:-600])  # without the table at the end of the file


def make_pipe(path):
    os.mkfifo(path)


BAD_FILES = {
    make_missing: "No such file or directory",
    make_folder: "is a directory",
    make_empty: r"is empty \(0 bytes\)",
    make_garbage: "cannot be opened as a video",
    make_text: "cannot be opened as a video",
    make_sound: r"no video stream that can be decoded \(its streams: audio\)",
    make_headless: "cannot be opened as a video",
    make_pipe: "is not a regular file",
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("make_bad", BAD_FILES)
def test_bad_files_say_why(make_bad, tmp_path, capfd):
    path = tmp_path / "bad.mp4"
    make_bad(path)
    capfd.readouterr()
    with pytest.raises(VideoError, match=rf"bad\.mp4: .*{BAD_FILES[make_bad]}") as caught:
        VideoReader(path)
    assert caught.value.path == str(path) and str(caught.value) == f"{path}: {caught.value.reason}"
    assert capfd.readouterr().err == ""


def test_permission_denied(tmp_path):
    path = make(tmp_path / "clip.mp4", num_frames=2)
    path.chmod(0)
    with as_nobody(), pytest.raises(VideoError, match="Permission denied"):
        VideoReader(path)


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """contents(name): the bytes of an intact file, encoded once."""

    @functools.cache
    def encode(name):
        codec = {"h264": "libx264", "h265": "libx265", "vp9": "libvpx-vp9"}.get(name.split(".")[0], "mpeg4")
        return make(tmp_path_factory.mktemp("intact") / name, codec=codec, gop=12).read_bytes()

    return encode


@pytest.mark.parametrize("share", [0.1, 0.35, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("name", ["h264.mkv", "h264.ts", "h264.flv", "h264.avi", "mpeg4.avi", "h265.mkv", "vp9.webm"])
def test_a_truncated_file_gives_exact_frames_or_an_error(name, share, contents, tmp_path):
    path, whole = tmp_path / name, contents(name)
    path.write_bytes(whole[: int(share * len(whole))])
    try:
        expected = decode_all(path)
    except (av.FFmpegError, ValueError):  # cannot be opened, or has no frame
        with pytest.raises(VideoError, match=r"can(not)? be (opened|decoded)|no video packets"):
            VideoReader(path)
        return
    frames, lost = [], []
    with VideoReader(path) as video:
        for i in range(video.num_frames):
            try:
                frames.append(video.get_frames([i])[0])
            except VideoError as error:
                lost.append(error.reason)
    np.testing.assert_array_equal(torch.stack(frames), expected)
    assert len(lost) <= 1  # the frame that was cut in two
    for reason in lost:
        assert re.fullmatch(r"frame \d+ of \d+ cannot be decoded", reason)


def test_a_damaged_frame_is_named_and_the_others_are_read(tmp_path, capfd):
    path = make(tmp_path / "clip.mp4", codec="mjpeg", pix_fmt="yuvj420p", num_frames=12)
    expected = decode_all(path)
    with VideoReader(path) as video:
        start, size = video.index.packet_positions[7], video.index.packet_sizes[7]
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(size))
    with VideoReader(path) as video:
        assert video.num_frames == 12
        with pytest.raises(VideoError, match="frame 7 of 12 cannot be decoded"):
            video.get_frames(range(4, 10))
        others = [0, 6, 8, 11]
        np.testing.assert_array_equal(video.get_frames(others), expected[others])
    assert capfd.readouterr().err == ""


def test_index_of_another_file(tmp_path):
    with VideoReader(make(tmp_path / "a.mp4")) as other, pytest.raises(VideoError, match="does not match its index"):
        VideoReader(make(tmp_path / "b.mp4", num_frames=30, gop=5), index=other.index).get_frames([20])


class MissingVideos(torch.utils.data.Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, i):
        return VideoReader("missing.mp4")


def test_errors_survive_pickling_and_the_worker_of_a_loader():
    error = pickle.loads(pickle.dumps(VideoError("a.mp4", "is broken")))
    assert (error.path, error.reason, str(error)) == ("a.mp4", "is broken", "a.mp4: is broken")
    with pytest.raises(VideoError, match=r"missing\.mp4: No such file"):
        next(iter(DataLoader(MissingVideos(), num_workers=1, multiprocessing_context="fork")))


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="counts open files in /dev/fd")
def test_nothing_stays_open(tmp_path):
    good = make(tmp_path / "good.mp4", num_frames=3)
    make_sound(sound := tmp_path / "sound.mp4")
    gc.collect()  # what other tests left
    num_open = len(os.listdir("/dev/fd"))
    for attempt in range(60):
        with VideoReader(good) as video:
            video.get_frames([2, 0])
        if attempt % 10 == 0:
            with pytest.raises(VideoError):
                VideoReader(sound)
    assert len(os.listdir("/dev/fd")) == num_open


# Files made by hand -----------------------------------------------------------------------------------------------


def copy_packets(source: Path, target: Path, first_shown: int) -> Path:
    """Copies a video of 25 frames per second so that it starts later: earlier frames get negative times."""
    with av.open(str(source)) as read, av.open(str(target), "w", options={"avoid_negative_ts": "disabled"}) as write:
        video = read.streams.video[0]
        copy = write.add_stream_from_template(video)
        ticks = round(first_shown / 25 / video.time_base)
        for packet in read.demux(video):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts - ticks, packet.dts - ticks, copy
                write.mux(packet)
    return target


def pack_b_frames(source: Path, target: Path) -> Path:
    """Joins each P-frame with the B-frame after it; an empty packet, marked as a keyframe, replaces the B-frame."""
    picture, user_data, empty = b"\x00\x00\x01\xb6", b"\x00\x00\x01\xb2DivX503b1393p", b"\x00\x00\x01\xb6\x10\x00\x00"
    with av.open(str(source)) as read, av.open(str(target), "w") as write:
        video = read.streams.video[0]
        copy = write.add_stream_from_template(video)
        packets = []  # content, is it a keyframe
        for packet in read.demux(video):
            content = bytes(packet)
            if packet.is_keyframe:
                packets.append((content.replace(picture, user_data + picture), True))
            elif content and content[content.index(picture) + 4] >> 6 == 2:  # a B-frame
                if packets[-1][0] == empty:  # the second one in a row
                    packets.insert(-1, (content, False))
                else:
                    packets[-1] = packets[-1][0] + content, packets[-1][1]
                    packets.append((empty, True))
            elif content:
                packets.append((content, False))
        for number, (content, is_keyframe) in enumerate(packets):
            packet = av.Packet(content)
            packet.stream, packet.time_base, packet.is_keyframe = copy, video.time_base, is_keyframe
            packet.pts = packet.dts = number
            write.mux(packet)
    return target
