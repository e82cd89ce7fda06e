"""Detection: what is scored, drawn and written is what the network found, in pixels of the file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from scene_recipes import detection_recipe, make_scenes, make_task
from torch import nn

from dense.structures import Detections
from settings import SettingsError
from tasks.found_objects import FoundObjects, objects_of


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("scenes") / "set")


class Oracle(nn.Module):
    """Finds what is in the images of a set, in their order: boxes of the file, masks of 28 x 28 in each box."""

    def __init__(self, items: Any, moved: float = 0.0):
        super().__init__()
        self.items, self.moved, self.shapes = items, moved, []

    def forward(self, images: torch.Tensor, shapes: list[Any]) -> list[Detections]:
        found = []
        for shape in shapes:
            objects = self.items.objects(len(self.shapes))
            self.shapes.append(shape)
            masks = torch.zeros(len(objects.boxes), 28, 28)
            for mask, box, own in zip(masks, objects.boxes, objects.masks, strict=True):
                x = (box[0] + (torch.arange(28) + 0.5) / 28 * (box[2] - box[0])).long()
                y = (box[1] + (torch.arange(28) + 0.5) / 28 * (box[3] - box[1])).long()
                mask[:] = torch.from_numpy(own).float()[y][:, x]
            boxes = torch.from_numpy(objects.boxes) + self.moved
            scores = torch.linspace(1.0, 0.5, len(boxes))
            found.append(Detections(boxes, scores, torch.from_numpy(objects.labels), masks))
        return found


def test_an_oracle_finds_everything(scenes):
    """Labels, categories, sizes and masks fit together: boxes score 100 %, pasted masks nearly so."""
    task = make_task(detection_recipe(scenes))
    oracle = Oracle(task.val_items)
    evaluation = task.evaluate(oracle)
    summary = evaluation.summary()
    assert summary["box_ap"] == summary["box_ap75"] == 1.0 == summary["box_ar100"]
    assert summary["mask_ap50"] == 1.0 and summary["mask_ap"] > 0.85
    assert summary["detections"] == task.val_items.counts().sum() > 10
    assert all(shape.size in ((45, 60), (60, 45)) and shape.original in ((48, 64), (64, 48)) for shape in oracle.shapes)
    assert all(shape.scale == (45 / 48, 45 / 48) for shape in oracle.shapes)
    moved = task.evaluate(Oracle(task.val_items, moved=30.0)).summary()
    assert moved["box_ap50"] < 0.2


def test_cudnn_does_not_search_for_kernels_of_each_number_of_objects(scenes, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    make_task(detection_recipe(scenes))
    assert not torch.backends.cudnn.benchmark


def test_classes_in_another_order_keep_their_names(scenes):
    """A model with more classes than the file, in another order, is scored by their names."""
    names = list(make_task(detection_recipe(scenes)).class_names)
    own = ["person", *reversed(names)]
    task = make_task(detection_recipe(scenes), data__class_names=own)
    assert task.num_classes == 7
    evaluation = task.evaluate(Oracle(task.val_items))
    assert evaluation.summary()["box_ap"] == 1.0
    categories = {
        one["id"]: one["name"] for one in json.loads((scenes / "instances_val.json").read_text())["categories"]
    }
    truth = json.loads((scenes / "instances_val.json").read_text())["annotations"]
    wanted = sorted(categories[one["category_id"]] for one in truth if not one["iscrowd"])
    found = sorted(own[task.val_items.category_ids.index(one["category_id"])] for one in evaluation.results)
    assert found == wanted


def test_the_report_has_results_in_cocos_form(scenes, tmp_path):
    task = make_task(detection_recipe(scenes))
    task.evaluate(Oracle(task.val_items)).write(tmp_path)
    results = json.loads((tmp_path / "predictions.json").read_text())
    images = {image["id"]: image for image in json.loads((scenes / "instances_val.json").read_text())["images"]}
    assert len(results) == 12 and {len(result["bbox"]) for result in results} == {4}
    for result in results:
        image = images[result["image_id"]]
        assert result["segmentation"]["size"] == [image["height"], image["width"]]
        mask = coco_mask.decode(result["segmentation"])
        x, y, _, height = (round(value) for value in result["bbox"])
        assert mask.any() and not mask[:y].any() and not mask[y + height :].any() and not mask[:, : max(0, x - 1)].any()


def found_objects(**changes: Any) -> FoundObjects:
    masks = torch.zeros(3, 40, 50, dtype=torch.uint8)
    masks[0, 5:20, 5:20] = masks[1, 10:30, 20:45] = masks[2, :2, :2] = 1
    rles = [coco_mask.encode(np.asfortranarray(mask.numpy()))["counts"] for mask in masks]
    boxes = torch.tensor([[5.0, 5, 20, 20], [20, 10, 45, 30], [0, 0, 2, 2]])
    values = {"boxes": boxes, "scores": torch.tensor([0.9, 0.5, 0.1]), "labels": torch.tensor([2, 0, 1]), "rles": rles}
    return FoundObjects(**(values | {"size": (40, 50)} | changes))


def test_objects_are_drawn_written_and_counted_by_their_scores(scenes):
    task = make_task(detection_recipe(scenes))
    names, found = task.class_names, found_objects()
    picture = torch.full((3, 40, 50), 128, dtype=torch.uint8)
    drawn = task.draw(picture, found)
    changed = (drawn != picture).any(0)
    assert changed[5:20, 5:20].any() and changed[10:30, 30:45].any() and not changed[35:, :].any()
    assert torch.equal(drawn, task.draw(picture, found.above(0.3)))  # evaluation.drawn_score
    assert task.guesses(found) == [(names[2], pytest.approx(0.9)), (names[0], 0.5), (names[1], pytest.approx(0.1))]
    facts = task.facts(found)["objects"]
    assert [(one["class"], one["box"]) for one in facts[:1]] == [(names[2], [5, 5, 20, 20])]
    assert coco_mask.area({**facts[0]["mask"]}) == 15 * 15 and "track" not in facts[0]
    assert len(json.dumps(facts)) > 0 and task.maps(found) == {}
    boxes_alone = task.facts(found_objects(rles=None))["objects"]
    assert all("mask" not in one for one in boxes_alone)


def test_what_is_drawn_is_no_part_of_a_reports_key(scenes):
    key, other, scored = (
        make_task(detection_recipe(scenes), **changes).evaluation_key()
        for changes in ({}, {"evaluation__drawn_score": 0.1}, {"evaluation__images_per_forward": 1})
    )
    assert key == other != scored


def test_objects_are_tracked_above_the_drawn_score(scenes):
    task = make_task(detection_recipe(scenes))
    follow = task.over_time(0.0, True)
    first = follow(found_objects())
    moved = found_objects(boxes=torch.tensor([[22.0, 11, 47, 31], [80, 80, 90, 90], [7, 5, 22, 20]]),
                          labels=torch.tensor([0, 2, 2]), scores=torch.tensor([0.9, 0.8, 0.7]))  # fmt: skip
    second = follow(moved)
    assert first.numbers == [0, 1] and second.numbers == [1, 2, 0]
    assert [one["track"] for one in task.facts(second)["objects"]] == [1, 2, 0]
    assert task.over_time(0.0, False)(found_objects()).numbers is None
    picture = torch.full((3, 40, 50), 128, dtype=torch.uint8)
    assert (task.draw(picture, second) != picture).any() and (task.draw(picture, first.above(2.0)) == picture).all()
    with pytest.raises(SettingsError, match="--smooth: boxes are not smoothed but tracked, with --track"):
        task.over_time(0.5, False)


def test_nothing_found_has_no_masks():
    empty = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 28, 28))
    found = objects_of(empty, (40, 50))
    assert found.rles == [] and found.masks().shape == (0, 40, 50)
    assert objects_of(empty._replace(masks=None), (40, 50)).masks() is None


def test_training_sees_the_objects_of_the_set_where_they_are(scenes):
    """The targets of a batch lie in the padded images, each mask in its box."""
    task = make_task(detection_recipe(scenes))
    (batch,) = task.train_batches(0, 1, 6, "train")
    assert sum(map(len, batch["boxes"])) > 0
    for image, boxes, masks in zip(batch["images"], batch["boxes"], batch["masks"], strict=True):
        assert masks.shape == (len(boxes), *image.shape[1:])
        for box, mask in zip(boxes, masks, strict=True):
            rows, columns = mask.nonzero().T
            extent = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            assert (extent - box).abs().max() < 2.5
    x = task.network_input(batch["images"])
    assert x.shape[2] % 32 == 0 and x.shape[3] % 32 == 0
    for row, image in enumerate(batch["images"]):
        assert not x[row, :, image.shape[1] :].any() and not x[row, :, :, image.shape[2] :].any()


@pytest.mark.parametrize(("keep_empty", "number"), [(False, 4), (True, 5)])
def test_images_without_objects_train_only_where_they_are_wanted(keep_empty, number, scenes):
    """The validation pictures, of which one has no object, as training pictures; the loss of that one is finite."""
    places = {"data__train": str(scenes / "instances_val.json"), "data__root": str(scenes / "images/val")}
    task = make_task(detection_recipe(scenes), data__keep_empty=keep_empty, **places)
    task.check()
    assert task.num_train_samples == number
    torch.manual_seed(0)
    model = task.build_model()
    for batch in task.train_batches(0, number, 1, "train"):
        loss, _ = task.training_step(model, batch)
        model.zero_grad()
        loss.backward()
        assert loss.isfinite() and all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("limit", [100, 101])
def test_more_objects_than_coco_scores_are_warned_of(limit, scenes, caplog):
    task = make_task(detection_recipe(scenes))
    options = {**task.settings.model.head_options, "max_detections": limit}
    make_task(detection_recipe(scenes), model__head_options=options).check()
    assert ("max_detections is 101, but COCO's scores" in caplog.text) == (limit > 100)


def test_grayscale_and_transparent_images_are_seen_as_rgb(scenes, tmp_path):
    task = make_task(detection_recipe(scenes))
    model = task.build_model().eval()
    pixels = np.array(Image.open(sorted((scenes / "images/val").iterdir())[1]).convert("L"))
    Image.fromarray(pixels).save(tmp_path / "gray.png")
    Image.fromarray(pixels).convert("RGBA").save(tmp_path / "transparent.png")
    Image.fromarray(pixels).convert("RGB").save(tmp_path / "rgb.png")
    found = [seen.outputs for seen in task.see(model, task.find_inputs([str(tmp_path)]), one_by_one=True)]
    assert len(found) == 3
    assert all(torch.equal(one.boxes, found[0].boxes) and one.rles == found[0].rles for one in found)
