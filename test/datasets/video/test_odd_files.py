"""Files that say less, or something else, than they hold: each frame is that of a plain decode, or it is refused."""

import contextlib
import random

import av
import numpy as np
import pytest
from encode import encode_video, number_frames, read_numbers, write_matrix

from datasets.video import VideoError, VideoReader
from datasets.video.check import check_video
from datasets.video.resize import View

WIDE = number_frames(40, 48, 64)


def decode_all(path) -> np.ndarray:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])


def check_random_frames(path, expected: np.ndarray, num_threads: int = 1) -> None:
    rng = random.Random(0)
    with VideoReader(path, num_threads=num_threads) as video:
        assert video.num_frames == len(expected)
        for _ in range(30):
            numbers = sorted(rng.sample(range(len(expected)), rng.choice([1, 1, 4])))
            np.testing.assert_array_equal(video.get_frames(numbers), expected[numbers])


def remux(source, target, *, streams=(0,), bsf: str | None = None, covers=(), **options) -> None:
    """Copies the packets of video streams, through a bitstream filter, into another container."""
    with av.open(str(source)) as read, av.open(str(target), "w", options=options) as write:
        copies = {number: write.add_stream_from_template(read.streams.video[number]) for number in streams}
        for number in covers:
            copies[number].disposition = av.stream.Disposition.attached_pic
        chain = bsf and av.bitstream.BitStreamFilterContext(bsf, read.streams.video[0], copies[0])
        for packet in read.demux(*(read.streams.video[number] for number in streams)):
            if packet.size or chain:
                for out in chain.filter(packet if packet.size else None) if chain else [packet]:
                    out.stream = copies[packet.stream.index]
                    write.mux(out)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mov", "qtrle", "rgb24"),
        ("a.mov", "svq1", "yuv410p"),
        ("a.avi", "msvideo1", "rgb555le"),
        ("a.mov", "cfhd", "yuv422p10le"),
        ("a.flv", "flashsv", "bgr24"),
    ],
)
def test_decoders_that_mark_no_keyframe(name, codec, pix_fmt, tmp_path):
    path = encode_video(tmp_path / name, WIDE, codec=codec, pix_fmt=pix_fmt)
    check_random_frames(path, decode_all(path))
    assert check_video(str(path), full=True).facts["fault"] == ""


def test_a_demuxer_that_gives_other_packets_after_a_seek(tmp_path):
    path = encode_video(tmp_path / "a.asf", number_frames(80), gop=12)
    check_random_frames(path, decode_all(path))


def test_gradual_refresh(tmp_path):
    options = {"x264-params": "intra-refresh=1:keyint=12"}
    path = encode_video(tmp_path / "a.mkv", number_frames(120), options=options, b_frames=0)
    check_random_frames(path, decode_all(path))


@pytest.mark.parametrize("codec", ["mpeg2video", "libvpx", "ffv1"])
def test_several_threads_decode_as_one(codec, tmp_path):
    path = encode_video(tmp_path / "a.mkv", number_frames(60), codec=codec, gop=30)
    check_random_frames(path, decode_all(path), num_threads=3)


# Still pictures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["film.mkv", "film.mp4"])
def test_a_cover_before_the_video(name, tmp_path):
    picture = np.full((1, 32, 32, 3), 200, np.uint8)
    with av.open(str(tmp_path / name), "w") as container:
        cover, video = container.add_stream("mjpeg", rate=25), container.add_stream("mpeg4", rate=25)
        cover.disposition = av.stream.Disposition.attached_pic
        for stream, frames, pix_fmt in ((cover, picture, "yuvj420p"), (video, WIDE, "yuv420p")):
            stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
        for stream, frames in ((cover, picture), (video, WIDE)):
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
            container.mux(stream.encode(None))
    with VideoReader(tmp_path / name) as reader:
        assert read_numbers(reader.get_frames(range(40))) == list(range(40))
        assert reader.num_streams == 2


