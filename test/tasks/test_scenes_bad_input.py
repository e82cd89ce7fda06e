"""What goes wrong in recipes and data of detection and segmentation: one message, with the setting and the cure."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scene_recipes import detection_recipe, make_scenes, make_task, segmentation_recipe

from models import WeightsError, create_model
from settings import SettingsError, UserError, write_yaml
from tools import evaluate, train


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("scenes") / "set")


@pytest.fixture
def damaged(scenes, tmp_path) -> Path:
    """A copy of the set that tests may damage."""
    return shutil.copytree(scenes, tmp_path / "damaged")


def edit(folder: Path, split: str, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / f"instances_{split}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def with_annotations(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: [one.update(values) for one in content["annotations"]]


@pytest.mark.parametrize(
    ("split", "change", "message"),
    [
        ("train", lambda content: content.pop("images"), r"data\.train: .*has no images, but \['annotations', 'cat"),
        ("val", lambda content: content.pop("images"), r"data\.val: .*instances_val\.json: has no images"),
        (
            "val",
            lambda content: content["categories"][0].update(name="hexagon"),
            r"data\.val: .*: category 'hexagon' \(id 1\) is not one of the 6 classes of the model",
        ),
        ("train", with_annotations(segmentation=[[1, 2, 3]]), r"data\.train: .*annotation 1: a polygon has 3 numbers"),
        (
            "train",
            with_annotations(segmentation={"size": [5, 5], "counts": [25]}),
            r"data\.train: .*annotation 1: its run lengths are of size 5 x 5, but its image of (48 x 64|64 x 48);",
        ),
        ("train", with_annotations(segmentation=None), r"data\.train: .*no segmentation.*mask_convs=null"),
        ("train", lambda content: content.update(annotations=[]), r"data\.train: .*none of its 6 images has an object"),
        ("train", with_annotations(bbox=[500, 500, 4, 4]), r"data\.train: .*none of its 6 images has an object"),
        ("val", lambda content: content.update(annotations=[]), r"data\.val: none of the 5 images of .* has an object"),
        ("val", lambda content: content.update(images=[], annotations=[]), r"data\.val: .* lists no images"),
    ],
)
def test_faults_of_a_coco_file_are_told_with_the_setting(split, change, message, damaged):
    edit(damaged, split, change)
    with pytest.raises(SettingsError, match=message):
        make_task(detection_recipe(damaged)).check()


def test_boxes_outside_some_pictures_are_left_out_with_a_warning(damaged, caplog):
    edit(damaged, "train", lambda content: content["annotations"][0].update(bbox=[500, 500, 4, 4]))
    task = make_task(detection_recipe(damaged))
    task.check()
    assert (
        "boxes left out of training, because they are degenerate or outside their image: 1, for example that of a"
        in (caplog.text)
    )
    assert sum(len(task.train_items.objects(row).boxes) for row in range(6)) == task.train_items.class_counts().sum()


def in_label_map(value: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        values = np.array(Image.open(path))
        values[0, 0] = value
        Image.fromarray(values).save(path)

    return change


def smaller(path: Path) -> None:
    Image.fromarray(np.zeros((5, 7), np.uint8)).save(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (in_label_map(77), "has label 77 in 1 pixels; expected 0 to 6 for 7 classes, or 255 for ignored"),
        (smaller, "is 7 x 5, but its image "),
    ],
)
def test_one_bad_label_map_is_reported_and_many_stop_the_run(change, reason, damaged):
    paths = sorted((damaged / "labels/train").iterdir())
    change(paths[2])
    task = make_task(segmentation_recipe(damaged))
    task.check()
    failures = [failure for batch in task.train_batches(0, 2, 3, "train") for failure in batch["failures"]]
    assert [(failure["path"], failure["reason"][: len(reason)]) for failure in failures] == [(str(paths[2]), reason)]
    for path in {*paths} - {paths[2]}:
        change(path)
    with pytest.raises(
        SettingsError, match=rf"data\.train: 6 of 6 label maps cannot be used, .*{reason}.*data\.class_"
    ):
        make_task(segmentation_recipe(damaged)).check()


def test_classes_that_cannot_be_learned_are_named(damaged, caplog):
    for path in (damaged / "labels/train").iterdir():  # masks of 0 and 255
        Image.fromarray(np.where(np.array(Image.open(path)) > 0, 255, 0).astype(np.uint8)).save(path)
    make_task(segmentation_recipe(damaged)).check()
    assert "data.train: in 6 label maps all pixels are ground, or 255, which is ignored" in caplog.text

    def relabel(content):
        for one in content["annotations"]:
            one["category_id"] = content["categories"][1]["id"]

    names = json.loads((damaged / "instances_train.json").read_text())["categories"]
    edit(damaged, "train", relabel)
    make_task(detection_recipe(damaged)).check()
    assert f"no training object of 5 of 6 classes: {names[0]['name']}, {names[2]['name']}" in caplog.text


def test_a_table_of_pixels_counts_from_zero(damaged):
    table = damaged / "mapping_table.txt"
    names = [line.split("\t")[1] for line in table.read_text().splitlines()]
    table.write_text("".join(f"{number}\t{name}\n" for number, name in enumerate(names, 1)))
    with pytest.raises(SettingsError, match=r"its labels are 1 to 7, but label maps count from 0; add a line"):
        make_task(segmentation_recipe(damaged), data__class_names=str(table)).check()


def test_label_maps_without_a_class_are_refused(damaged):
    for path in (damaged / "labels/val").iterdir():
        Image.fromarray(np.full(np.array(Image.open(path)).shape, 255, np.uint8)).save(path)
    with pytest.raises(SettingsError, match=r"data\.val: no pixel has a class in any of 5 label maps; all are 255"):
        make_task(segmentation_recipe(damaged)).check()


def test_a_bad_label_map_in_validation_lowers_the_coverage(damaged):
    path = sorted((damaged / "labels/val").iterdir())[1]
    in_label_map(77)(path)
    task = make_task(segmentation_recipe(damaged))
    task.check()
    evaluation = task.evaluate(task.build_model().eval())
    assert [(failure["path"], failure["index"]) for failure in evaluation.failures] == [(str(path), 1)]
    assert evaluation.summary()["coverage"] == 0.8


BOTH = {"detection": detection_recipe, "segmentation": segmentation_recipe}


@pytest.mark.parametrize("name", BOTH)
def test_a_missing_image_counts_as_unreadable(name, damaged, caplog):
    task = make_task(BOTH[name](damaged), train__max_unreadable=0.25)
    gone = [next(iter(items)).path for items in (task.train_items, task.val_items)]
    for path in gone:
        Path(path).unlink()
    task.check()
    for split, path, count in zip(("train", "val"), gone, (6, 5), strict=True):
        said = f"data.{split}: 1 of the files for {count} images do not exist, such as {path}; they count as unreadable"
        assert said in caplog.text
    samples = task.train_samples("train")
    failures = [failure["path"] for number in range(len(samples)) for failure in samples[number]["failures"]]
    assert set(failures) == {gone[0]}
    assert [failure["path"] for failure in task.evaluate(task.build_model().eval()).failures] == [gone[1]]
    message = r"is data\.root right\? If so, leave them out of the list, or set train\.max_unreadable above 0\.05$"
    with pytest.raises(SettingsError, match=message):
        make_task(BOTH[name](damaged)).check()


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model__backbone": "hornet_debug_77"},
            r"model: no model is called 'hornet_debug_77'; did you mean 'hornet_deb",
        ),
        ({"model__backbone": "timm/resnet5"}, r"model: timm .* has no network 'resnet5'; did you mean 'resnet50'"),
        ({"model__backbone": "glore_resnet_debug_3d"}, r"model: glore_resnet_debug_3d is .*for clips"),
        ({"model__head": "upernett_rcnn"}, r"model: no (detection|segmentation) head is called 'upernett_rcnn'"),
        ({"model__options": {"drop_pat": 0.1}}, r"model: no option of hornet_debug_7x7 .* did you mean 'drop_path'"),
        (
            {"model__options": {"weights": "a.pth"}},
            r"weights is not an option of the backbone's .*; set model\.pretrained",
        ),
        (
            {"model__options": {"channels": 3}},
            r"channels is not an option of the backbone's .*; set model\.head_options",
        ),
        (
            {"model__head_options": {"chanels": 3}},
            r"model: no option of .* is called 'chanels'; did you mean 'channels'",
        ),
        ({"model__head_options": {"norm": "layer"}}, r"model: norm is 'layer'; expected one of batch, group, frozen"),
        (
            {"model__head_options": {"channels": -3}},
            r"^model: channels is -3; it must be a whole number of at least 1$",
        ),
        ({"model__num_classes": 4}, r"model\.num_classes is 4, but the data have [67] classes; leave it out, or"),
        ({"data__trian": "x"}, r"data\.trian: unknown setting; did you mean 'train'"),
        ({"data__train": "gone"}, r"data\.train: no (file of annotations|list or folder of images) at gone"),
        ({"data__root": "gone"}, r"data\.train: no root folder of the images at gone"),
        ({"data__val_root": "gone"}, r"data\.val: no root folder of the images at gone"),
        ({"data__class_names": []}, r"data\.class_names: the names: no class names; give at least one"),
        ({"data__class_names": ["a", "b", "a"]}, r"data\.class_names: the names: labels 0 and 2 both have .* name 'a'"),
        ({"data__val": 1.0}, r"\n  data\.val: input should be less than 1, got 1\.0"),
        ({"data__class_names": "gone.txt"}, r"data\.class_names: .*gone\.txt"),
    ],
)
def test_wrong_settings_are_explained(name, changes, message, scenes):
    with pytest.raises(SettingsError, match=message):
        make_task(BOTH[name](scenes), **changes).check()


def test_wrong_folders_are_explained(scenes, tmp_path):
    message = r"data\.train: 6 of the files for 6 images do not exist, such as .*scene_0000\..*; is data\.root right"
    with pytest.raises(SettingsError, match=message):
        make_task(detection_recipe(scenes), data__root=str(tmp_path)).check()
    with pytest.raises(SettingsError, match=r"data\.val: 5 of the files .*; is data\.val_root right"):
        make_task(detection_recipe(scenes), data__val_root=str(tmp_path)).check()
    with pytest.raises(SettingsError, match=r"data\.val: .* is a folder of images; set data\.val_labels to"):
        make_task(segmentation_recipe(scenes), data__val=str(scenes / "images/val")).check()
    with pytest.raises(SettingsError, match=r"data\.train: 12 of the files for 6 images do not exist"):
        make_task(segmentation_recipe(scenes), data__root=str(tmp_path)).check()


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        (
            segmentation_recipe,
            {"data__train_view": {"crop": [64, 31]}},
            r"data\.train_view: crop is \(64, 31\); no back",
        ),
        (
            segmentation_recipe,
            {"evaluation__slide": {"crop": [31, 64], "stride": [16, 16]}},
            r"evaluation\.slide: crop is \(31, 64\); no backbone takes less than 32",
        ),
        (
            segmentation_recipe,
            {"evaluation__slide": {"crop": [32, 64], "stride": [33, 16]}},
            r"evaluation\.slide: stride is \(33, 16\); it must be from 1 to the sides of crop, \(32, 64\)",
        ),
        (
            segmentation_recipe,
            {"model__head_options": {"channels": 16}, "train__batch_size": 1},
            r"data\.train_view\.crop, train\.batch_size=1: .* Expected more than 1 value per channel when training",
        ),
        (
            segmentation_recipe,
            {"data__class_names": None},
            r"data\.train: .*how many classes are there\? Set class_nam",
        ),
        (
            segmentation_recipe,
            {"data__class_names": None, "model__num_classes": 4},
            r"data\.train: . of 6 label maps cannot be used, such as .* has label .*; expected 0 to 3 for 4 classes",
        ),
        (
            segmentation_recipe,
            {"data__train": "instances_train.json"},
            r"data\.train: .*expected `image label_map`, separated by",
        ),
        (
            segmentation_recipe,
            {"data__labels": "labels"},
            r"data\.train: .* is a list, which names the label maps; leave",
        ),
        (detection_recipe, {"model__neck": "fpm"}, r"model: no neck is called 'fpm'; did you mean 'fpn'"),
        (detection_recipe, {"data__val_view": {"flip": True}}, r"data\.val_view: a detector sees each image once"),
        (detection_recipe, {"data__train": "train.txt"}, r"data\.train: .*train\.txt is not valid JSON"),
        (detection_recipe, {"data__class_names": ["disk"]}, r"data\.train: .*is not one of the 1 classes of the model"),
    ],
)
def test_wrong_settings_of_one_task_are_explained(recipe, changes, message, scenes):
    if "data__train" in changes:
        changes = {"data__train": str(scenes / changes["data__train"])}
    with pytest.raises(SettingsError, match=message):
        make_task(recipe(scenes), **changes).check()


def test_an_empty_validation_list_is_an_error(damaged):
    (damaged / "val.txt").write_text("")
    with pytest.raises(SettingsError, match=r"data\.val: .*val\.txt is empty"):
        make_task(segmentation_recipe(damaged)).check()


@pytest.mark.parametrize("name", BOTH)
def test_images_smaller_than_the_deepest_stride_are_padded(name, damaged):
    """No backbone takes fewer than 32 pixels a side."""
    task = make_task(BOTH[name](damaged), data__val_view={"short_side": 9})
    evaluation = task.evaluate(task.build_model().eval())
    assert evaluation.summary()["images_read"] == 5 and evaluation.summary()["images_non_finite"] == 0


@pytest.fixture(scope="module")
def files(scenes, tmp_path_factory) -> dict[str, Path]:
    """Weights of a detector, a segmentor and a classifier, of the same backbone."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    models = {name: make_task(recipe(scenes)).build_model() for name, recipe in BOTH.items()}
    models["classifier"] = create_model("hornet_debug_7x7", num_classes=5)
    for name, model in models.items():
        torch.save({"state_dict": model.state_dict()}, folder / f"{name}.pth")
    return {name: folder / f"{name}.pth" for name in models}


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        ("segmentation", "detection", "the file is for a Mask R-CNN, but the model is a segmentor"),
        ("detection", "segmentation", "the file is for a segmentor, but the model is a Mask R-CNN"),
        ("detection", "gone", "there is no such file"),
    ],
)
def test_weights_of_another_kind_are_refused(name, file, message, scenes, files, tmp_path):
    path = files.get(file, tmp_path / "gone.pth")
    task = make_task(BOTH[name](scenes), model__pretrained=str(path))
    with pytest.raises(WeightsError, match=rf"model\.pretrained: .*{path.name}: .*{message}"):
        task.load_initial_weights(task.build_model())
    (tmp_path / "recipe.yaml").write_text(write_yaml(BOTH[name](scenes)))
    if path.exists():
        with pytest.raises(UserError, match=message):
            evaluate.main(["-c", str(tmp_path / "recipe.yaml"), "--checkpoint", str(path)])


