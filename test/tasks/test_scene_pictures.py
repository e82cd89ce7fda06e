"""What tools/show_data.py shows of detection and segmentation: the samples of the run, with what is in them drawn."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scene_recipes import RECIPES, make_scenes, make_task

from datasets.dense.drawing import class_color, draw_scene
from engine.distributed import Ranks
from settings import write_yaml
from tasks.scene_pictures import MIN_SIDE, as_seen, classes_in, pixel_counts
from tools import show_data


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("scenes") / "set")


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_the_tool_shows_and_counts(name, scenes, tmp_path):
    (tmp_path / "recipe.yaml").write_text(write_yaml(RECIPES[name](scenes)))
    show_data.main([str(tmp_path / "recipe.yaml"), "--count", "3", "--output", str(tmp_path / "pictures")])
    sizes = {path.name: Image.open(path).size for path in (tmp_path / "pictures").iterdir()}
    assert sizes.keys() == {"train.png", "train.gif", "val.png", "classes.png"}
    assert sizes["train.png"][1] > 3 * 256 and Image.open(tmp_path / "pictures/train.gif").n_frames == 2


@pytest.mark.parametrize("name", RECIPES)
def test_samples_are_those_of_the_run_with_their_labels_drawn(name, scenes):
    task = make_task(RECIPES[name](scenes))
    pictures, (batch,) = task.training_pictures(2), task.train_batches(0, 1, 3, "train")
    assert len(pictures) == 2
    for row, picture in enumerate(pictures):
        image = batch["images"][row]
        known = {"label_map": batch["label_maps"][row]} if name == "segmentation" else {
            key: batch[key][row] for key in ("boxes", "labels", "masks", "ignored")
        }  # fmt: skip
        expected = draw_scene(image, **known, class_names=task.class_names, min_short_side=MIN_SIDE)
        assert torch.equal(picture.stages["network input"][0], expected.movedim(0, 2))
        assert torch.equal(as_seen(task, image), image)  # normalized and back
        index = int(batch["index"][row])
        assert picture.lines[0] == Path(task.train_items[index].path).name
        in_file = task.train_samples("train").as_in_file(index)
        assert picture.lines[1] == [(task.class_names[label], class_color(label)) for label in classes_in(in_file)]


def test_validation_shows_views_and_skips_what_cannot_be_read(scenes, tmp_path, caplog):
    view = {"short_side": 45, "scales": [1.0, 0.8], "flip": True}
    task = make_task(RECIPES["segmentation"](scenes), data__val_view=view)
    pictures = task.validation_pictures(9)
    assert len(pictures) == 5 and list(pictures[0].stages) == ["in the file", *(f"view {n} of 4" for n in (1, 2, 3, 4))]
    first, mirrored = (pictures[0].stages[f"view {n} of 4"] for n in (1, 2))
    assert torch.equal(first.flip(2), mirrored)
    lines = (scenes / "val.txt").read_text().splitlines(True)
    (tmp_path / "val.txt").write_text("".join(lines[:2]))
    (tmp_path / "images/val").mkdir(parents=True)
    broken = make_task(RECIPES["segmentation"](scenes), data__val=str(tmp_path / "val.txt"))
    (picture,) = broken.validation_pictures(3)
    assert picture.lines == ["no file can be read"] and "cannot read" in caplog.text


def test_objects_and_pixels_are_counted_by_class(scenes):
    names, counts = make_task(RECIPES["detection"](scenes)).sample_counts()
    assert names == ("disc", "ring", "square", "triangle", "cross", "star")
    files = [json.loads((scenes / f"instances_{split}.json").read_text()) for split in ("train", "val")]
    listed = [sum(not one["iscrowd"] for one in file["annotations"]) for file in files]
    assert [counts["training"].sum(), counts["validation"].sum()] == listed and min(listed) > 10
    task = make_task(RECIPES["segmentation"](scenes))
    expected = np.zeros(7, int)
    for path in (scenes / "labels/val").iterdir():
        for label in np.array(Image.open(path)).flat:
            if label != 255:
                expected[label] += 1
    assert (
        pixel_counts(task.val_items, 7).tolist() == expected.tolist() == task.sample_counts()[1]["validation"].tolist()
    )


@pytest.mark.parametrize("kind", RECIPES)
def test_predictions_are_drawn_of_what_can_be_read(kind, scenes, tmp_path):
    folder = shutil.copytree(scenes, tmp_path / "set")
    (folder / "images/val").joinpath(sorted(path.name for path in (folder / "images/val").iterdir())[0]).unlink()
    labels = sorted((folder / "labels/val").iterdir())
    Image.new("L", (3, 3)).save(labels[1])
    task = make_task(RECIPES[kind](folder))
    pictures = task.prediction_pictures(task.build_model().eval(), 5)
    num_good = len(task.val_items) - (1 if kind == "detection" else 2)
    assert len(pictures) == min(5, num_good) and all(list(picture.stages) == ["known", "found"] for picture in pictures)


@pytest.mark.parametrize("num_ranks", [1, 2])
@pytest.mark.parametrize("kind", RECIPES)
def test_predictions_stand_beside_what_is_known(kind, num_ranks, scenes):
    """Also of several ranks, of which the first draws."""
    task = make_task(RECIPES[kind](scenes))
    task.ranks = Ranks(0, num_ranks, torch.device("cpu"))
    pictures = task.prediction_pictures(task.build_model().eval(), 5)
    assert len(pictures) == 5
    for picture in pictures:
        assert list(picture.stages) == ["known", "found"]
        known, found = picture.stages.values()
        assert known.shape == found.shape and known.dtype == found.dtype == torch.uint8