@pytest.mark.parametrize("name", ["song.mkv", "song.mp4"])
def test_a_song_with_a_cover_is_no_video(name, tmp_path):
    encode_video(tmp_path / name, WIDE[:1], codec="mjpeg", pix_fmt="yuvj420p", audio=True)
    with pytest.raises(VideoError, match=r"no video stream .*still picture"):
        VideoReader(tmp_path / name)


def test_one_picture_without_sound_is_a_video_of_one_frame(tmp_path):
    path = encode_video(tmp_path / "a.mkv", WIDE[:1], codec="mjpeg", pix_fmt="yuvj420p")
    check_random_frames_of_one(path)


def check_random_frames_of_one(path):
    with VideoReader(path) as video:
        assert video.num_frames == 1 and video.get_frames([0]).shape == (1, 48, 64, 3)


# Damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.avi", "mjpeg", "yuvj420p"),
        ("a.mp4", "libx264", "yuv420p"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.mkv", "mpeg2video", "yuv420p"),
    ],
)
def test_a_damaged_frame_is_the_same_whatever_was_read_before(name, codec, pix_fmt, tmp_path):
    path = encode_video(tmp_path / name, WIDE, codec=codec, pix_fmt=pix_fmt, gop=10)
    with VideoReader(path) as video:
        places = video.index.packet_positions[[3, 12]] + video.index.packet_sizes[[3, 12]] // 2
    content, noise = bytearray(path.read_bytes()), np.random.default_rng(0)
    for place in places.tolist():
        content[place : place + 12] = noise.bytes(12)
    path.write_bytes(content)
    rng, seen = random.Random(0), {}
    with VideoReader(path) as video:
        for _ in range(60):
            numbers = sorted(rng.sample(range(video.num_frames), rng.choice([1, 1, 3, 8])))
            try:
                frames = video.get_frames(numbers).numpy()
            except VideoError:
                continue
            for i, frame in zip(numbers, frames, strict=True):
                np.testing.assert_array_equal(frame, seen.setdefault(i, frame), err_msg=f"frame {i}")
    assert len(seen) > 20


def test_an_encrypted_file_is_refused(tmp_path):
    source, path = encode_video(tmp_path / "a.mp4", WIDE), tmp_path / "b.mp4"
    key = "76a6c65c5ea762046bd749a2e632ccbb"
    remux(source, path, encryption_scheme="cenc-aes-ctr", encryption_key=key, encryption_kid=key)
    with pytest.raises(VideoError, match="is encrypted"):
        VideoReader(path)


def test_colors_that_cannot_be_converted_are_the_files_fault(tmp_path):
    path = encode_video(tmp_path / "a.mp4", WIDE, options={"x264-params": "colormatrix=ycgco"})
    with VideoReader(path) as video, contextlib.suppress(VideoError):  # FFmpeg 8 does not convert YCgCo
        assert video.get_frames([3]).shape == (1, 48, 64, 3)


# Clocks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("b_frames", [0, 2])
def test_a_clock_that_is_set_back(b_frames, tmp_path):
    """By 12 frames at frame 24: no decoder reorders so many."""
    source = encode_video(tmp_path / "whole.mkv", WIDE, gop=12, b_frames=b_frames)
    path = tmp_path / "back.mkv"
    with av.open(str(source)) as read, av.open(str(path), "w") as write:
        copy = write.add_stream_from_template(read.streams.video[0])
        for number, packet in enumerate(read.demux(video=0)):
            if packet.size:
                packet.pts -= 500 * (number >= 24)  # ms
                packet.dts = number - 10_000  # increases, and never exceeds a presentation time
                packet.stream = copy
                write.mux_one(packet)
    expected = decode_all(path)
    check_random_frames(path, expected)
    with VideoReader(path) as video:
        assert read_numbers(video.get_frames(range(video.num_frames))) == read_numbers(expected)


