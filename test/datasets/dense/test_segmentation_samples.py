"""Samples and batches for segmentation, with and without workers."""

import pytest
import torch
from PIL import Image

from datasets.dataloader import eval_loader, to_device, train_loader
from datasets.dense import (
    EvalView,
    EvalViewSettings,
    SegmentationImages,
    SegmentationSamples,
    SegmentationView,
    SegmentationViewSettings,
    pad_label_maps,
    read_label_maps,
)
from datasets.images import find_images
from datasets.synthetic import make_scene_shapes
from datasets.synthetic.scenes import CLASS_NAMES

CPU = torch.device("cpu")
VIEW = SegmentationViewSettings(short_side=48, max_long_side=192, crop=(40, 44))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return make_scene_shapes(tmp_path_factory.mktemp("samples") / "scenes", num_train=14, num_val=5, size=48)


@pytest.fixture
def files(scenes):
    return read_label_maps(scenes / "train.txt", class_names=CLASS_NAMES)


def batches(files, count, size, num_workers=0, first=0):
    dataset = SegmentationSamples(files, SegmentationView(VIEW), seed=1)
    return list(to_device(train_loader(dataset, first, count, size, 0, 1, num_workers=num_workers), CPU))


def test_training_batches(files):
    found = batches(files, 7, 4)
    assert sorted(torch.cat([batch["index"] for batch in found]).tolist()) == sorted(2 * list(range(14)))
    for batch in found:
        assert set(batch) == {"images", "label_maps", "index", "failures"}
        for image, labels in zip(batch["images"], batch["label_maps"], strict=True):
            assert type(image) is type(labels) is torch.Tensor and image.dtype == labels.dtype == torch.uint8
            assert image.shape[1:] == labels.shape and labels.shape[0] <= 40 and labels.shape[1] <= 44
        assert pad_label_maps(batch["label_maps"], (40, 44)).shape == (4, 40, 44)
    values = torch.cat([labels.flatten() for batch in found for labels in batch["label_maps"]]).unique()
    assert values.tolist() == [0, 1, 2, 3, 4, 5, 6, 255]


def test_workers_and_resuming_change_nothing(files):
    alone, with_workers, resumed = batches(files, 6, 4), batches(files, 6, 4, 2), batches(files, 3, 4, first=3)
    for one, other in [*zip(alone, with_workers, strict=True), *zip(alone[3:], resumed, strict=True)]:
        for name in ("images", "label_maps"):
            assert all(map(torch.equal, one[name], other[name]))


def test_display_shows_the_file_before_any_transform(files):
    dataset = SegmentationSamples(files, SegmentationView(VIEW), seed=1)
    index = dataset[3]["index"]
    before = dataset.as_in_file(index)
    assert torch.equal(dataset.whole(3)[0].permute(2, 0, 1), before["images"])
    assert before["label_maps"].shape == before["images"].shape[1:]


def test_a_bad_label_map_is_replaced_and_named(files, scenes, tmp_path):
    lines = (scenes / "train.txt").read_text().splitlines()
    image, _ = lines[2].split("\t")
    with Image.open(scenes / image) as picture:
        Image.new("L", picture.size, 99).save(tmp_path / "bad.png")
    lines[2] = f"{image}\t{tmp_path / 'bad.png'}"
    (tmp_path / "list.txt").write_text("\n".join(lines))
    found = batches(read_label_maps(tmp_path / "list.txt", root=scenes, class_names=CLASS_NAMES), 7, 2)
    (failure,) = (failure for batch in found for failure in batch["failures"])
    assert failure["path"].endswith("bad.png") and "has label 99" in failure["reason"] and failure["index"] == 2
    assert all(len(batch["images"]) == 2 for batch in found)


def test_evaluation_keeps_label_maps_at_the_size_of_the_file(scenes):
    files = read_label_maps(scenes / "val.txt", class_names=CLASS_NAMES)
    dataset = SegmentationImages(files, EvalView(EvalViewSettings(short_side=32)))
    found = list(to_device(eval_loader(dataset, 2, 0, 1), CPU))
    assert torch.cat([batch["index"] for batch in found]).tolist() == list(range(5))
    for batch in found:
        for image, labels, original in zip(
            *(batch[name] for name in ("images", "label_maps", "original")), strict=True
        ):
            assert min(image.shape[1:]) == 32 and list(labels.shape) == original.tolist() and min(labels.shape) == 48


def test_prediction_takes_files_without_labels(scenes):
    dataset = SegmentationImages(find_images([scenes / "images" / "val"]), EvalView(EvalViewSettings(flip=True)))
    (batch,) = to_device(eval_loader(dataset, 5, 0, 1), CPU)
    assert set(batch) == {"images", "original", "index", "failures"} and len(batch["images"]) == 10
