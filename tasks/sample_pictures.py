"""Images of the samples of a classification task: the frames in the file and the network's input."""

import logging
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import torch

from datasets.file_list import FileItem, FileList
from engine.seeding import seed_position
from engine.task import Picture

if TYPE_CHECKING:
    from tasks.classification import Classification

log = logging.getLogger(__name__)


def training_pictures(task: "Classification", count: int) -> list[Picture]:
    """The first `count` training samples, at most one batch: the file's frames and the network's input."""
    batch_size = task.settings.train.samples_per_forward(task.ranks)
    if not task.settings.data.mix.is_on:  # mixing needs the whole batch
        batch_size = min(batch_size, count)
    (batch,) = task.train_batches(0, 1, batch_size, "train")
    seed_position(task.settings.run.seed, 0)
    views, targets = task.training_input(batch)
    dataset, pictures = task.train_samples("train"), []
    for number in range(min(count, batch_size)):
        item = dataset.items[int(batch["index"][number])]
        lines = [caption(task, dataset.items, item), *_mixture(task, targets[number])]
        stages = {"as decoded": dataset.whole(number), "network input": to_frames(task, views[number])}
        pictures.append(Picture(lines, stages))
    for failure in batch["failures"]:
        log.warning("cannot read %s: %s", failure["path"], failure["reason"])
    return pictures


def validation_pictures(task: "Classification", count: int) -> list[Picture]:
    """All views of `count` validation files, one of each class before a second of any; skips unreadable files."""
    dataset, pictures = task.eval_views(task.val_files), []
    for number in first_of_each_class(task.val_files.labels)[:count]:
        sample, item = dataset[number], dataset.items[number]
        if "failure" in sample:
            log.warning("cannot read %s: %s", item.path, sample["failure"]["reason"])
            continue
        views = task.network_input(sample["views"].to(task.ranks.device))  # [V, 3, ..., S, S]
        stages = {f"{task.view} {k + 1} of {len(views)}": to_frames(task, view) for k, view in enumerate(views)}
        pictures.append(Picture([caption(task, dataset.items, item)], stages))
    return pictures or [Picture(["no validation file can be read"], {"": torch.zeros(1, 8, 8, 3, dtype=torch.uint8)})]


def first_of_each_class(labels: np.ndarray) -> list[int]:
    """All positions in `labels` [N]: the first of each label, in the order of labels, then the second of each, ..."""
    turns, seen = [], Counter()
    for label in labels.tolist():
        turns.append(seen[label])
        seen[label] += 1
    return np.lexsort((labels, turns)).tolist()


def to_frames(task: "Classification", view: torch.Tensor) -> torch.Tensor:
    """Network input, float [3, S, S] or [3, T, S, S] -> uint8 [T, S, S, 3], with the normalization undone."""
    clip = view if view.ndim == 4 else view[:, None]  # [3, T, S, S]
    mean, std = (torch.tensor(values, device=clip.device).view(3, 1, 1, 1) for values in task.normalization)
    levels = ((clip.float() * std + mean) * 255).round().clamp(0, 255)
    return levels.to(torch.uint8).permute(1, 2, 3, 0).cpu().contiguous()


def class_counts(task: "Classification") -> dict[str, np.ndarray]:
    """Files per class [C] of each list, and, with sampling weights, how often they are seen per training epoch."""
    num_classes, weights = task.num_classes, task.train_weights
    rows, labels = task.train_files.labeled_rows()
    counts = {"training, listed": np.bincount(labels, minlength=num_classes)}
    if weights is not None:
        seen = np.bincount(labels, weights[rows], minlength=num_classes)
        counts["training, seen in an epoch"] = seen * len(weights) / weights.sum()
    counts["validation"] = np.bincount(task.val_files.labeled_rows()[1], minlength=num_classes)
    return counts


def caption(task: "Classification", files: FileList, item: FileItem) -> str:
    names = [f"{label} {task.class_names[label]}" for label in files.labels_of(item.index)]
    return f"{item.id}: {', '.join(names) or 'no label'}"


def _mixture(task: "Classification", target: torch.Tensor) -> list[str]:
    """The classes of a mixed sample and their weights; [] without mixing."""
    if not task.settings.data.mix.is_on:
        return []
    largest = target.topk(min(8 if task.multi_label else 2, len(target)))
    parts = zip(largest.values.tolist(), largest.indices.tolist(), strict=True)
    return [" + ".join(f"{share:.2f} {task.class_names[label]}" for share, label in parts if share > 0.01)]
