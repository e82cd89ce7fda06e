"""Features of lists, folders or single files with a trained network, written to a folder of shards."""

import csv
import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets.file_list import FileList
from engine.checkpoint import write_atomically
from engine.precision import autocast
from engine.progress import progress_bar
from engine.task import Batch, Task, TaskSettings
from inference.feature_shards import FAILURES, Shard, ShardFolder
from inference.layer_features import POOLED, LayerFeatures
from inference.trained import TrainedNetwork, weights_digest
from settings import SettingsError
from tasks.classification import Classification, classifies_pictures
from tasks.evaluation_key import settings_key
from tasks.network_check import explained

log = logging.getLogger(__name__)

SHARD_BYTES = 64 * 2**20
"""A shard is in memory until it is written."""
MAX_FILES_PER_SHARD = 1024


@dataclass(frozen=True)
class FeatureOptions:
    """What to extract and how to write it; see `LayerFeatures` and `ShardFolder`."""

    layer: str = POOLED
    level: str = "video"
    """"video" averages the features of a file's views, "clip" keeps each."""
    pool: str = "mean"
    channels: str = "auto"
    format: str = "npz"
    files_per_shard: int | None = None
    """None: as many as fit in `SHARD_BYTES`. Rounded up to whole batches."""


@dataclass(frozen=True)
class Extracted:
    """Number of files of the list that have features."""

    num_files: int
    failures: list[dict[str, Any]]
    """Files that could not be read: dicts with path, reason, index."""

    @property
    def status(self) -> int:
        """0: all files were read, 1: some were not, 2: none was."""
        return 0 if not self.failures else 1 if len(self.failures) < self.num_files else 2


