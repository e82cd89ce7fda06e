"""Lists that choose and lists that test: files of each once, whole recordings, and messages for what does not fit."""

import json
import re

import pytest
import torch
from scene_recipes import RECIPES, make_scenes

from datasets.synthetic.image_shapes import make_image_shapes
from engine.distributed import Ranks
from settings import SettingsError, apply_overrides, parse_settings
from tasks import find_task

ALONE = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return make_image_shapes(tmp_path_factory.mktemp("images") / "shapes", num_train=60, num_val=9, size=32)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return make_scenes(tmp_path_factory.mktemp("scenes") / "set")


def image_task(folder, *overrides):
    recipe = {
        "task": "image_classification",
        "model": {"name": "hornet_debug_gf"},
        "data": {"train": f"{folder}/train.txt", "val": 0.2, "num_workers": 0, "train_view": {"size": 32},
                 "val_view": {"size": 32}},
        "optimizer": {"name": "adamw", "lr": 0.001},
        "train": {"num_epochs": 1, "batch_size": 8},
        "run": {"device": "cpu"},
    }  # fmt: skip
    return make_task(apply_overrides(recipe, overrides))


def make_task(recipe):
    task_class = find_task(recipe, "test")
    return task_class(parse_settings(task_class.Settings, recipe), ALONE)


def ids(files):
    return {item.id for item in files}


def test_a_share_of_the_training_files_validates(shapes):
    task = image_task(shapes)
    whole = ids(image_task(shapes, f"data.val={shapes}/val.txt").train_files)
    assert ids(task.train_files) | ids(task.val_files) == whole and not ids(task.train_files) & ids(task.val_files)
    other = image_task(shapes, "run.seed=1")
    assert ids(other.val_files) != ids(task.val_files) and other.validation_source() != task.validation_source()
    assert task.report_facts()["list"] == f"20 %, held out by seed 0, of {shapes}/train.txt"
    assert task.test_task() is None and task.protocol == "centre"


def test_weights_follow_their_files(shapes, tmp_path):
    task = image_task(shapes)
    name = task.train_files[3].id
    (tmp_path / "weights.txt").write_text(f"{name} 7\n{task.val_files[0].id} 9\n")
    weights = image_task(shapes, f"data.weights={tmp_path}/weights.txt").train_weights
    assert weights[3] == 7 and weights.sum() == len(task.train_files) + 6


@pytest.mark.parametrize("by", ["table", "pattern"])
def test_recordings_are_held_out_as_a_whole(shapes, tmp_path, by):
    names = sorted(ids(image_task(shapes, f"data.val={shapes}/val.txt").train_files))
    (tmp_path / "groups.txt").write_text("".join(f"{name} {name[-1]}\n" for name in names))
    setting = f"data.fold_groups={tmp_path}/groups.txt" if by == "table" else "data.source_pattern=.$"
    task = image_task(shapes, setting, "data.val=0.4")
    learned, held = ({name[-1] for name in ids(files)} for files in (task.train_files, task.val_files))
    assert learned and held and not learned & held


def test_a_fold_beside_a_share_is_the_test_list(shapes):
    task = image_task(shapes, "data.folds=3", "data.fold=1", "data.val=0.25")
    test = task.test_task()
    parts = [ids(files) for files in (task.train_files, task.val_files, test.val_files)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 60 and len(parts[2]) == 20
    assert test.protocol == "centre-fold1of3-test" and test.report_facts()["list"].startswith("fold 1 of 3 of ")
    with pytest.raises(SettingsError, match=r"data\.val: a fraction of 0\.01 holds out none of 40 files"):
        image_task(shapes, "data.folds=3", "data.fold=1", "data.val=0.01").check()
    plain = image_task(shapes, "data.folds=3", "data.fold=1", "data.val=null")
    assert ids(plain.val_files) == parts[2] and plain.test_task() is None


def test_files_in_two_lists_are_named(shapes, caplog):
    task = image_task(shapes, f"data.test={shapes}/train.txt")
    task.check()
    assert re.findall(r"(\d+) of the 60 images in the test list are also in the (\w+) list", caplog.text) == [
        (str(len(task.train_files)), "training"),
        (str(len(task.val_files)), "validation"),
    ]
    caplog.clear()
    image_task(shapes, f"data.test={shapes}/val.txt").check()
    assert "also in" not in caplog.text


def test_a_file_with_two_labels_is_named(shapes, tmp_path, caplog):
    lines = (shapes / "train.txt").read_text().splitlines()
    _, label, path = lines[5].split("\t")
    again = [f"again\t{(int(label) + 1) % 6}\t./{path}", f"same\t{lines[7].split()[1]}\t{lines[7].split()[2]}"]
    (tmp_path / "train.txt").write_text("\n".join([*lines, *again]))
    image_task(shapes, f"data.train={tmp_path}/train.txt", f"data.root={shapes}", f"data.val={shapes}/val.txt").check()
    assert "2 entries of the training list contradict others about the label of the same image, such as " in caplog.text
    assert path in caplog.text and "also in" not in caplog.text


def test_a_test_list_changes_nothing_but_what_is_tested(shapes):
    plain, task = image_task(shapes), image_task(shapes, f"data.test={shapes}/val.txt")
    assert task.evaluation_key() == plain.evaluation_key()
    assert all(task.fingerprint(part) == plain.fingerprint(part) for part in ("training", "validation", "outputs"))
    test = task.test_task()
    assert len(test.val_files) == 9 and test.protocol == "centre-test"
    assert test.validation_source()["list"] == str(shapes / "val.txt")
    task.check()
    (shapes / "gone.txt").unlink(missing_ok=True)
    with pytest.raises(SettingsError, match=r"data\.test: no list of images at .*gone\.txt"):
        image_task(shapes, f"data.test={shapes}/gone.txt").check()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.val=null"], "val is required: the validation files, or a fraction of the training files"),
        (["data.val=1.5"], r"data\.val"),
        (["data.val=x.txt", "data.source_pattern=a"], "source_pattern needs folds, or a fraction of the"),
        (["data.source_pattern=("], r"'\(' is not a regular expression"),
        (["data.source_pattern=a", "data.fold_groups=x"], "fold_groups and source_pattern both name the sources"),
        (["data.folds=3", "data.fold=0", "data.test=x"], r"fold `fold` is the test list; set data\.test=null"),
        (["data.folds=3", "data.fold=0", "data.val=x"], r"set data\.val=null, or a fraction such as 0\.1"),
        (
            ["data.folds=3", "data.fold=0", "data.val=null", "data.val_root=x"],
            r"val_root .*data\.val, which is not set",
        ),
        (["data.test=x", "data.val_root=y"], r"a fraction, 0\.2; set data\.val_root=null, or data\.test_root instead"),
        (["evaluation.on=test"], r"evaluation\.on=test is for tools/evaluate\.py: a run chooses its best checkpoint"),
        (["evaluation.on=tset"], r"evaluation\.on: .*'val' or 'test'"),
    ],
)
def test_what_does_not_fit_is_said(shapes, overrides, message):
    with pytest.raises(SettingsError, match=message):
        image_task(shapes, *overrides).check()
    with pytest.raises(SettingsError, match=r"evaluation\.on=test needs data\.test, images that choose nothing"):
        image_task(shapes, "evaluation.on=test").val_files  # noqa: B018


