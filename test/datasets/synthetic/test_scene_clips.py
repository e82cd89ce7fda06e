"""The moving scenes: tracks are where the shapes are, and the file is one of YouTube-VIS."""

import json

import av
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from datasets.synthetic.scene_clips import _draw_path, draw_scene_clip, make_scene_clips


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_scene_clips(tmp_path_factory.mktemp("demo") / "clips", num_train=6, num_val=2, size=48, num_frames=9)


def test_videos_and_tracks_agree(folder):
    content = json.loads((folder / "tracks_train.json").read_text())
    assert len(content["videos"]) == 6 and [entry["id"] for entry in content["annotations"]] == list(
        range(1, len(content["annotations"]) + 1)
    )
    for video in content["videos"]:
        with av.open(str(folder / "train" / video["file_name"])) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(frames) == video["length"] == 9
        assert frames[0].shape[:2] == (video["height"], video["width"])
        assert any(track["video_id"] == video["id"] for track in content["annotations"])
    for track in content["annotations"]:
        for box, area, runs in zip(track["bboxes"], track["areas"], track["segmentations"], strict=True):
            assert (box is None) == (area is None) == (runs is None)
            if box is not None:
                assert coco_mask.toBbox(runs).tolist() == box and coco_mask.area(runs) == area


def test_a_track_moves_and_never_jumps():
    """Within a track the center moves by less than a tenth of the picture per frame."""
    for seed in range(12):
        frames, tracks = draw_scene_clip(np.random.default_rng(seed), num_frames=40)
        assert frames.shape == (40, 96, 128, 3)
        for track in tracks:
            there = np.array([box is not None for box in track["bboxes"]])
            boxes = np.array([box for box in track["bboxes"] if box is not None], float)
            centers = boxes[:, :2] + boxes[:, 2:] / 2
            gaps = np.diff(np.flatnonzero(there))
            assert (np.abs(np.diff(centers, axis=0)).max(1, initial=0) < 13 * gaps).all()


def test_shapes_that_come_back_are_new_tracks():
    num_tracks = [len(draw_scene_clip(np.random.default_rng(seed), num_frames=120)[1]) for seed in range(4)]
    assert max(num_tracks) > 4  # no clip has more than four shapes


def test_place_and_size_are_continuous_within_a_track():
    num_tracks = 0
    for seed in range(60):
        phases, passes = _draw_path(np.random.default_rng(seed), (96, 128), num_frames=60)
        steps = np.abs(np.diff(phases[:, :3], axis=0)).max(1)
        assert (steps[np.diff(passes) == 0] < 0.06).all() and (steps[np.diff(passes) == 1] > 0.3).all()
        num_tracks += passes[-1]
    assert num_tracks > 20


def test_odd_sizes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="size is 85; the shorter side must be an even number"):
        make_scene_clips(tmp_path / "set", size=85)
