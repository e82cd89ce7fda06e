"""What the packets of a file tell, and when its times are not trusted."""

import struct
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
from encode import encode_video, number_frames

from datasets.video import frame_order
from datasets.video import index as index_module
from datasets.video.container import open_container, read_packets
from datasets.video.index import VideoIndex, scan_video


def make(path, num_frames=30, **options):
    return encode_video(path, number_frames(num_frames, 96, 128), **options)


def scan(path) -> VideoIndex:
    container, stream = open_container(path)
    with container:
        return scan_video(path, container, stream)


def refuse_to_decode(path):
    pytest.fail(f"{path} was decoded as a whole")


@pytest.mark.parametrize("name", ["h264.mp4", "h264.mkv", "h264.ts", "h264.flv", "mpeg4.avi", "mjpeg.avi", "vp9.webm"])
def test_files_with_good_times_are_not_decoded(name, tmp_path, monkeypatch):
    options = {
        "mpeg4.avi": {"codec": "mpeg4"},
        "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
        "vp9.webm": {"codec": "libvpx-vp9"},
    }
    path = make(tmp_path / name, **options.get(name, {}))
    monkeypatch.setattr(index_module, "order_by_decoding", refuse_to_decode)
    index = scan(path)
    assert sorted(index.frame_packets) == list(range(30))


@pytest.mark.parametrize("name", ["h264.mp4", "h264.mkv", "h264.ts", "mpeg4.mp4"])
def test_times_and_decoding_give_the_same_order(name, tmp_path):
    options = {"codec": "mpeg4", "b_frames": 2} if name.startswith("mpeg4") else {"gop": 12}
    path = make(tmp_path / name, **options)
    order, _, _ = frame_order.order_by_decoding(path)
    assert scan(path).frame_packets.tolist() == order
    assert order != sorted(order)  # there are B-frames


def test_order_by_time():
    order_by_time = frame_order.order_by_time
    assert order_by_time([0, 3, 1, 2, 4], num_delayed=1) == [0, 2, 3, 1, 4]
    assert order_by_time([0, 4, 2, 1, 3], num_delayed=2) == [0, 3, 2, 4, 1]
    assert order_by_time([0, 4, 2, 1, 3], num_delayed=1) is None  # the decoder cannot hold back so many
    assert order_by_time([0, 1, 2], num_delayed=0) == [0, 1, 2]
    assert order_by_time([0, 1, 2], num_delayed=1) is None  # times in decoding order
    assert order_by_time([0, None, 2], num_delayed=0) is None
    assert order_by_time([0, 1, 1], num_delayed=0) is None
    assert order_by_time([*range(100, 200), *range(100)], num_delayed=0) is None  # two joined files
    assert order_by_time([*range(20), *range(15, 30)], num_delayed=0) is None  # a clock set back
    assert order_by_time([0, 1, 2, 3, 1.5, 2.5, 4], num_delayed=0) is None


def test_decoding_starts_at_the_last_keyframe_that_is_not_displayed_later():
    """I0 P3 B1 B2 | I6 B4 B5 P7: B4 and B5 come after the second keyframe in the file, but refer to P3 before it."""
    order = [0, 2, 3, 1, 5, 6, 4, 7]
    starts = frame_order.decoding_starts(np.array(order), order, np.array([0, 4]), 8)
    assert starts.tolist() == [0, 0, 0, 0, 0, 0, 4, 4]


def test_pictures_of_mpeg4_packets():
    start, rest = b"\x00\x00\x01\xb6", b"\x55" * 40
    intra, predicted, bidirectional, sprite = (start + bytes([kind << 6]) + rest for kind in range(4))
    packets = [intra, b"header" + predicted, predicted + bidirectional, sprite, start + b"\x50\x00\x00", b""]
    assert [frame_order.mpeg4_pictures(packet) for packet in packets] == ["I", "P", "PB", "S", "", ""]


