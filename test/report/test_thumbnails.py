"""Strips of frames: in order, in proportion, from any kind of file."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from encode import encode_video, number_frames, read_numbers
from PIL import Image

from report.thumbnails import HEIGHT, NUM_FRAMES, WIDTH, make_thumbnail


def frames_of(thumbnail):
    picture = Image.open(io.BytesIO(base64.b64decode(thumbnail.source.partition(",")[2]))).convert("RGB")
    assert picture.size == (thumbnail.num_frames * thumbnail.width, thumbnail.height)
    return np.stack(np.split(np.asarray(picture), thumbnail.num_frames, axis=1))


def test_frames_from_start_to_end(tmp_path):
    path = encode_video(tmp_path / "caf\udce9.mp4", number_frames(50, 240, 320))
    thumbnail = make_thumbnail(path.name, "video", [tmp_path / "no", tmp_path])
    assert (thumbnail.num_frames, thumbnail.width, thumbnail.height) == (NUM_FRAMES, WIDTH, HEIGHT)
    assert read_numbers(frames_of(thumbnail)) == [0, 7, 14, 21, 28, 35, 42, 49]
    escaped = str(path).encode("utf-8", "backslashreplace").decode()  # as predictions.csv has it
    assert make_thumbnail(escaped, "video", [Path.cwd()]) == thumbnail


@pytest.mark.parametrize(("size", "expected"), [((400, 100), (39, 156)), ((9, 900), (208, 2)), ((1, 1), (156, 156))])
def test_images_keep_their_proportions(tmp_path, size, expected):
    Image.new("RGB", size[::-1], "red").save(tmp_path / "a.png")
    thumbnail = make_thumbnail(str(tmp_path / "a.png"), "image", [Path.cwd()])
    assert (thumbnail.num_frames, thumbnail.width, thumbnail.height) == (1, *expected)
    assert frames_of(thumbnail)[0, 0, 0, 0] > 240


def test_what_cannot_be_shown(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    for path, item in (("a.mp4", "video"), ("a.mp4", "image"), ("b.mp4", "video"), ("", "image"), ("b\0", "video")):
        reason = make_thumbnail(path, item, [tmp_path])
        assert isinstance(reason, str) and reason


def test_the_joints_of_a_skeleton_are_dots(tmp_path):
    positions = np.zeros((20, 1, 2, 3), np.float32)
    positions[:, 0, 1, 0] = np.arange(20)  # a joint that moves to the right
    np.savez(tmp_path / "a.npz", walk=positions)
    thumbnail = make_thumbnail(f"{tmp_path}/a.npz:walk", "skeleton", [])
    frames = frames_of(thumbnail).mean(axis=3)
    dark = [np.flatnonzero((frame < 200).any(axis=0)) for frame in frames]
    assert thumbnail.num_frames == NUM_FRAMES and [columns.max() for columns in dark] == sorted(c.max() for c in dark)
    assert make_thumbnail(f"{tmp_path}/a.npz:run", "skeleton", []) == "no sequence 'run' is in it"
