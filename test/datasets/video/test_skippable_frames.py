"""Which frames can be skipped is known, and skipping them does not change the others."""

import numpy as np
import pytest
from encode import encode_video, number_frames

from datasets.video.reader import VideoReader
from datasets.video.skippable_frames import find_marks, find_skippable, has_one_layer


def test_when_marks_are_trusted():
    assert find_marks("h264", None, [], None, 40) == "each"
    assert find_marks("vp9", None, [], None, 40) is None
    assert find_marks("mpeg4", None, ["I", "P", "B"], ["I", "P", "B"], 3) == "each"
    assert find_marks("mpeg4", None, ["I", "PB", ""], ["I", "P", "B"], 3) == "rows"
    assert find_marks("mpeg4", None, ["I", "PB", ""], ["I", "P", "B"], 2) is None  # a picture that is not displayed
    assert find_marks("mpeg4", None, ["I", "PB", ""], None, 3) is None


def test_hevc_with_several_layers_may_refer_to_every_picture(tmp_path):
    path = encode_video(tmp_path / "clip.mp4", number_frames(9, 48, 64), codec="libx265")
    with VideoReader(path) as video:
        record = bytes.fromhex(video.index.facts["decoder"]["extradata"])
        assert video.index.facts["marks"] == "each"
    assert has_one_layer(record)
    layers = record[:21] + bytes([record[21] | 2 << 3]) + record[22:]
    assert not has_one_layer(layers) and find_marks("hevc", layers, [], None, 9) is None
    assert not has_one_layer(None) and not has_one_layer(b"\0\0\0\1")


ROWS = np.array([0, 2, 3, 1, 5, 6, 4, 7])  # decoding order I, P, B, B, P, B, B, P


@pytest.mark.parametrize(
    ("marks", "first", "wanted", "skipped", "unsent"),
    [
        ("each", 2, {3, 5}, {2, 4}, set()),
        ("rows", 0, {7}, {2, 5}, {3, 6}),
        ("rows", 0, {2, 7}, {5}, {6}),  # a row with a wanted picture is decoded
        ("rows", 0, {3, 4}, set(), set()),
        ("rows", 0, {4}, {2}, {3}),
        ("rows", 4, {5}, set(), set()),
    ],
)
def test_consecutive_b_frames_are_skipped_together(marks, first, wanted, skipped, unsent):
    assert find_skippable(marks, ROWS, first, wanted) == (skipped, unsent)
