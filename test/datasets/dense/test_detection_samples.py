"""Samples and batches for detection, with and without workers."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.dataloader import eval_loader, to_device, train_loader
from datasets.dense import (
    DetectionImages,
    DetectionSamples,
    DetectionView,
    DetectionViewSettings,
    EvalView,
    EvalViewSettings,
    RangeCropSettings,
    read_coco,
    with_objects,
)
from datasets.images import find_images
from datasets.synthetic import make_scene_shapes

CPU = torch.device("cpu")
VIEW = DetectionViewSettings(
    short_sides=(40, 48), max_long_side=80, crop=RangeCropSettings(short_sides=(44, 60), sides=(30, 50))
)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return make_scene_shapes(tmp_path_factory.mktemp("samples") / "scenes", num_train=24, num_val=5, size=48)


@pytest.fixture
def images(scenes):
    return with_objects(read_coco(scenes / "instances_train.json", scenes / "images" / "train", masks=True))


def samples(images, **options):
    return DetectionSamples(images, DetectionView(VIEW), seed=1, **options)


def batches(dataset, count, size, first=0, rank=0, num_ranks=1, num_workers=0):
    return list(to_device(train_loader(dataset, first, count, size, rank, num_ranks, num_workers=num_workers), CPU))


def equal(one, other):
    """Whether two batches hold the same; with lists of tensors."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    return len(one) == len(other) and all(map(equal, one, other))


def test_a_batch_has_the_stated_entries(images):
    (batch,) = batches(samples(images), 1, 4)
    assert set(batch) == {*("images", "boxes", "labels", "ignored", "masks", "scale", "original", "index", "failures")}
    for image, boxes, labels, ignored, masks in zip(
        *(batch[name] for name in ("images", "boxes", "labels", "ignored", "masks")), strict=True
    ):
        assert type(image) is type(boxes) is type(masks) is torch.Tensor
        assert image.dtype == torch.uint8 and image.shape[0] == 3 and masks.shape == (len(boxes), *image.shape[1:])
        assert boxes.dtype == torch.float32 and labels.dtype == torch.int64 and masks.dtype == torch.uint8
        assert boxes.shape == (len(labels), 4) and ignored.shape[1:] == (4,)
        assert (boxes >= 0).all() and (boxes[:, 2] <= image.shape[2]).all() and (boxes[:, 3] <= image.shape[1]).all()
    assert batch["scale"].dtype == torch.float64 and batch["scale"].shape == (4, 2)
    assert batch["original"].tolist() == [list(images[int(row)].size) for row in batch["index"]]


def test_masks_and_boxes_of_every_sample_agree(images):
    for batch in batches(samples(images), 12, 4):
        for boxes, masks in zip(batch["boxes"], batch["masks"], strict=True):
            for box, mask in zip(boxes, masks, strict=True):
                if mask.any():  # a crop may cut off all of a mask and leave a part of its box
                    rows, columns = torch.where(mask)
                    found = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
                    assert (found[:2] >= box[:2] - 2).all() and (found[2:] <= box[2:] + 2).all()


def test_workers_and_ranks_change_nothing(images):
    alone = batches(samples(images, group_size=4), 6, 4)
    with_workers = batches(samples(images, group_size=4), 6, 4, num_workers=2)
    assert all(map(equal, alone, with_workers))
    ranks = [batches(samples(images, group_size=4), 6, 2, rank=rank, num_ranks=2) for rank in (0, 1)]
    for batch, first, second in zip(alone, *ranks, strict=True):
        assert equal(batch["images"], first["images"] + second["images"])
        assert equal(batch["masks"], first["masks"] + second["masks"])


def test_a_run_resumes_in_the_middle_of_an_epoch(images):
    whole = batches(samples(images, group_size=5), 9, 5)
    assert all(map(equal, whole[4:], batches(samples(images, group_size=5), 5, 5, first=4)))