@pytest.mark.parametrize(
    ("on", "val", "given"),
    [("val", 0.5, r"data\.val, which is a fraction, 0\.5"), ("test", "x", r"data\.test, which is not set")],
)
@pytest.mark.parametrize(
    ("task", "model", "setting"),
    [
        ("image_classification", {"name": "hornet_debug_gf"}, "root"),
        ("clip_classification", {"name": "resnet_debug_3d"}, "root"),
        ("clip_classification", {"name": "resnet_debug_3d"}, "split"),
        ("skeleton_action", {}, "root"),
        ("skeleton_action", {}, "split"),
        ("detection", {"backbone": "hornet_debug_gf"}, "root"),
        ("segmentation", {"backbone": "hornet_debug_gf"}, "root"),
        ("segmentation", {"backbone": "hornet_debug_gf"}, "labels"),
    ],
)
def test_what_describes_a_list_needs_the_list(task, model, setting, on, val, given):
    name = f"{on}_{setting}"
    recipe = {"task": task, "model": model, "data": {"train": "x", "val": val, name: "gone"}}
    recipe |= {"optimizer": {"name": "adamw", "lr": 0.001}, "train": {"num_epochs": 1, "batch_size": 8}}
    with pytest.raises(SettingsError, match=rf"{name} describes the list {given}; set data\.{name}=null"):
        make_task(recipe)
    recipe["data"][on] = "y"
    assert getattr(make_task(recipe).settings.data, name) == "gone"


@pytest.mark.parametrize("name", RECIPES)
def test_scenes(scenes, name, caplog):
    recipe = RECIPES[name](scenes)
    whole = make_task(recipe)
    whole.check()
    assert "also in" not in caplog.text
    data = recipe["data"]
    tested = {key: value for key, value in data.items() if key in ("val", "val_root")}
    recipe["data"] = data | {"val": 0.4, "test": tested["val"], "test_root": tested.get("val_root"), "val_root": None}
    task = make_task(recipe)
    paths = [{item.path for item in items} for items in (task.train_items, task.val_items)]
    assert paths[0] | paths[1] == {item.path for item in whole.train_items} and not paths[0] & paths[1]
    test = task.test_task()
    assert [item.path for item in test.val_items] == [item.path for item in whole.val_items]
    assert (task.protocol, test.protocol) == ("whole", "whole-test") and "held out by seed 0" in str(
        task.report_facts()
    )
    assert whole.test_task() is None and json.dumps(test.report_facts())
    task.check()
    assert "also in" not in caplog.text
    test_root = {"test_root": data["root"]} if "root" in data else {}
    make_task(recipe | {"data": recipe["data"] | {"test": data["train"], **test_root}}).check()
    assert "in the test list are also in the training list" in caplog.text
    recipe["data"] |= {"source_pattern": "a", "val": tested["val"]}
    with pytest.raises(SettingsError, match="source_pattern needs a fraction of the training images as val"):
        make_task(recipe)
    recipe["data"] |= {"test": "gone.txt", "source_pattern": None, "val": 0.4}
    with pytest.raises(SettingsError, match=r"data\.test: .*gone\.txt"):
        make_task(recipe).check()
