"""Images of detection and segmentation samples, as in the file and as the network sees them, with labels drawn.

Both tasks' batches have a list of images; the other keys decide what to draw: `boxes` with `labels`, `masks` and
`ignored`, or `label_maps`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from datasets.dense.drawing import class_color, draw_scene
from datasets.dense.label_maps import LabelMapFiles
from datasets.file_list import FileError
from datasets.image_file import read_image
from datasets.samples import TrainSamples
from engine.task import Picture
from tasks.sample_pictures import first_of_each_class

if TYPE_CHECKING:
    from tasks.scenes import SceneTask

log = logging.getLogger(__name__)

MIN_SIDE = 224
"""Smaller images are enlarged to this side before boxes and names are drawn on them, in pixels."""
HEIGHT = 256
"""Height of the images on a sheet, in pixels: names must be readable."""
PAIR_HEIGHT = 200
"""Height of images side by side, so that two pairs fit in a row."""
MAX_COUNTED = 500
"""Number of images of a list whose pixels are counted."""
MAX_NAMED = 8
"""Number of classes that a caption names."""
NOTHING = Picture(["no file can be read"], {"": torch.zeros(1, 8, 8, 3, dtype=torch.uint8)})


def training_pictures(task: SceneTask, count: int) -> list[Picture]:
    """The first `count` training samples, at most a batch: as they are in the file, and as the network sees them."""
    samples = task.train_samples("train")
    number = min(count, task.settings.train.samples_per_forward(task.ranks))
    (batch,) = task.train_batches(0, 1, number, "train")
    for failure in batch["failures"]:
        log.warning("cannot read %s: %s", failure["path"], failure["reason"])
    pictures = []
    for row in range(number):
        index = int(batch["index"][row])
        seen = {name: batch[name][row] for name in batch if isinstance(batch[name], list) and name != "failures"}
        seen["images"] = as_seen(task, seen["images"])
        in_file = samples.as_in_file(index)
        stages = {"in the file": _drawn(task, in_file), "network input": _drawn(task, seen)}
        pictures.append(Picture(_caption(task, samples.items[index].path, classes_in(in_file)), stages, HEIGHT))
    return pictures or [NOTHING]


def validation_pictures(task: SceneTask, count: int) -> list[Picture]:
    """`count` validation images with their labels, one of each main class before a second of any.

    Images that cannot be read are skipped.
    """
    items, dataset = task.val_items, task.eval_samples(task.val_items)
    labeled, pictures = task.samples_of(items), []
    for row in _varied(task, labeled, len(items))[:count]:
        sample = dataset[row]
        try:
            in_file = labeled.as_in_file(row)
        except FileError as error:
            log.warning("cannot read %s: %s", error.path, error.reason)
            continue
        views = {
            f"view {number + 1} of {len(sample['images'])}": _drawn(task, {"images": as_seen(task, view)})
            for number, view in enumerate(sample["images"])
        }
        caption = _caption(task, items[row].path, classes_in(in_file))
        pictures.append(Picture(caption, {"in the file": _drawn(task, in_file), **views}, HEIGHT))
    return pictures or [NOTHING]


def prediction_pictures(task: SceneTask, model: nn.Module, count: int) -> list[Picture]:
    """Validation images, chosen as in `validation_pictures`, with their labels and with the network's predictions.

    Images that cannot be read, or whose labels cannot be, are skipped.
    """
    items, pictures = task.val_items, []
    labeled = task.samples_of(items)
    rows = [row for row in _varied(task, labeled, len(items)) if os.path.isfile(items[row].path)][:count]
    if not rows:
        return [NOTHING]
    inputs = task.find_inputs([items[row].path for row in rows])
    for seen in task.see(model, inputs):
        if seen.failure:
            continue
        row = rows[seen.row]
        try:
            in_file = labeled.as_in_file(row)
        except FileError as error:
            log.warning("cannot read %s: %s", error.path, error.reason)
            continue
        drawing, classes = task.drawing(seen.outputs), classes_in(in_file)
        if "label_map" in drawing:  # boxes show their names
            classes = [*dict.fromkeys([*classes, *classes_in({"label_maps": drawing["label_map"]})])]
        found = draw_scene(in_file["images"], **drawing, min_short_side=MIN_SIDE).movedim(0, 2)[None]
        stages = {"known": _drawn(task, in_file), "found": found}
        pictures.append(Picture(_caption(task, items[row].path, classes), stages, PAIR_HEIGHT))
    return pictures or [NOTHING]


def pixel_counts(items: LabelMapFiles, num_classes: int) -> np.ndarray:
    """Pixels of each class [K] in the first `MAX_COUNTED` images; skips unreadable ones."""
    counts = np.zeros(num_classes, np.int64)
    for row in range(min(len(items), MAX_COUNTED)):
        item = items[row]
        try:
            labels = items.read_labels(item, read_image(item.path).size[::-1])
        except FileError:
            continue
        counts += np.bincount(labels[labels != 255], minlength=num_classes)
    return counts


def as_seen(task: SceneTask, image: torch.Tensor) -> torch.Tensor:
    """An image of the network's input, without padding and normalization: uint8 [3, h, w]."""
    x = task.network_input([image])[0, :, : image.shape[1], : image.shape[2]].float()
    mean, std = (
        torch.tensor(values, device=x.device).view(3, 1, 1)
        for values in (task.settings.data.pixels.mean, task.settings.data.pixels.std)
    )
    return ((x * std + mean) * 255).round().clamp(0, 255).to(torch.uint8).cpu()


def classes_in(entries: Mapping[str, Any]) -> list[int]:
    """The classes of a sample's objects, or of its pixels; the most frequent first."""
    labels = entries["labels"] if "labels" in entries else entries["label_maps"].flatten()
    classes, counts = labels[labels != 255].unique(return_counts=True)
    return classes[counts.argsort(descending=True, stable=True)].tolist()


def _drawn(task: SceneTask, entries: Mapping[str, Any]) -> torch.Tensor:
    """An image with its labels drawn on it: uint8 [1, h, w, 3]."""
    names = {"boxes": "boxes", "labels": "labels", "masks": "masks", "ignored": "ignored", "label_maps": "label_map"}
    known = {argument: entries[name].cpu() for name, argument in names.items() if name in entries}
    drawn = draw_scene(entries["images"], **known, class_names=task.class_names, min_short_side=MIN_SIDE)
    return drawn.movedim(0, 2)[None]


def _caption(task: SceneTask, path: str, classes: Sequence[int]) -> list[str | list[tuple[str, tuple[int, int, int]]]]:
    """The name of the file, and some classes with their colors."""
    legend = [(task.class_names[label], class_color(label)) for label in classes[:MAX_NAMED]]
    more = [f"and {len(classes) - MAX_NAMED} more"] if len(classes) > MAX_NAMED else []
    return [path.rpartition("/")[2], legend or "nothing", *more]


def _varied(task: SceneTask, labeled: TrainSamples, number: int) -> Sequence[int]:
    """Rows of images, one of each main class before a second of any. Looks at 200 images."""
    labels = []
    for row in range(min(number, 200)):
        try:
            labels.append(next(iter(classes_in(labeled.as_in_file(row))), task.num_classes))
        except FileError:
            labels.append(task.num_classes)
    return first_of_each_class(np.array(labels))
