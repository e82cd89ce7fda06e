"""Segmentation: scores and probabilities equal to a direct computation, by whole images, windows, scales and flips."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scene_recipes import ODD, make_scenes, make_task, segmentation_recipe
from torchvision.transforms.v2 import functional as transforms

from dense.segmentor import slide
from engine.distributed import Ranks
from settings import SettingsError
from tasks.segmentation import Smoothing

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
NUM_CLASSES = 7


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("scenes") / "set")


def trained(task) -> torch.nn.Module:
    """The network of a task with random weights, all of them different from zero, so that its classes differ."""
    torch.manual_seed(0)
    model = task.build_model().eval()
    with torch.no_grad():
        for parameter in model.decode_head.conv_seg.parameters():
            parameter.normal_()
    return model


def images_of(folder: Path, split: str = "val") -> list[tuple[torch.Tensor, np.ndarray]]:
    """The pictures of a split, uint8 [3, H, W], and their label maps, in the list's order."""
    lines = [line.split("\t") for line in (folder / f"{split}.txt").read_text().splitlines()]
    return [
        (torch.from_numpy(np.array(Image.open(folder / image))).movedim(2, 0), np.array(Image.open(folder / labels)))
        for image, labels in lines
    ]


def resized(image: torch.Tensor, factor: float) -> torch.Tensor:
    size = [round(side * factor * ODD / min(image.shape[1:])) for side in image.shape[1:]]
    return transforms.resize(image, size, antialias=False)


def normalized(image: torch.Tensor) -> torch.Tensor:
    """uint8 [3, h, w] -> [1, 3, h, w], padded to 32 pixels a side."""
    x = (image / 255 - MEAN) / STD
    return F.pad(x, (0, max(0, 32 - x.shape[2]), 0, max(0, 32 - x.shape[1])))[None]


