"""What packets hold, against what encoders say that they made."""

import av
import numpy as np
import pytest
from encode import encode_video, number_frames

from datasets.video.bitstream import packet_parser


def contents(path):
    """-> (what each packet holds by its bits, the packets flagged as keyframes)"""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        parse = packet_parser(stream.codec_context.codec.canonical_name, stream.codec_context.extradata)
        packets = [packet for packet in container.demux(stream) if packet.size]
        return [parse(bytes(packet)) for packet in packets], [packet.is_keyframe for packet in packets]


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {}),
        ("a.ts", "libx264", {}),
        ("a.mkv", "libx264", {"x264-params": "open-gop=1:keyint=12:min-keyint=12"}),
        ("a.mp4", "libx265", {}),
        ("a.ts", "libx265", {"x265-params": "log-level=none:open-gop=1:keyint=12"}),
        ("a.webm", "libvpx-vp9", {"cpu-used": "8", "deadline": "realtime"}),
        ("a.mkv", "libsvtav1", {"preset": "12"}),
    ],
)
def test_keyframes_are_those_that_the_encoder_flags(name, codec, options, tmp_path):
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    path = encode_video(tmp_path / name, number_frames(40), codec=codec, options=options, gop=12)
    found, flags = contents(path)
    assert [packet.is_start for packet in found] == flags
    assert sum(packet.num_displayed for packet in found) == 40


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_gradual_refresh_is_no_start(suffix, tmp_path):
    options = {"x264-params": "intra-refresh=1:keyint=12:scenecut=0"}
    path = encode_video(tmp_path / f"a{suffix}", number_frames(60), options=options, b_frames=0)
    found, flags = contents(path)
    assert sum(flags) > 1
    assert [flag and packet.is_start for flag, packet in zip(flags, found, strict=True)].count(True) == 1


def is_start_and_displayed(codec):
    parse = packet_parser(codec, None)
    return lambda data: parse(data)[:2]


def test_a_wrong_flag_is_noticed():
    """A P-slice and an I-slice with their first bits: first macroblock 0, type 5 (all P) or 7 (all I)."""
    parse = is_start_and_displayed("h264")
    p_slice, i_slice = b"\x00\x00\x01\x41\x98", b"\x00\x00\x01\x61\x88"  # 1 00110 .. and 1 0001000 ..
    assert parse(p_slice) == (False, 1)
    assert parse(i_slice + b"\x80") == (True, 1)
    assert parse(i_slice + p_slice) == (False, 1)
    assert parse(b"\x00\x00\x01\x09\x10") == (False, 0)  # a delimiter alone holds no picture


def test_recovery_points():
    parse = is_start_and_displayed("h264")
    i_slice = b"\x00\x00\x01\x61\x88\x80"
    exact, gradual = b"\x00\x00\x01\x06\x06\x01\xc4\x80", b"\x00\x00\x01\x06\x06\x01\x24\x80"  # after 0 and 3 frames
    assert parse(exact + i_slice) == (True, 1)
    assert parse(gradual + i_slice) == (False, 1)
    filler = b"\x00\x00\x01\x06\x05\xff\x10" + bytes(range(1, 256)) + bytes(range(1, 17))  # 271 bytes of user data
    assert parse(filler + b"\x06\x01\x24\x80" + i_slice) == (False, 1)


def test_hidden_frames():
    vp9 = is_start_and_displayed("vp9")
    shown_key, hidden_key, shown, repeat = b"\x82\x00", b"\x80\x00", b"\x86\x00", b"\x88"
    assert vp9(shown_key) == (True, 1)
    assert vp9(hidden_key) == (True, 0)
    assert vp9(shown) == (False, 1)
    assert vp9(repeat) == (False, 1)
    index = bytes([0xC1, 2, 2, 0xC1])  # two frames of two bytes each
    assert vp9(hidden_key + shown + index) == (True, 1)
    av1 = is_start_and_displayed("av1")
    delimiter, key, hidden = b"\x12\x00", b"\x32\x01\x10", b"\x32\x01\x00"
    assert av1(delimiter + key) == (True, 1)
    assert av1(delimiter + hidden) == (False, 0)
    assert av1(delimiter + hidden + b"\x1a\x01\x80") == (False, 1)  # and then shown


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9", "av1"])
def test_damaged_packets_count_as_one_picture(codec):
    parse, rng = packet_parser(codec, bytes([1, 66, 0, 10, 255]) + bytes(20)), np.random.default_rng(0)
    for size in [1, 2, 3, 5, 9, 40] * 20:
        found = parse(rng.bytes(size))
        assert isinstance(found.is_start, bool) and found.num_displayed >= 0


def test_other_codecs_are_not_looked_into():
    assert packet_parser("theora", b"") is None
