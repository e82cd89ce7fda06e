"""Shows what a network really sees: samples before and after they are changed, with labels and ids.

    python tools/show_data.py configs/demo/glore_motion.yaml
    python tools/show_data.py configs/demo/eurnet_shapes.yaml --count 12 data.train_view.color_jitter=0

It takes the first samples of the run that the recipe would be, as the first step of one process would have them, and
writes into the output folder
  train.png    the files' own frames, and what the network takes of them: cropped, colored, mixed
  train.gif    the same, moving
  val.png      every view of the first validation files
  classes.png  how many files each class has; in training, how often they are seen in an epoch, too
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that wait leave the cores to the decoders

import numpy as np
import torch

from datasets.file_list import FileItem, FileList
from engine.distributed import Ranks, join_ranks
from engine.run import start_logging
from engine.trainer import seed_position
from settings import parse_settings, read_recipe
from tasks import Task, find_task
from tools.contact_sheet import Sample, draw_animation, draw_classes, draw_sheet
from tools.errors import clear_errors

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", metavar="RECIPE", help="a recipe below configs/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change: data.repeats=2")
    parser.add_argument("--count", type=int, default=8, metavar="N", help="samples to show (8)")
    parser.add_argument("--fps", type=float, default=4, metavar="N", help="frames per second of the GIF (4)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where to (pictures/ and the recipe's name)")
    args = parser.parse_intermixed_args(argv)
    if args.count < 1 or args.fps <= 0:
        parser.error(
            f"--count is {args.count} and --fps {args.fps:g}; expected at least one sample, and a rate above 0"
        )
    recipe = read_recipe(args.config, args.overrides)
    task_class = find_task(recipe, args.config)
    settings = parse_settings(task_class.Settings, recipe, args.config)
    folder = args.output or Path("pictures", Path(args.config).stem)

    with join_ranks(**settings.run.process_options()) as ranks:
        start_logging(ranks)
        task = task_class(settings, ranks)
        folder.mkdir(parents=True, exist_ok=True)
        samples = training_samples(task, args.count, ranks)
        draw_sheet(samples, folder / "train.png")
        draw_animation(samples, folder / "train.gif", args.fps)
        draw_sheet(validation_samples(task, args.count), folder / "val.png")
        draw_classes(class_counts(task), task.class_names, folder / "classes.png")
    log.info("%s: train.png, train.gif, val.png, classes.png", folder)


def training_samples(task: Task, count: int, ranks: Ranks) -> list[Sample]:
    """The first `count` samples, or as many as pass through the network at once, from the whole file to the network."""
    batch_size = task.settings.train.samples_per_forward(ranks)
    if not task.settings.data.mix.is_on:  # with mixing, others of the batch show through
        batch_size = min(batch_size, count)
    (batch,) = task.train_batches(0, 1, batch_size, "train")
    seed_position(task.settings.run.seed, 0)
    views, targets = task.training_input(batch)
    dataset, samples = task.train_samples("train"), []
    for number in range(min(count, batch_size)):
        item = dataset.files[int(batch["index"][number])]
        lines = [_caption(task, dataset.files, item), *_mixture(task, targets[number])]
        stages = {"the file's": dataset.whole(number), "the network's": to_frames(task, views[number])}
        samples.append(Sample(lines, stages))
    for failure in batch["failures"]:
        log.warning("cannot read %s: %s", failure["path"], failure["reason"])
    return samples


def validation_samples(task: Task, count: int) -> list[Sample]:
    """Every view of the first `count` validation files that can be read."""
    dataset, samples = task.eval_views(task.val_files), []
    for number in range(min(count, len(dataset))):
        read, item = dataset[number], dataset.files[number]
        if "failure" in read:
            log.warning("cannot read %s: %s", item.path, read["failure"]["reason"])
            continue
        views = task.network_input(read["views"].to(task.ranks.device))  # [V, 3, ..., S, S]
        stages = {f"{task.view} {k + 1} of {len(views)}": to_frames(task, view) for k, view in enumerate(views)}
        samples.append(Sample([_caption(task, dataset.files, item)], stages))
    return samples or [Sample(["no validation file can be read"], {"": torch.zeros(1, 8, 8, 3, dtype=torch.uint8)})]


def to_frames(task: Task, view: torch.Tensor) -> torch.Tensor:
    """What the network takes, float [3, S, S] or [3, T, S, S] -> uint8 [T, S, S, 3], no longer normalized."""
    clip = view if view.ndim == 4 else view[:, None]  # [3, T, S, S]
    mean, std = (torch.tensor(values, device=clip.device).view(3, 1, 1, 1) for values in task.normalization)
    levels = ((clip.float() * std + mean) * 255).round().clamp(0, 255)
    return levels.to(torch.uint8).permute(1, 2, 3, 0).cpu().contiguous()


def class_counts(task: Task) -> dict[str, np.ndarray]:
    """Files of each class [C] by list, and how often those of training are seen in an epoch where that differs."""
    num_classes, weights = task.num_classes, task.train_weights
    rows, labels = task.train_files.labeled_rows()
    counts = {"training, listed": np.bincount(labels, minlength=num_classes)}
    if weights is not None:
        seen = np.bincount(labels, weights[rows], minlength=num_classes)
        counts["training, seen in an epoch"] = seen * len(weights) / weights.sum()
    counts["validation"] = np.bincount(task.val_files.labeled_rows()[1], minlength=num_classes)
    return counts


def _caption(task: Task, files: FileList, item: FileItem) -> str:
    names = [f"{label} {task.class_names[label]}" for label in files.labels_of(item.index)]
    return f"{item.id}: {', '.join(names) or 'no label'}"


def _mixture(task: Task, target: torch.Tensor) -> list[str]:
    """What a mixed sample is made of; nothing for a plain label."""
    if not task.settings.data.mix.is_on:
        return []
    largest = target.topk(min(8 if task.multi_label else 2, len(target)))
    parts = zip(largest.values.tolist(), largest.indices.tolist(), strict=True)
    return [" + ".join(f"{share:.2f} {task.class_names[label]}" for share, label in parts if share > 0.01)]


if __name__ == "__main__":
    clear_errors(main)