@torch.no_grad()
def direct_logits(model, image: torch.Tensor, size: tuple[int, int], windows=None) -> torch.Tensor:
    """[1, K, H, W] at the file's size."""
    x = normalized(image)
    logits = model(x) if windows is None else slide(model, x, *windows)
    logits = logits[..., : image.shape[1], : image.shape[2]]
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def confusion(pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    matrix = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
    for labels, predicted in pairs:
        for label, guess in zip(labels.flat, predicted.flat, strict=True):
            if label != 255:
                matrix[label, guess] += 1
    return matrix


@pytest.mark.parametrize(
    ("changes", "protocol"),
    [
        ({}, "whole"),
        ({"data__val_view": {"short_side": ODD, "flip": True}}, "whole-flip"),
        ({"data__val_view": {"short_side": ODD, "scales": [0.75, 1.0, 1.5], "flip": True}}, "whole-3scales-flip"),
        ({"evaluation__slide": {"crop": [32, 40], "stride": [21, 27]}}, "slide"),
    ],
)
def test_scores_are_those_of_a_direct_computation(changes, protocol, scenes):
    """Images alone: no size depends on others."""
    task = make_task(segmentation_recipe(scenes), evaluation__images_per_forward=1, **changes)
    assert task.protocol == protocol
    model, view = trained(task), task.settings.data.val_view
    windows = task.settings.evaluation.slide and (
        task.settings.evaluation.slide.crop,
        task.settings.evaluation.slide.stride,
    )
    pairs = []
    for image, labels in images_of(scenes):
        total = torch.zeros(1, NUM_CLASSES, *labels.shape)
        for factor in view.scales:
            small = resized(image, factor)
            total += direct_logits(model, small, labels.shape, windows).softmax(1)
            if view.flip:
                total += direct_logits(model, small.flip(2), labels.shape, windows).flip(3).softmax(1)
        pairs.append((labels, total[0].argmax(0).numpy()))
    evaluation = task.evaluate(model)
    expected = confusion(pairs)
    assert np.array_equal(evaluation.scores.confusion, expected) and (expected.sum(0) > 0).sum() >= 2
    both, either = np.diag(expected), expected.sum(0) + expected.sum(1) - np.diag(expected)
    known = either > 0
    assert evaluation.summary()["mean_iou"] == np.mean(both[known] / either[known])
    assert task.num_evaluation_samples == 5 * len(view.scales) * (1 + view.flip)


@pytest.mark.slow
def test_saved_predictions_are_the_best_classes_of_the_files(scenes, tmp_path):
    task = make_task(segmentation_recipe(scenes), evaluation={"images_per_forward": 1, "save_predictions": True})
    model = trained(task)
    task.evaluate(model).write(tmp_path)
    found = sorted((tmp_path / "predictions").iterdir())
    assert [path.name for path in found] == [f"{row:06d}_scene_{row:04d}.png" for row in range(5)]
    for path, (image, labels) in zip(found, images_of(scenes), strict=True):
        expected = direct_logits(model, resized(image, 1), labels.shape)[0].argmax(0)
        assert np.array_equal(np.array(Image.open(path)), expected.numpy().astype(np.uint8))
        assert len(expected.unique()) > 1


@pytest.mark.parametrize("average", ["all", "labeled"])
def test_losses_are_means_over_all_pixels_of_the_batch_or_the_labeled_ones(average, scenes):
    """Of the batch padded to the crop, ignored and padded pixels among them."""
    task = make_task(segmentation_recipe(scenes), loss={"auxiliary_weight": 0.3, "average": average})
    torch.manual_seed(0)
    model = task.build_model()
    model.decode_head.dropout.p = model.auxiliary_head.dropout.p = 0
    (batch,) = task.train_batches(0, 1, 3, "train")
    loss, sums = task.training_step(model, batch)
    crop = (41, 57)
    images, labels = torch.zeros(3, 3, *crop), torch.full((3, *crop), 255)
    for row, (image, label_map) in enumerate(zip(batch["images"], batch["label_maps"], strict=True)):
        height, width = label_map.shape
        images[row, :, :height, :width] = (image / 255 - MEAN) / STD
        labels[row, :height, :width] = label_map
    parts = []
    for logits in model(images):
        logits = F.interpolate(logits, size=crop, mode="bilinear", align_corners=False)
        total = F.cross_entropy(logits, labels, ignore_index=255, reduction="sum")
        parts.append(total / (labels.numel() if average == "all" else (labels != 255).sum()))
    torch.testing.assert_close(loss, parts[0] + 0.3 * parts[1])
    torch.testing.assert_close(sums["loss_decode"], 3 * parts[0])
    torch.testing.assert_close(sums["loss_auxiliary"], 3 * 0.3 * parts[1])
    assert sums["loss"] == 3 * loss and (labels == 255).any()


def test_frames_are_smoothed_as_probabilities_and_start_over_at_another_size():
    logits = torch.randn(3, 4, 2, 5)
    for is_logits in (True, False):
        smooth = Smoothing(0.75, is_logits)
        mean = logits[0].softmax(0)
        for frame in logits:
            mean = 0.75 * mean + 0.25 * frame.softmax(0)
            torch.testing.assert_close(smooth(frame if is_logits else frame.softmax(0)), mean)
    other = torch.randn(4, 3, 3)
    torch.testing.assert_close(Smoothing(0.0, True)(other), other.softmax(0))
    smooth(logits[0])
    torch.testing.assert_close(smooth(other.softmax(0)), other.softmax(0))


def test_a_picture_is_described_by_the_shares_of_its_classes(scenes):
    task = make_task(segmentation_recipe(scenes))
    scores = torch.zeros(NUM_CLASSES, 2, 4)
    scores[3, 0] = scores[1, 1] = 1.0
    scores[5, 1, :1] = 2.0
    names = task.class_names
    assert task.guesses(scores) == [(names[3], 0.5), (names[1], 0.375), (names[5], 0.125)]
    assert task.facts(scores) == {"shares": dict(task.guesses(scores))}
    assert task.maps(scores)["classes"].tolist() == [[3, 3, 3, 3], [5, 1, 1, 1]]
    with pytest.raises(SettingsError, match="--track: a segmentor finds no objects to track; detectors do"):
        task.over_time(0.0, True)


def test_a_file_of_weights_knows_its_classes_without_the_data(scenes):
    """A recipe in a file of weights has the class names, and its validation list may be gone."""
    task = make_task(segmentation_recipe(scenes))
    portable = task.portable_recipe()
    assert portable["data"]["class_names"] == list(task.class_names)
    portable["data"] |= {"train": "gone.txt", "val": "gone.txt"}
    moved = make_task(portable)
    assert moved.num_classes == NUM_CLASSES and moved.build_model().num_classes == NUM_CLASSES


def test_a_list_for_more_ranks_than_images_is_scored(scenes):
    """The last of three ranks has no image at all."""
    (scenes / "two.txt").write_text("".join((scenes / "val.txt").read_text().splitlines(True)[:2]))

    class ThreeRanks(Ranks):
        values: ClassVar[list] = []

        def gather(self, value):
            self.values.append(value)
            return self.values[::-1] if self.is_main else None

    task = make_task(segmentation_recipe(scenes), data__val=str(scenes / "two.txt"), evaluation__images_per_forward=1)
    model = trained(task)
    one = task.evaluate(model)
    for rank in (2, 1, 0):
        task.ranks = ThreeRanks(rank, 3, torch.device("cpu"))
        three = task.evaluate(model)
    assert np.array_equal(one.scores.confusion, three.scores.confusion) and three.gathered.num_read == 2
