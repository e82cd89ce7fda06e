"""Objects keep their numbers while they move, and get new ones when they are new."""

import json

import torch

from datasets.synthetic.scene_clips import make_scene_clips
from dense.tracking import Tracker


def square(x: float, y: float = 0.0) -> list[float]:
    return [x, y, x + 10, y + 10]


def test_objects_that_cross_keep_their_numbers_within_their_class():
    tracker, labels = Tracker(), torch.tensor([0, 1])
    for step in range(20):
        boxes = torch.tensor([square(2.0 * step), square(40 - 2.0 * step)])
        order = [0, 1] if step % 2 == 0 else [1, 0]  # the order in which a detector returns them changes
        assert tracker(boxes[order], labels[order]) == order


def test_a_track_survives_misses_and_then_ends():
    tracker, label, nothing = Tracker(max_missed=2), torch.tensor([0]), (torch.zeros(0, 4), torch.zeros(0))
    assert tracker(torch.tensor([square(0)]), label) == [0]
    assert [tracker(*nothing) for _ in range(2)] == [[], []]
    assert tracker(torch.tensor([square(3)]), label) == [0]
    assert [tracker(*nothing) for _ in range(3)] == [[], [], []]
    assert tracker(torch.tensor([square(3)]), label) == [1]


def test_the_largest_overlap_wins_and_small_ones_are_none():
    tracker, labels = Tracker(iou_threshold=0.3), torch.tensor([0, 0])
    assert tracker(torch.tensor([square(0), square(20)]), labels) == [0, 1]
    assert tracker(torch.tensor([square(4), square(1)]), labels) == [2, 0]
    assert tracker(torch.tensor([square(1)]), torch.tensor([1])) == [3]  # another class


def test_true_boxes_of_moving_shapes_keep_the_tracks_of_the_set(tmp_path):
    """Every track of the made clips has one number from its first frame to its last, and no two share one."""
    folder = make_scene_clips(tmp_path / "clips", num_train=1, num_val=4, num_frames=16, size=96)
    content = json.loads((folder / "tracks_val.json").read_text())
    num_tracks = num_kept = 0
    for video in content["videos"]:
        tracks = [one for one in content["annotations"] if one["video_id"] == video["id"] and not one["iscrowd"]]
        tracker, numbers = Tracker(), {one["id"]: set() for one in tracks}
        for frame in range(video["length"]):
            seen = [one for one in tracks if one["bboxes"][frame] is not None]
            boxes = torch.tensor([one["bboxes"][frame] for one in seen]).reshape(-1, 4).float()
            boxes[:, 2:] += boxes[:, :2]
            found = tracker(boxes, torch.tensor([one["category_id"] for one in seen]))
            assert len(set(found)) == len(found)
            for one, number in zip(seen, found, strict=True):
                numbers[one["id"]].add(number)
        num_tracks += len(tracks)
        num_kept += sum(len(own) <= 1 for own in numbers.values())
    assert num_tracks >= 8 and num_kept >= 0.8 * num_tracks, (num_kept, num_tracks)