def test_an_epoch_has_each_image_once_and_batches_one_orientation(images):
    dataset, found, mixed = samples(images, group_size=4), [], 0
    assert 0 < (images.sizes[:, 0] > images.sizes[:, 1]).sum() < len(images)
    for batch in batches(dataset, len(images), 4):  # four epochs
        found += batch["index"].tolist()
        mixed += len({height > width for height, width in batch["original"].tolist()}) > 1
    for epoch in range(4):
        assert sorted(found[epoch * len(images) : (epoch + 1) * len(images)]) == list(range(len(images)))
    assert mixed <= 4
    with_unsorted = [len(set(b["original"].argmax(1).tolist())) > 1 for b in batches(samples(images), len(images), 4)]
    assert sum(with_unsorted) > 4


def test_unreadable_images_are_replaced_by_a_fixed_rule(images, tmp_path):
    for item in images:
        shutil.copy(item.path, tmp_path)
    broken = images[3]
    (tmp_path / broken.path.split("/")[-1]).write_bytes(b"no image")
    other = read_coco(images.source, tmp_path, masks=True).subset(
        [number for number, count in enumerate(read_coco(images.source).counts()) if count]
    )
    one, two = (batches(samples(other), 6, 4, num_workers=workers) for workers in (0, 2))
    failures = [failure for batch in one for failure in batch["failures"]]
    assert {failure["index"] for failure in failures} == {3}
    assert all(
        equal(a["images"], b["images"]) and a["failures"] == b["failures"] for a, b in zip(one, two, strict=True)
    )


def test_an_image_of_another_size_than_stated_is_a_failure(images, tmp_path):
    part = images.subset([0, 1])
    for item in part:
        Image.new("RGB", (30, 31)).save(tmp_path / item.path.split("/")[-1])
    part.root = str(tmp_path)
    sample = samples(part)[0]
    assert "is 30 x 31 pixels, but its entry (image id" in str(sample["error"])
    views = DetectionImages(part, EvalView(EvalViewSettings()))[0]
    assert views["failure"]["reason"].endswith(f"says {images[0].size[1]} x {images[0].size[0]}")


def test_display_shows_the_file_before_any_transform(images):
    dataset = samples(images)
    number = 5
    index = dataset[number]["index"]
    before = dataset.as_in_file(index)
    assert tuple(before["images"].shape[1:]) == images[index].size and before["scale"].tolist() == [1, 1]
    assert torch.equal(dataset.whole(number)[0].permute(2, 0, 1), before["images"])
    assert np.array_equal(before["masks"].numpy(), images.objects(index).masks)


def test_evaluation_sees_every_image_once(scenes):
    images = read_coco(scenes / "instances_val.json", scenes / "images" / "val")
    dataset = DetectionImages(images, EvalView(EvalViewSettings(short_side=97)))
    found = list(to_device(eval_loader(dataset, 2, 0, 1), CPU))
    assert torch.cat([batch["index"] for batch in found]).tolist() == list(range(5))
    for batch in found:
        for image, scale, original in zip(*(batch[name] for name in ("images", "scale", "original")), strict=True):
            assert min(image.shape[1:]) == 97 and scale[0] != scale[1]  # sides are rounded
            assert (original.flip(0) * scale).tolist() == pytest.approx([image.shape[2], image.shape[1]], rel=1e-9)


def test_prediction_takes_files_without_annotations_and_several_views(scenes):
    files = find_images([scenes / "images" / "val"])
    dataset = DetectionImages(files, EvalView(EvalViewSettings(scales=(1, 0.5), flip=True)))
    (batch,) = to_device(eval_loader(dataset, 5, 0, 1), CPU)
    assert len(batch["images"]) == 20 and set(batch) == {"images", "scale", "original", "index", "failures"}
    assert torch.equal(batch["images"][4].flip(-1), batch["images"][5])
    assert batch["images"][4].shape[1:] == tuple(batch["original"][1].tolist())
    assert batch["scale"][0].tolist() == [1, 1]