def extract_features(
    trained: TrainedNetwork, files: FileList, folder: Path, options: FeatureOptions = FeatureOptions()
) -> Extracted | None:
    """Writes the features of `files` to `folder`, continuing what is there; None on ranks other than the main one.

    Every rank calls this, and each writes whole shards. The features depend neither on the number of ranks nor on the
    number of dataloader workers.

    Raises:
        SettingsError: the network has no such layer, or the folder has other features.
        CheckpointError: the folder cannot be written.
    """
    task, ranks = trained.task, trained.task.ranks
    extractor = LayerFeatures(trained.model, options.layer, options.pool, options.channels).to(ranks.device)
    dataset = task.eval_views(files)
    shape = _shape_of_features(task, extractor)
    if options.level == "clip":
        shape = (dataset.num_views, *shape)
    files_per_batch = task.files_per_batch(dataset)
    size = options.files_per_shard or min(MAX_FILES_PER_SHARD, SHARD_BYTES // (4 * max(1, int(np.prod(shape)))))
    size = -(-max(1, size) // files_per_batch) * files_per_batch  # whole batches: the same in any shard
    shards = ShardFolder(folder, files, size, options.format, shape)
    ranks.on_main(lambda: shards.open(_describe(trained, files, options, shape)))
    missing = shards.missing()
    if len(missing) < len(shards):
        log.info("%s: %d of %d shards are done", folder, len(shards) - len(missing), len(shards))
    ranks.barrier()  # no rank writes before all have looked
    mine = missing[ranks.rank :: ranks.num_ranks]
    for number, shard in _extract_shards(task, extractor, shards, mine, options.level):
        shards.write(number, shard)
    ranks.barrier()
    return _finish(shards) if ranks.is_main else None


def _shape_of_features(task: Classification, extractor: LayerFeatures) -> tuple[int, ...]:
    """The shape of a view's features. The forward pass also detects an unusable layer before any file is read."""
    _, shape = task.validation_shape()
    views = task.network_input(torch.zeros(2, *shape, dtype=torch.uint8, device=task.ranks.device))
    with explained(task):
        features = _run(task, extractor, views)
    log.info("%s: %s for each view", extractor.layer, list(features.shape[1:]))
    return tuple(features.shape[1:])


@torch.no_grad()
def _run(task: Classification, extractor: LayerFeatures, views: torch.Tensor) -> torch.Tensor:
    with autocast(task.settings.train.precision, task.ranks.device):
        return extractor(views).float().cpu()


def _extract_shards(
    task: Classification, extractor: LayerFeatures, shards: ShardFolder, numbers: list[int], level: str
) -> Iterator[tuple[int, Shard]]:
    """The shards `numbers`, one after the other."""
    dataset = task.eval_views(shards.files)
    size = task.files_per_batch(dataset)
    wanted = set(numbers)
    others = {row for number in range(len(shards)) if number not in wanted for row in shards.rows(number)}
    num_batches = sum(-(-len(shards.rows(number)) // size) for number in numbers)
    current, shard = None, Shard()
    with progress_bar(num_batches, 0, task.ranks, "features", unit="batch") as bar:
        for batch in task.view_batches(dataset, others):
            first = int(batch["index"][0]) if len(batch["index"]) else batch["failures"][0]["index"]
            number = first // shards.files_per_shard
            if current not in (None, number):
                yield current, shard
                shard = Shard()
            current = number
            _add(shard, batch, task, extractor, level)
            bar.update()
    if current is not None:
        yield current, shard


def _add(shard: Shard, batch: Batch, task: Classification, extractor: LayerFeatures, level: str) -> None:
    shard.failures += batch["failures"]
    if len(batch["index"]) == 0:
        return
    views = batch["views"].flatten(0, 1)  # [B, V, ...] -> [B * V, ...]
    parts = [_run(task, extractor, task.network_input(part)) for part in views.split(task.views_per_forward)]
    features = torch.cat(parts).unflatten(0, batch["views"].shape[:2])  # [B, V, ...]
    if level == "video":
        features = features.mean(1)
    shard.index += batch["index"].tolist()
    shard.features += list(features.numpy())


def _describe(
    trained: TrainedNetwork, files: FileList, options: FeatureOptions, shape: tuple[int, ...]
) -> dict[str, Any]:
    task, weights = trained.task, trained.weights
    names = hashlib.sha256("\n".join(files.identities()).encode("utf-8", "surrogateescape"))
    sizes = hashlib.sha256("\n".join(str(_size(path)) for path in files.paths()).encode())
    return {
        "model": task.settings.model.name,
        "layer": options.layer,
        "level": options.level,
        "pool": options.pool,
        "channels": options.channels,
        "shape": shape,
        "protocol": task.protocol,
        "item": task.item,
        "num_files": len(files),
        "class_names": task.class_names,
        "weights_sha256": weights_digest(weights),
        "files_sha256": names.hexdigest(),
        "file_sizes_sha256": sizes.hexdigest(),
        "settings": settings_key(task),
    }


def _size(path: str) -> int:
    """Bytes of a file; -1 if it is no file. Another video of the same name nearly always has another size."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def _finish(shards: ShardFolder) -> Extracted:
    failures = shards.failures()

    def write(temporary: Path) -> None:
        with open(temporary, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            table = csv.writer(file)
            table.writerow(["index", "path", "reason"])
            table.writerows((failure["index"], failure["path"], failure["reason"]) for failure in failures)

    write_atomically(shards.folder / FAILURES, write)
    return Extracted(len(shards.files), failures)


def check_task(task_class: type[Task], settings: TaskSettings) -> None:
    """Raises SettingsError if the task's networks do not take views of files."""
    if not classifies_pictures(task_class):
        raise SettingsError(
            f"this works for classification, and the network is for {settings.task}: it takes no views of one size"
        )


def files_to_extract(task: Classification, places: list[str]) -> FileList:
    """The files in `places`: files, or folders to search; none: the validation list of the recipe.

    Raises SettingsError if there is nothing.
    """
    if not places:
        return task.val_files
    try:
        return task.find_inputs(places)
    except (OSError, ValueError) as error:
        raise SettingsError(str(error)) from error
