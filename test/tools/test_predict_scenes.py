"""tools/predict.py --output: pictures, class maps, videos and JSON lines, failures among them, and wrong options."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scene_recipes import RECIPES, make_scenes
from simulated_runs import without_plots

from datasets.synthetic.scene_clips import make_scene_clips
from engine.checkpoint import CheckpointError
from settings import SettingsError, write_yaml
from tools import predict, train


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run of each task after two steps, pictures, and a clip of 6 frames."""
    folder = tmp_path_factory.mktemp("predictions")
    scenes = make_scenes(folder / "set")
    make_scene_clips(folder / "clips", num_train=1, num_val=1, size=48, num_frames=6)
    for name, recipe in RECIPES.items():
        (folder / f"{name}.yaml").write_text(write_yaml(recipe(scenes)))
        with without_plots():
            train.main(["-c", str(folder / f"{name}.yaml"), f"run.dir={folder / name}", "train.num_epochs=1"])
    return folder


def rows(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", RECIPES)
def test_images_a_damaged_one_among_them(name, folder, tmp_path, capsys):
    images = tmp_path / "images"
    images.mkdir()
    for number, path in enumerate(sorted((folder / "set/images/val").iterdir())[:3]):
        Image.open(path).convert("RGB").crop((0, 0, 61 - number, 47)).save(images / f"{number}.png")
    (images / "1.png").write_bytes((images / "1.png").read_bytes()[:100])
    arguments = ["--run-dir", str(folder / name), "--output", str(tmp_path / "out"), str(images)]
    with pytest.raises(SystemExit) as end:
        predict.main(arguments)
    assert end.value.code == 1 and "1.png" in capsys.readouterr().out
    kinds = ["", "_classes"] if name == "segmentation" else [""]
    expected = {f"{number}{kind}.png" for number in (0, 2) for kind in kinds} | {"predictions.jsonl"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == expected
    assert Image.open(tmp_path / "out/0.png").size == (61, 47)
    found = rows(tmp_path / "out")
    assert [bool(row.get("failure")) for row in found] == [False, True, False]
    if name == "segmentation":
        classes = np.array(Image.open(tmp_path / "out/0_classes.png"))
        assert classes.shape == (47, 61) and classes.max() < 7 and sum(found[0]["shares"].values()) == pytest.approx(1)
    else:
        assert found[0]["objects"] == [] or {"class", "score", "box", "mask"} == found[0]["objects"][0].keys()


@pytest.mark.parametrize(("name", "options"), [("segmentation", ["--smooth", "0.5"]), ("detection", ["--track"])])
def test_every_frame_of_a_video(name, options, folder, tmp_path):
    (video,) = sorted((folder / "clips/val").iterdir())
    arguments = ["--run-dir", str(folder / name), "--output", str(tmp_path), *options, str(video)]
    predict.main([*arguments, *(["evaluation.drawn_score=0"] if name == "detection" else [])])
    assert (tmp_path / f"{video.stem}.mp4").stat().st_size > 0
    found = rows(tmp_path)
    assert [row["frame"] for row in found] == list(range(6)) and found[1]["seconds"] > found[0]["seconds"] == 0
    if name == "detection":
        assert all("track" in one for row in found for one in row["objects"]) and any(row["objects"] for row in found)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("segmentation", ["--track"], "--track: a segmentor finds no objects to track"),
        ("detection", ["--smooth", "0.5"], "--smooth: boxes are not smoothed but tracked"),
        ("detection", [], None),
    ],
)
def test_options_that_the_task_does_not_have(name, options, message, folder, tmp_path):
    (video,) = sorted((folder / "clips/val").iterdir())
    arguments = ["--run-dir", str(folder / name), "--output", str(tmp_path), *options]
    if message is not None:
        with pytest.raises(SettingsError, match=message):
            predict.main([*arguments, str(video)])
        return
    with pytest.raises(SettingsError, match="--smooth and --track apply to videos, and none of the files is one"):
        predict.main([*arguments, "--track", str(folder / "set/images/val")])


def test_pictures_do_not_replace_inputs_nor_each_other(folder, tmp_path):
    inputs, (video,) = tmp_path / "in", (folder / "clips/val").iterdir()
    (inputs / "__MACOSX").mkdir(parents=True)
    picture = Image.fromarray(np.random.RandomState(0).randint(0, 255, (40, 50, 3), np.uint8))
    for name in ("0.png", "0_classes.png", "1.gif", "._0.png", "__MACOSX/0.png"):
        picture.save(inputs / name)
    (tmp_path / "other").mkdir()
    shutil.copy(video, tmp_path / "other/2.mp4")
    (inputs / "link").symlink_to(tmp_path / "other")
    arguments = ["--run-dir", str(folder / "segmentation"), str(inputs), "--output"]
    with pytest.raises(SettingsError, match=r"in holds the input .*; its pictures could be replaced; choose another"):
        predict.main([*arguments, str(inputs)])
    predict.main([*arguments, str(tmp_path / "out")])
    expected = {"0.png", "0_classes.png", "0_classes_2.png", "0_classes_2_classes.png", "1.mp4", "2.mp4"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == expected | {"predictions.jsonl"}
    assert np.array(Image.open(tmp_path / "out/0_classes.png")).shape == (40, 50)
    assert {Path(row["path"]).name for row in rows(tmp_path / "out")} == {"0.png", "0_classes.png", "1.gif", "2.mp4"}


@pytest.mark.parametrize("kind", ["png", "jsonl"])
def test_a_full_disk_is_one_error(kind, folder, tmp_path, monkeypatch):
    def no_space(*_, **__):
        raise OSError(28, "No space left on device")

    if kind == "png":
        monkeypatch.setattr(Image.Image, "save", no_space)
    else:
        (tmp_path / "predictions.jsonl").symlink_to("/dev/full")
    arguments = ["--run-dir", str(folder / "segmentation"), "--output", str(tmp_path)]
    with pytest.raises(CheckpointError, match=rf"cannot write .*\.{kind}: No space left on device"):
        predict.main([*arguments, str(folder / "set/images/val")])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--smooth", "0.5", "x.mp4"], "--smooth and --track apply to videos drawn by --output"),
        (["--output", "out", "--smooth", "1", "x.mp4"], "got --smooth 1; it must be from 0 to below 1"),
        (["--output", "out", "--csv", "a.csv", "x.png"], "--output writes its own files"),
    ],
)
def test_options_that_would_do_nothing(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        predict.main(arguments)
    assert end.value.code == 2 and message in capsys.readouterr().err
