"""The demo set: its class is the motion and nothing else, and its folder is complete or does not exist."""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

from datasets.synthetic import drawing, motion_shapes
from datasets.synthetic.drawing import SHAPES
from datasets.synthetic.motion_shapes import MOTIONS, draw_clip, draw_phases, make_motion_shapes, save_sheet

SMALL = {"num_train": 9, "num_val": 5, "seed": 1, "size": 32, "num_frames": 10}
OPPOSITES = {"left": "right", "up": "down", "grow": "shrink", "turn_clockwise": "turn_counterclockwise"}


def rng(*seed):
    return np.random.default_rng(seed)


def decode(path):
    with av.open(path) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_motion_shapes(tmp_path_factory.mktemp("demo") / "motion_shapes", **SMALL)


# The drawing.


def test_a_clip_is_a_function_of_motion_and_random_state():
    clip = draw_clip("left", rng(1), size=(40, 52), num_frames=7)
    assert (clip.shape, clip.dtype) == ((7, 40, 52, 3), np.uint8)
    assert np.array_equal(clip, draw_clip("left", rng(1), size=(40, 52), num_frames=7))
    assert not np.array_equal(clip, draw_clip("left", rng(2), size=(40, 52), num_frames=7))


def test_eight_motions_pass_through_one_and_the_same_frame():
    clips = [draw_clip(motion, rng(3), num_frames=9) for motion in MOTIONS]
    assert all(np.array_equal(clip[4], clips[0][4]) for clip in clips)
    assert len({clip[5].tobytes() for clip in clips}) == len(MOTIONS)


@pytest.mark.parametrize("motion, opposite", OPPOSITES.items())
def test_a_motion_reversed_in_time_is_its_opposite(motion, opposite):
    for seed in range(20):
        forth, back = draw_phases(motion, 40, rng(seed)), draw_phases(opposite, 40, rng(seed))
        apart = np.abs(forth - back[::-1])
        assert np.minimum(apart, 1 - apart).max() < 1e-12


@pytest.mark.parametrize("time", [0, 13, 39])
@pytest.mark.parametrize("motion", MOTIONS)
def test_position_size_and_turn_of_a_frame_do_not_depend_on_the_class(motion, time):
    axis, sign = MOTIONS[motion]
    phases = np.stack([draw_phases(motion, 40, rng(axis, sign + 1, seed))[time] for seed in range(1000)])  # [N, 4]
    shares = np.arange(1, len(phases) + 1)[:, None] / len(phases)
    # Kolmogorov-Smirnov: 2.3 / sqrt(N) is exceeded once in 20,000 comparisons; here are 96.
    assert np.abs(np.sort(phases, axis=0) - shares).max() < 2.3 / np.sqrt(len(phases))
    # Nor are pairs of phases correlated, or one would tell what the other does.
    assert np.abs(np.corrcoef(np.cos(2 * np.pi * phases).T) - np.eye(4)).max() < 4 / np.sqrt(len(phases))


@pytest.mark.parametrize("turn, where", [(0.0, "right"), (0.25, "bottom"), (0.5, "left"), (0.75, "top")])
def test_a_growing_turn_goes_clockwise_for_every_shape(turn, where):
    quarters = {"right": np.s_[20, 21:], "bottom": np.s_[21:, 20], "left": np.s_[20, :20], "top": np.s_[:20, 20]}
    colors = np.float32([[200, 0, 0], [0, 200, 0]])
    for kind in drawing.SHAPES:
        canvas = np.zeros((3, 1, 41, 41), np.float32)
        drawing.draw_shape(canvas, kind, np.array([[20 / 41, 20 / 41, 1.0, turn]]), colors)
        green = {name: canvas[1, 0][quarter].sum() for name, quarter in quarters.items()}
        assert max(green, key=green.get) == where, kind
        assert canvas.max() == pytest.approx(200)


def test_shapes_wrap_around_the_frame():
    colors = np.float32([[200, 0, 0], [0, 200, 0]])
    phases = np.array([[0.25, 0.25, 0.7, 0.1]])
    for kind in drawing.SHAPES:
        inside, crossing = np.zeros((2, 3, 1, 40, 60), np.float32)
        drawing.draw_shape(inside, kind, phases, colors)
        drawing.draw_shape(crossing, kind, np.add(phases, [0.75, 0.75, 0, 0]), colors)  # in the corner
        np.testing.assert_allclose(np.roll(inside, (30, 45), (2, 3)), crossing, atol=1e-2)


def test_unknown_motion():
    with pytest.raises(ValueError, match=r"unknown motion 'sideways' \(choices: left, right, up, down, grow"):
        draw_clip("sideways", rng(0))


# The folder.


def test_folder_and_lists(folder):
    assert (folder / "mapping_table.txt").read_text().splitlines() == [f"{i}\t{name}" for i, name in enumerate(MOTIONS)]
    for split in ("train", "val"):
        rows = [line.split("\t") for line in (folder / f"{split}.txt").read_text().splitlines()]
        assert len({id_ for id_, _, _ in rows}) == len(rows) == SMALL[f"num_{split}"]
        assert {path for _, _, path in rows} == {str(p.relative_to(folder)) for p in folder.glob(f"{split}/*/*.mp4")}
        counts = Counter(int(label) for _, label, _ in rows)
        assert max(counts.values()) - min(counts[label] for label in range(8)) <= 1
        assert all(path.split("/")[1] == list(MOTIONS)[int(label)] for _, label, path in rows)


