"""What the scripts share: which run is meant, its weights, its network, and the report of an evaluation."""

import argparse
import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engine.distributed import Ranks
from engine.precision import autocast, place_model
from engine.run import newest_run, run_folder
from evaluators.classification_report import summary_lines, write_report
from evaluators.resumable_predictions import PartialPredictions
from models import load_weights
from settings import Settings, SettingsError, parse_settings, read_recipe
from tasks import Task, find_task

log = logging.getLogger(__name__)

HOW_FILES_ARE_READ = ("num_workers", "worker_start", "timeout_seconds")


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that say which weights are meant."""
    parser.add_argument("-c", "--config", metavar="RECIPE", help="a recipe; without one: that of the run")
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help="a run directory; else the recipe's, or the newest")
    parser.add_argument("--checkpoint", metavar="FILE", help="best, last, or a file; without it: best, else last")
    parser.add_argument("--average", action="store_true", help="of a file with both, the moving average of the weights")


def find_run(
    args: argparse.Namespace, overrides: Sequence[str], task: str | None = None
) -> tuple[type[Task], Settings, Path]:
    """The task class, the settings and the run directory that the arguments of `add_run_arguments` mean.

    Raises SettingsError where the recipe is of another task than `task`.
    """
    run = args.run_dir
    if args.config is None:
        run = run or newest_run()
        if (run / "class_names.txt").exists():  # the training videos need not be there
            overrides = [f"data.class_names={json.dumps(str(run / 'class_names.txt'))}", *overrides]
    source = args.config or str(run / "recipe.yaml")
    recipe = read_recipe(source, overrides)
    task_class = find_task(recipe, source)
    if task not in (None, recipe["task"]):
        raise SettingsError(f"{source} is of the task {recipe['task']}, not {task}; score it by tools/evaluate.py")
    settings = parse_settings(task_class.Settings, recipe, source)
    return task_class, settings, run or run_folder(source, settings.run)


def find_weights(run: Path, checkpoint: str | None) -> Path:
    """The file that `checkpoint` names: "best" or "last" of the run directory, or a path; None: best, else last."""
    named = {"best": run / "checkpoints/best.safetensors", "last": run / "checkpoints/last.pt"}
    if checkpoint is None:
        found = next((path for path in named.values() if path.exists()), None)
        if found is None:
            raise SettingsError(f"{run} holds no checkpoint; train first, or name a file with --checkpoint")
        return found
    return named.get(checkpoint, Path(checkpoint))


def load_model(task: Task, weights: Path, ranks: Ranks, average: bool = False) -> nn.Module:
    """The recipe's network with the weights of the file, or their moving average, ready to predict."""
    model = task.build_model()
    log.info("%s: %s", weights, load_weights(model, weights, average=average))
    return place_model(model, ranks.device, task.settings.train.channels_last).eval()


def report(task: Task, run: Path, checkpoint: str | None, ranks: Ranks, average: bool = False) -> None:
    """Evaluates the weights that `checkpoint` names, prints the scores and writes the report below `run`."""
    weights = ranks.on_main(lambda: find_weights(run, checkpoint))  # the same file for every rank
    model = load_model(task, weights, ranks, average)
    suffixes = [weights.stem] * bool(checkpoint) + ["average"] * average
    folder = run / "evaluations" / "-".join([task.protocol, *suffixes])
    partial = PartialPredictions(folder / "partial", _key(task, weights, average), ranks)
    with autocast(task.settings.train.precision, ranks.device):
        evaluation = task.evaluate(model, partial)
    if evaluation is None:
        return
    facts = {"weights": str(weights), "list": task.settings.data.val, **task.settings.evaluation.model_dump()}
    write_report(folder, evaluation, task.class_names, task.describe, facts)
    partial.remove()
    log.info("%s of each %s:", task.protocol, evaluation.item)
    for line in summary_lines(evaluation):
        log.info("%s", line)
    log.info("report: %s", folder)


def _key(task: Task, weights: Path, average: bool) -> dict[str, Any]:
    """All that the predictions of an evaluation depend on."""
    recipe = task.resolved_recipe()
    content = hashlib.sha256()
    with open(weights, "rb") as file:
        while block := file.read(1 << 24):
            content.update(block)
    files = hashlib.sha256("".join(f"{item.label} {item.path}\n" for item in task.val_files).encode())
    settings = {name: recipe[name] for name in ("task", "model", "evaluation")}
    settings["data"] = {name: value for name, value in recipe["data"].items() if name not in HOW_FILES_ARE_READ}
    settings["precision"] = recipe["train"]["precision"]
    return {
        "weights": content.hexdigest(),
        "average": average,
        "files": files.hexdigest(),
        "settings": settings,
        "device": task.ranks.device.type,
        "num_threads": torch.get_num_threads(),
    }