def test_the_duration_of_joined_recordings(tmp_path):
    part = encode_video(tmp_path / "a.ts", WIDE)
    path = tmp_path / "b.ts"
    path.write_bytes(part.read_bytes() * 2)
    with VideoReader(path) as video:
        assert video.num_frames == 80
        assert video.fps == pytest.approx(25, rel=0.02)


# What other decoders need to know ----------------------------------------------------------------------------------


def join_sizes(folder, codec, **options):
    """A transport stream whose pictures change from 48 x 64 to 64 x 96."""
    parts = [encode_video(folder / f"{h}.ts", number_frames(12, h, w), codec=codec, **options) for h, w in SIZES]
    path = folder / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


SIZES = [(48, 64), (64, 96)]


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg2video", "mpeg4"])
def test_a_change_of_size_is_known(codec, tmp_path):
    with VideoReader(join_sizes(tmp_path, codec)) as video:
        assert video.index.facts["changes"] and not video.index.facts["false_keyframes"]
        assert video.get_frames([0, video.num_frames - 1]).shape == (2, 48, 64, 3)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        *(("a.mp4", "libx264"), ("a.ts", "libx264"), ("a.flv", "libx264"), ("a.mkv", "libx265"), ("a.avi", "mpeg4")),
        *(("a.mpg", "mpeg2video"), ("a.webm", "libvpx"), ("a.webm", "libvpx-vp9"), ("a.avi", "mjpeg")),
    ],
)
def test_no_change_is_seen_where_there_is_none(name, codec, tmp_path):
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    with VideoReader(encode_video(tmp_path / name, WIDE, codec=codec, gop=10, pix_fmt=pix_fmt)) as video:
        facts = video.index.facts
        assert (facts["changes"], facts["interlaced"], facts["false_keyframes"]) == (False, False, False)


def test_interlaced_frames_and_false_keyframes_are_known(tmp_path):
    interlaced = encode_video(tmp_path / "a.mp4", WIDE, options={"x264-params": "tff=1"})
    gradual = encode_video(tmp_path / "b.mp4", WIDE, options={"x264-params": "intra-refresh=1:keyint=12"}, b_frames=0)
    with VideoReader(interlaced) as one, VideoReader(gradual) as other:
        assert one.index.facts["interlaced"] and other.index.facts["false_keyframes"]


# Orientation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((-1, 0, 0, 1), lambda picture: picture[:, ::-1]),
        ((1, 0, 0, -1), lambda picture: picture[::-1]),
        ((0, 1, 1, 0), lambda picture: picture.swapaxes(0, 1)),
        ((0, -1, -1, 0), lambda picture: picture[::-1, ::-1].swapaxes(0, 1)),
        ((0, 0, 0, 0), lambda picture: picture),
    ],
)
def test_mirrored_frames(matrix, turn, tmp_path):
    path = encode_video(tmp_path / "a.mp4", WIDE)
    stored = decode_all(path)
    write_matrix(path, *matrix)
    with VideoReader(path) as video:
        upright = turn(stored[7])
        assert (video.height, video.width) == upright.shape[:2]
        np.testing.assert_array_equal(video.get_frames([7])[0], upright)
        height, width = upright.shape[:2]
        (clip,) = video.get_clips([([7], View(height, width, 4, 8, height - 12, width - 24))])
        part = upright[4 : height - 8, 8 : width - 16].astype(int)
        assert np.abs(clip[:, 0].permute(1, 2, 0).numpy() - part).mean() < 6


@pytest.mark.parametrize("orientation", [(90, False), (0, True), (270, True)])
def test_display_orientation_messages(orientation, tmp_path):
    """H.264 says in the stream itself how its pictures are turned."""
    rotation, is_mirrored = orientation
    source, path = encode_video(tmp_path / "a.mp4", WIDE), tmp_path / "b.mp4"
    bsf = f"h264_metadata=display_orientation=insert:rotate={rotation}" + ":flip=horizontal" * is_mirrored
    remux(source, path, bsf=bsf)
    with VideoReader(path) as video:
        assert (video.rotation, video.is_mirrored) == orientation