def test_types_of_mpeg4_packets():
    types = frame_order.mpeg4_types
    assert types(["I", "P", "B"], is_packed=False) == ["I", "P", "B"]
    assert types(["I", "PB", "", "P"], is_packed=True) == ["I", "P", "B", "P"]
    assert types(["I", "PB", "B", "", "P"], is_packed=True) == ["I", "P", "B", "B", "P"]
    assert types(["I", "PB", ""], is_packed=False) is None
    assert types(["I", "", "P"], is_packed=True) is None  # "same as before"
    assert types(["I", "PB", "PB"], is_packed=True) is None  # no empty packet for the first B-frame
    assert types(["I", "PB"], is_packed=True) == ["I", "P"]
    assert types(["I", "SB", "", "S"], is_packed=True) == ["I", "S", "B", "S"]


def test_order_by_type():
    assert frame_order.order_by_type("IPBBPIBP") == [0, 2, 3, 1, 4, 6, 5, 7]
    assert frame_order.order_by_type("IPP") == [0, 1, 2]
    assert frame_order.order_by_type("IBPB") is None  # a B-frame with nothing after it


@pytest.mark.parametrize(
    "options", [{"b_frames": 2}, {"b_frames": 3, "gop": 7}, {"b_frames": 1, "audio": True}], ids=str
)
def test_types_and_decoding_give_the_same_order(options, tmp_path, monkeypatch):
    path = make(tmp_path / "clip.avi", codec="mpeg4", options={"b_strategy": "0"}, **options)
    with monkeypatch.context() as patch:
        patch.setattr(index_module, "order_by_type", lambda *_: None)
        decoded = scan(path)
    monkeypatch.setattr(index_module, "order_by_decoding", refuse_to_decode)
    index = scan(path)
    assert index.frame_packets.tolist() == decoded.frame_packets.tolist() != list(range(30))
    assert index.frame_starts.tolist() == decoded.frame_starts.tolist() and len(np.unique(index.frame_starts)) > 2
    assert index.duration == decoded.duration == pytest.approx(30 / 25)


@pytest.mark.parametrize("fps", [25, 30, Fraction(30000, 1001)])
@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".ts"])
def test_duration(fps, suffix, tmp_path):
    index = scan(make(tmp_path / f"clip{suffix}", fps=fps, codec="libx264" if suffix == ".mp4" else "mpeg4"))
    assert float(len(index.frame_packets) / index.duration) == pytest.approx(float(fps), rel=1e-4)


def test_duration_of_a_variable_rate(tmp_path):
    pts = [0, 1, 2, 10, 11, 20]
    index = scan(make(tmp_path / "clip.mkv", num_frames=6, pts=pts, codec="mpeg4"))
    assert 20 / 25 < float(index.duration) <= 24.5 / 25  # the duration of the last frame is not stored


@pytest.mark.parametrize(
    ("times", "ticks"),
    [
        ([0, 2, 3, 1, 5, 6, 4, 7], 8),  # times of decoding in display order, as in AVI with packed B-frames
        ([*range(100, 200), *range(100)], 200),  # joined recordings
        ([7, 8, 9, 7, 8, 9], 6),
        ([0, 1, 1, 3], 5),
    ],
)
def test_duration_of_times_that_do_not_increase(times, ticks):
    stream = SimpleNamespace(time_base=Fraction(1, 25))
    assert index_module.duration_of(times, 1, stream) == Fraction(ticks, 25)


def test_a_wrong_duration_in_the_header_does_not_matter(tmp_path):
    path = make(tmp_path / "clip.mkv")
    content = bytearray(path.read_bytes())
    place = content.index(b"\x44\x89\x88") + 3  # the Duration of Matroska: a double, in milliseconds
    assert struct.unpack_from(">d", content, place)[0] == pytest.approx(1200, abs=50)
    struct.pack_into(">d", content, place, 3.6e6)
    path.write_bytes(content)
    index = scan(path)
    assert len(index.frame_packets) == 30
    assert float(index.duration) == pytest.approx(1.2, abs=0.01)


def test_packets_are_recognized(tmp_path):
    path = make(tmp_path / "clip.mp4")
    index = scan(path)
    container, stream = open_container(path)
    with container:
        for number, packet in enumerate(read_packets(container, stream)):
            assert index.find(packet) == number
            assert index.matches(packet, number) and not index.matches(packet, number + 1)
    assert index.find(av.Packet(b"x")) is None
