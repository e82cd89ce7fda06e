"""Shared by the scripts: finding a run and its weights, loading the network, writing the report of an evaluation."""

import argparse
import hashlib
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from engine.distributed import Ranks
from engine.fingerprint import warn_of_other_outputs
from engine.non_finite import check_score
from engine.precision import autocast, place_model
from engine.run import newest_run, report_evaluation, run_folder
from engine.task import ResumeFolder, Task, TaskSettings
from models import load_weights
from settings import SettingsError, parse_settings, read_recipe
from tasks import find_task

log = logging.getLogger(__name__)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that select a recipe, a run and its weights."""
    parser.add_argument("-c", "--config", metavar="RECIPE", help="a recipe (default: the recipe of the run)")
    parser.add_argument(
        "--run-dir", type=Path, metavar="DIR", help="a run directory (default: that of the recipe, or the newest run)"
    )
    parser.add_argument("--checkpoint", metavar="FILE", help="best, last or a file (default: best, else last)")
    parser.add_argument("--average", action="store_true", help="use the averaged weights if the file has both")


def find_run(
    args: argparse.Namespace, overrides: Sequence[str], task: str | None = None
) -> tuple[type[Task], TaskSettings, Path]:
    """The task class, settings and run directory for the arguments of `add_run_arguments`.

    Raises SettingsError if the recipe is for another task than `task`.
    """
    run = args.run_dir
    if args.config is None:
        run = run or newest_run()
    source = args.config or str(run / "recipe.yaml")
    task_class = find_task(read_recipe(source, overrides), source)
    if args.config is None:
        overrides = [*task_class.overrides_of_run(run), *overrides]
    recipe = read_recipe(source, overrides)
    if task not in (None, recipe["task"]):
        raise SettingsError(f"{source} is for the task {recipe['task']}, not {task}; use tools/evaluate.py")
    settings = parse_settings(task_class.Settings, recipe, source)
    return task_class, settings, run or run_folder(source, settings.run)


def find_weights(run: Path, checkpoint: str | None) -> Path:
    """The file for `checkpoint`: "best" or "last" of the run, or a path; None: best, else last."""
    named = {"best": run / "checkpoints/best.safetensors", "last": run / "checkpoints/last.pt"}
    if checkpoint is None:
        found = next((path for path in named.values() if path.exists()), None)
        if found is None:
            raise SettingsError(f"{run} has no checkpoint; train first, or give a file with --checkpoint")
        return found
    return named.get(checkpoint, Path(checkpoint))


def load_model(task: Task, weights: Path, ranks: Ranks, average: bool = False) -> nn.Module:
    """The network of the recipe in eval mode, with the weights of a file or their moving average."""
    model = task.build_model()
    log.info("%s: %s", weights, load_weights(model, weights, average=average))
    warn_of_other_outputs(weights, task.fingerprint("outputs"))
    return place_model(model, ranks.device, task.settings.train.channels_last).eval()


def report(task: Task, run: Path, checkpoint: str | None, ranks: Ranks, average: bool = False) -> None:
    """Evaluates the weights `checkpoint` (see `find_weights`), logs the scores and writes the report below `run`.

    Raises NotFinite after that if the score is NaN.
    """
    weights = ranks.on_main(lambda: find_weights(run, checkpoint))  # the same file on every rank
    model = load_model(task, weights, ranks, average)
    suffixes = [weights.stem] * bool(checkpoint) + ["average"] * average
    folder = run / "evaluations" / "-".join([task.protocol, *suffixes])
    unfinished = ResumeFolder(folder / "unfinished", {"weights": _hash(weights), "average": average})
    with autocast(task.settings.train.precision, ranks.device):
        evaluation = task.evaluate_resumably(model, unfinished)
    title = f"{task.settings.task.replace('_', ' ')}, evaluated as {task.protocol}"
    facts = {"weights": str(weights), **task.report_facts()}
    ranks.on_main(lambda: report_evaluation(folder, title, facts, evaluation))
    if ranks.is_main:
        shutil.rmtree(unfinished.path, ignore_errors=True)
        _write_page(run)
    check_score(evaluation, ranks, str(weights))


def _write_page(run: Path) -> None:
    from report.page import try_to_write_page  # imported here: only evaluations need it

    try_to_write_page(run)


def _hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
