"""Which images of a folder are its frames, and in which order."""

import pytest

from datasets.video import VideoError, frame_names
from datasets.video.frame_names import find_frames


@pytest.mark.parametrize(
    "names",
    [
        ["img_1.png", "img_2.PNG", "IMG_9.jpg", "img_10.png"],  # gaps, suffixes and case do not matter
        ["7.jpg"],
        ["only.jpg"],
        ["clip_007_0998.jpg", "clip_007_0999.jpg", "clip_007_1000.jpg"],
        ["frame_0.04.jpg", "frame_0.16.jpg", "frame_0.2.jpg", "frame_1.0.jpg"],  # seconds
        ["f_1_40.jpg", "f_2_80.jpg", "f_3_120.jpg"],  # number and milliseconds
        ["f_9_960.jpg", "f_9_999.jpg", "f_10_040.jpg", "f_10_080.jpg"],  # seconds and milliseconds
        ["2024-01-01_12-59-58.jpg", "2024-01-01_12-59-59.jpg", "2024-01-01_13-00-00.jpg"],
        ["59-40.jpg", "59-50.jpg", "60-00.jpg"],  # minutes and seconds
        ["1403636579763555584.png", "1403636579763555585.png"],  # nanoseconds
        ["shot1_0001.jpg", "shot1_0002.jpg", "shot2_0003.jpg"],
        ["1.gif", "2.jfif", "3.tif", "4.ppm", "5.webp", "6.bmp", "7.jp2", "8.avif"],
    ],
)
def test_one_series_is_the_video(names, caplog):
    assert find_frames("clip", [*names[::-1], ".hidden_1.jpg", "notes.txt", "0001.json"]) == names
    assert not caplog.text


@pytest.mark.parametrize(
    ("frames", "others", "said"),
    [
        (["img_1.jpg", "img_2.jpg"], ["flow_x_1.jpg", "flow_x_2.jpg", "flow_y_1.jpg"], "flow_x_* (2 images), flow_y_1"),
        (["img_00001.jpg"], ["flow_x_00001.jpg", "flow_y_00001.jpg"], "flow_x_00001.jpg, flow_y_00001.jpg"),
        (["img_00001.jpg", "img_00002.jpg"], ["frame.jpg"], "frame.jpg"),
        (["001.jpg", "002.jpg"], ["001_mask.png", "002_mask.png"], "*_mask (2 images)"),
        (["tennis_1.jpg", "tennis_2.jpg"], ["cover1.jpg", "poster.png"], "cover1.jpg, poster.png"),
        (["rgb_1.jpg", "rgb_2.jpg"], ["thumb_1.jpg", "thumb_2.jpg", "rgb_3.heic"], "thumb_* (2 images), rgb_3.heic"),
    ],
)
def test_other_images_are_left_out_and_named_once(frames, others, said, caplog, monkeypatch):
    monkeypatch.setattr(frame_names, "_said", set())
    for folder in ("first", "second"):
        assert find_frames(folder, [*others, *frames]) == frames
    assert caplog.text.count("left out") == 1 and f"left out: {said}" in caplog.text


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cam1_1.jpg", "cam1_2.jpg", "cam2_1.jpg", "cam2_2.jpg"], r"cam1_\* \(2 images\), cam2_\* \(2 images\)"),
        (
            ["cam1_001.jpg", "cam1_002.jpg", "cam2_001.jpg", "cam2_002.jpg"],
            r"cam1_\* \(2 images\), cam2_\* \(2 images\)",
        ),
        (["1-1-1-1-1.jpg", "1-1-1-1-2.jpg", "2-1-1-1-1.jpg", "2-1-1-1-2.jpg"], "unclear which images are its frames"),
        (["flow_x_1.jpg", "flow_x_2.jpg", "flow_y_1.jpg", "flow_y_2.jpg"], r"unclear which .*: flow_x_\* .*; move the"),
        (["rgb_1.jpg", "rgb_2.jpg", "frame_1.jpg", "frame_2.jpg"], "unclear which images are its frames"),
        (["a.jpg", "b.jpg"], r"unclear which images are its frames: a\.jpg, b\.jpg"),
        (["0001.jpg", "0001.png"], r"0001\.jpg and 0001\.png have the same number; keep one of them"),
        (["1.jpg", "01.jpg", "2.jpg"], r"01\.jpg and 1\.jpg have the same number"),
    ],
)
def test_what_is_unclear_is_refused(names, message):
    with pytest.raises(VideoError, match=f"clip: .*{message}"):
        find_frames("clip", names)


def test_no_images():
    assert find_frames("clip", ["notes.txt", "a.heic", ".x.jpg"]) == []
