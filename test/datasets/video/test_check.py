"""Faults that a check finds in files."""

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from encode import encode_video, number_frames
from faults import as_nobody
from PIL import Image

from datasets.image_file import SUFFIXES
from datasets.video import VideoError, VideoReader
from datasets.video.check import check_video


def number_video(path, num_frames=60, **options):
    return encode_video(path, number_frames(num_frames, 96, 128), **options)


def fault_of(path, full=False):
    return check_video(str(path), full).facts["fault"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("h264.mp4", {"audio": True}),
        ("open_gop.mkv", {"gop": 10, "options": {"x264-params": "open-gop=1"}}),
        ("b_frames.avi", {"codec": "mpeg4", "b_frames": 2}),
        ("stream.ts", {}),
        ("flash.flv", {}),
        ("vp9.webm", {"codec": "libvpx-vp9"}),
        ("hevc.mp4", {"codec": "libx265", "gop": 12}),
    ],
)
def test_intact_videos(tmp_path, name, options):
    path = number_video(tmp_path / name, fps=30, **options)
    with VideoReader(path) as video:
        expected = {
            "codec": video.codec, "width": 128, "height": 96, "frames": 60, "fps": round(video.fps, 4),
            "seconds": round(video.duration_seconds, 4), "bytes": path.stat().st_size, "fault": "",
        }  # fmt: skip
    for full in (False, True):
        found = check_video(str(path), full)
        assert expected.items() <= found.facts.items() and found.facts["full"] == full
        assert found.facts["fps"] == pytest.approx(30, 0.02)
        assert found.facts["keyframes"] >= (5 if "gop" in options else 1)
        assert len(found.index.frame_packets) == 60 and found.stamp[0] == path.stat().st_size