@pytest.mark.parametrize("name", BOTH)
def test_a_classifiers_file_starts_a_backbone_and_is_no_trained_network(name, scenes, files, tmp_path):
    task = make_task(BOTH[name](scenes), model__pretrained=str(files["classifier"]))
    model = task.build_model()
    task.load_initial_weights(model)
    stem = "downsample_layers.0.0.weight"
    expected = torch.load(files["classifier"], weights_only=True)["state_dict"][stem]
    assert torch.equal(model.backbone.state_dict()[stem], expected)
    (tmp_path / "recipe.yaml").write_text(write_yaml(BOTH[name](scenes)))
    with pytest.raises(WeightsError, match=r"the file contains a backbone or a classifier, without a .*; start the "):
        evaluate.main(["-c", str(tmp_path / "recipe.yaml"), "--checkpoint", str(files["classifier"])])


@pytest.mark.slow
def test_a_run_does_not_resume_on_other_annotations(damaged, tmp_path):
    (tmp_path / "recipe.yaml").write_text(write_yaml(detection_recipe(damaged)))
    arguments = ["-c", str(tmp_path / "recipe.yaml"), f"run.dir={tmp_path / 'run'}"]
    train.main(arguments)
    edit(damaged, "train", lambda content: content["annotations"][0].update(bbox=[1, 1, 20, 20]))
    with pytest.raises(UserError, match="training images"):
        train.main(arguments)