def test_every_video_decodes(folder):
    clips = [decode(path) for path in sorted(folder.glob("*/*/*.mp4"))]
    assert len(clips) == 14
    assert {min(clip.shape[1:3]) for clip in clips} == {32}
    assert {max(clip.shape[1:3]) for clip in clips} == {32, 42}
    assert all(8 <= len(clip) <= 12 for clip in clips)
    assert all(clip.std() > 10 for clip in clips)


def test_codec_and_frame_rate_vary(folder):
    found = set()
    for path in folder.glob("*/*/*.mp4"):
        with av.open(path) as container:
            stream = container.streams.video[0]
            found.add((stream.codec_context.name, stream.average_rate))
    assert {codec for codec, _ in found} == {"h264", "mpeg4", "vp9"}
    assert {rate for _, rate in found} <= set(motion_shapes.FRAME_RATES) and len({rate for _, rate in found}) > 1


def test_a_complete_set_is_reused(folder, monkeypatch):
    monkeypatch.setattr(motion_shapes, "_make_video", None)
    assert make_motion_shapes(folder, **SMALL) == folder


def test_the_same_arguments_make_the_same_frames(folder, tmp_path):
    again = make_motion_shapes(tmp_path / "again", **SMALL)
    for path in folder.glob("val/*/*.mp4"):
        assert np.array_equal(decode(path), decode(again / path.relative_to(folder)))
    other = make_motion_shapes(tmp_path / "other", **{**SMALL, "seed": 2})
    path = "val/up/up_0002.mp4"
    assert decode(folder / path).tobytes() != decode(other / path).tobytes()


def test_other_arguments_are_refused(folder):
    with pytest.raises(FileExistsError, match=r"was made with .*'num_train': 9.*, not with .*'num_train': 10"):
        make_motion_shapes(folder, **{**SMALL, "num_train": 10})


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="holds other files, not the synthetic set; choose another folder"):
        make_motion_shapes(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_interrupted_start_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(path, *_):
        if path.name.endswith("_0003.mp4"):
            raise KeyboardInterrupt
        path.touch()

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(motion_shapes, "_make_video", interrupt)
        make_motion_shapes(tmp_path / "set", **SMALL)
    assert not list(tmp_path.iterdir())
    assert json.loads((make_motion_shapes(tmp_path / "set", **SMALL) / "complete.json").read_text())["num_val"] == 5


def test_two_starts_at_once(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        ways = list(pool.map(lambda _: make_motion_shapes(tmp_path / "set", **SMALL), range(2)))
    assert ways == [tmp_path / "set"] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert all(len(decode(path)) >= 8 for path in tmp_path.glob("set/*/*/*.mp4"))


def test_odd_sizes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="size is 85; the shorter side must be an even number"):
        make_motion_shapes(tmp_path / "set", size=85)


def test_the_overview_shows_every_motion(tmp_path):
    save_sheet(tmp_path / "sheet.png", num_columns=2)
    assert (tmp_path / "sheet.png").stat().st_size > 10_000


def test_with_shapes_as_classes_the_motion_is_random(tmp_path, monkeypatch):
    drawn = []

    def draw(motion, rng, size, num_frames, kind):
        drawn.append((motion, kind))
        return draw_clip(motion, rng, size, num_frames, kind)

    monkeypatch.setattr(motion_shapes, "draw_clip", draw)
    folder = make_motion_shapes(tmp_path / "set", num_train=12, num_val=6, size=32, num_frames=4, label="shape")
    names = [line.split("\t")[1] for line in (folder / "mapping_table.txt").read_text().splitlines()]
    assert names == list(SHAPES)
    rows = [line.split("\t") for line in (folder / "train.txt").read_text().splitlines()]
    assert [int(row[1]) for row in rows] == [index % 6 for index in range(12)]
    assert all(Path(row[2]).parts[1] == names[int(row[1])] and (folder / row[2]).is_file() for row in rows)
    assert sorted(kind for _, kind in drawn) == sorted(names * 3) and len({motion for motion, _ in drawn}) > 3


@pytest.mark.parametrize("label", ["motion", "shape"])
def test_masks_are_where_the_shapes_are(tmp_path, monkeypatch, label):
    made = {"num_train": 1, "num_val": 8, "size": 64, "num_frames": 6, "seed": 3, "label": label}
    folder = make_motion_shapes(tmp_path / "set", **made)
    rows = [line.split("\t") for line in (folder / "val.txt").read_text().splitlines()]
    monkeypatch.setattr(motion_shapes, "draw_shape", lambda *_, **__: None)
    for index, (_, _, path) in enumerate(rows):
        mask = motion_shapes.mask_of_video(folder, "val", index)
        plan = motion_shapes._plan_video(3, "val", index, 64, 6, label)
        background = draw_clip(plan.motion, plan.rng, plan.size, plan.num_frames, plan.kind).astype(int)
        changed = np.abs(decode(folder / path) - background).max(3)
        assert mask.shape == changed.shape
        assert changed[mask == 0].mean() < 15 and changed[mask == 1].mean() > 60