def test_a_cut_file_with_sound_ends_early(tmp_path):
    whole = number_video(tmp_path / "a.mkv", 100, audio=True, gop=10)
    assert fault_of(whole) == ""
    (tmp_path / "cut.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size // 3])
    assert fault_of(tmp_path / "cut.mkv").startswith("ends early: ")


def test_complaints_belong_to_the_file_they_are_about(tmp_path):
    whole = number_video(tmp_path / "a.mkv", 100, audio=True, gop=10).read_bytes()
    cuts = [tmp_path / f"cut{part}.mkv" for part in (90, 93, 96)]
    for path, part in zip(cuts, (90, 93, 96), strict=True):
        path.write_bytes(whole[: len(whole) * part // 100])
    assert {fault_of(path, full=True) for path in cuts} == {"damaged: File ended prematurely"}
    assert fault_of(tmp_path / "a.mkv", full=True) == ""


def test_a_late_start_is_no_early_end(tmp_path):
    whole = number_video(tmp_path / "late.mkv", 40, pts=[125 + number for number in range(40)], gop=10)
    assert fault_of(whole) == ""
    (tmp_path / "cut.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size // 4])
    assert fault_of(tmp_path / "cut.mkv").startswith("ends early: ")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("late_header.mp4", {}),
        ("early_header.mp4", {"options": {}}),
        ("a.avi", {"codec": "mpeg4"}),
        ("a.mkv", {}),
        ("a.flv", {}),
    ],
)
def test_cut_at_every_tenth(tmp_path, name, options):
    whole = number_video(tmp_path / name, gop=12, fps=10, **options).read_bytes()
    if name == "early_header.mp4":
        whole = move_header_to_the_start(whole)
    path = tmp_path / f"cut{Path(name).suffix}"
    path.write_bytes(whole)
    assert fault_of(path) == ""
    for tenth in range(10):
        path.write_bytes(whole[: len(whole) * tenth // 10])
        fault = fault_of(path)
        assert fault, f"{name} at {tenth} tenths"
        if name == "late_header.mp4" and tenth:
            assert fault.startswith("cannot be opened as a video")
        elif tenth > 4:
            assert fault.startswith("ends early: ")


def move_header_to_the_start(content):
    """Moves the table of frames in front of the frames, as in MP4 files made for the web."""
    start = content.index(b"mdat") - 4
    end = content.index(b"moov", start) - 4
    header = bytearray(content[end:])
    table = header.index(b"stco")
    for place in range(table + 12, table + 12 + 4 * int.from_bytes(header[table + 8 : table + 12]), 4):
        header[place : place + 4] = (int.from_bytes(header[place : place + 4]) + len(header)).to_bytes(4)
    return content[:start] + bytes(header) + content[start:end]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_only_a_full_check_finds_inner_damage(tmp_path, codec):
    path = number_video(tmp_path / "a.mp4", gop=10, codec=codec)
    with VideoReader(path) as video:
        start, size = int(video.index.packet_positions[24]), int(video.index.packet_sizes[24])
    data = bytearray(path.read_bytes())
    data[start + 4 : start + size] = b"\xff" * (size - 4)
    path.write_bytes(data)
    found = check_video(str(path), full=False)
    assert found.facts["fault"] == "" and found.facts["frames"] == 60
    found = check_video(str(path), full=True)
    assert found.facts["fault"].startswith(("damaged: ", "1 of 60 frames are damaged or cannot be decoded"))
    assert len(found.index.frame_packets) == 60  # the other frames can be read


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv"])
def test_flipped_bits_never_stop_the_check(tmp_path, name):
    """Wherever bits flip, the file has a fault, or it has frames: most flips only smear the picture."""
    path = number_video(tmp_path / name, gop=10, **({"codec": "mpeg4"} if name == "a.avi" else {}))
    intact = path.read_bytes()
    rng = np.random.default_rng(0)
    faults = 0
    for _ in range(12):
        data = np.frombuffer(intact, np.uint8).copy()
        data[rng.integers(len(data), size=20)] ^= (1 << rng.integers(8, size=20)).astype(np.uint8)
        path.write_bytes(data.tobytes())
        facts = check_video(str(path), full=True).facts
        faults += bool(facts["fault"])
        assert facts["fault"] or facts["frames"] > 0
    assert faults > 6


def test_what_is_not_a_video_file(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    os.mkfifo(tmp_path / "pipe.mp4")
    encode_video(tmp_path / "sound.mp4", None, audio=True)
    expected = {
        "folder": f"is a directory without images (names that end in {' '.join(SUFFIXES)})",
        "empty": "is empty (0 bytes)",
        "text": "cannot be opened as a video: Invalid data found when processing input",
        "pipe": "is not a regular file",
        "gone": "No such file or directory",
    }
    assert {name: fault_of(tmp_path / f"{name}.mp4") for name in expected} == expected
    assert fault_of(tmp_path / "sound.mp4").startswith("no video stream that can be decoded")
    assert check_video(str(tmp_path / "gone.mp4"), False).stamp is None


def test_a_name_in_another_unicode_form(tmp_path):
    number_video(tmp_path / "cafe\u0301.mp4")
    path = tmp_path / "caf\u00e9.mp4"
    with pytest.raises(VideoError) as error:
        VideoReader(path)
    assert fault_of(path) == error.value.reason
    assert error.value.reason.startswith("No such file or directory; its name exists in another Unicode form")


def test_permission_denied(tmp_path):
    path = number_video(tmp_path / "a.mp4")
    path.chmod(0)
    with as_nobody():
        assert "ermission denied" in fault_of(path)


def test_members_of_tar_files(tmp_path):
    path = number_video(tmp_path / "a.mp4")
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        tar.add(path, "f/a.mp4")
    alone, found = (check_video(str(place), True) for place in (path, tmp_path / "s.tar#f/a.mp4"))
    assert found.facts == alone.facts and len(found.index.frame_packets) == 60
    assert found.stamp == (path.stat().st_size, (tmp_path / "s.tar").stat().st_mtime_ns)
    assert fault_of(tmp_path / "s.tar#g.mp4") == "the tar file has no such member; it has 1 files"
    assert fault_of(tmp_path / "t.tar#g.mp4") == "No such file or directory"


def test_folders_of_frames(tmp_path):
    for number in range(1, 4):
        Image.new("RGB", (32, 24)).save(tmp_path / f"img_{number}.png")
    found = check_video(str(tmp_path), True)
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert found.facts == {"bytes": size, "full": True, "width": 32, "height": 24, "frames": 3, "fault": ""}
    assert found.index is None
    (tmp_path / "img_2.png").write_bytes(b"damaged")
    assert check_video(str(tmp_path), False).stamp != found.stamp and fault_of(tmp_path) == ""
    assert fault_of(tmp_path, full=True).startswith("img_2.png cannot be read as an image")
