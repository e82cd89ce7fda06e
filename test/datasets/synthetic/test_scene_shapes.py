"""The synthetic scenes: json, masks, boxes and label maps tell the same of every picture."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.dense.segmentation import decode_segmentation
from datasets.synthetic import scene_shapes
from datasets.synthetic.drawing import SHAPES
from datasets.synthetic.scene_shapes import draw_scene_picture, make_scene_shapes

SMALL = {"num_train": 60, "num_val": 8, "seed": 4, "size": 60}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_scene_shapes(tmp_path_factory.mktemp("demo") / "scene_shapes", **SMALL)


def read(folder, split):
    content = json.loads((folder / f"instances_{split}.json").read_text())
    objects = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        objects[annotation["image_id"]].append(annotation)
    return content, objects


def label_map_of(folder, split, image):
    return np.asarray(Image.open(folder / "labels" / split / f"{Path(image['file_name']).stem}.png"))


def test_boxes_areas_and_label_maps_follow_from_the_masks(folder):
    content, objects = read(folder, "train")
    for image in content["images"]:
        labels = label_map_of(folder, "train", image)
        assert labels.shape == (image["height"], image["width"]) and labels.dtype == np.uint8
        covered = np.zeros(labels.shape, int)
        for entry in objects[image["id"]]:
            mask = decode_segmentation(entry["segmentation"], labels.shape).astype(bool)
            rows, columns = np.where(mask)
            x, y, width, height = entry["bbox"]
            assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x, y, x + width, y + height)
            assert entry["area"] == mask.sum() >= 24
            covered += mask
            expected = {255} if entry["iscrowd"] else {entry["category_id"], 255}
            assert set(np.unique(labels[mask])) <= expected
            assert entry["iscrowd"] or (labels[mask] == entry["category_id"]).mean() > 0.25
        assert covered.max(initial=0) <= 1
        assert set(np.unique(labels[covered == 0])) <= {0, 255}


def test_there_are_crowds_empty_pictures_portraits_and_both_formats(folder):
    content, objects = read(folder, "train")
    assert content["categories"] == [
        {"id": number, "name": kind, "supercategory": "shape"} for number, kind in enumerate(SHAPES, 1)
    ]
    assert len({entry["id"] for entry in content["annotations"]}) == len(content["annotations"])
    num_objects = [len(entries) for entries in objects.values()]
    assert min(num_objects) == 0 and max(num_objects) >= 4
    assert any(entry["iscrowd"] for entry in content["annotations"])
    assert {(image["height"], image["width"]) for image in content["images"]} == {(60, 80), (80, 60)}
    assert {Path(image["file_name"]).suffix for image in content["images"]} == {".jpg", ".png"}
    for image in content["images"]:
        with Image.open(folder / "images" / "train" / image["file_name"]) as file:
            assert file.size == (image["width"], image["height"]) and file.mode == "RGB"


def test_list_files_and_classes(folder):
    for split, number in (("train", 60), ("val", 8)):
        pairs = [line.split("\t") for line in (folder / f"{split}.txt").read_text().splitlines()]
        assert len(pairs) == number and all((folder / path).is_file() for pair in pairs for path in pair)
        assert all(Path(image).stem == Path(labels).stem for image, labels in pairs)
    assert (folder / "mapping_table.txt").read_text().splitlines()[:2] == ["0\tground", "1\tdisc"]


def test_a_picture_is_a_function_of_its_generator():
    first, again, other = (draw_scene_picture(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first[0].shape == (96, 128, 3) and np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1]) and first[2] == again[2]
    assert not np.array_equal(first[0], other[0])


def test_a_complete_set_is_reused_and_other_arguments_are_refused(folder, monkeypatch):
    monkeypatch.setattr(scene_shapes, "_make_split", None)
    assert make_scene_shapes(folder, **SMALL) == folder
    with pytest.raises(FileExistsError, match=r"was made with .*'seed': 4.*, not with .*'seed': 5"):
        make_scene_shapes(folder, **{**SMALL, "seed": 5})
