"""Shared by the scripts: the arguments that select a run and its weights, and the report of an evaluation.

What imports torch is imported where it is used, so that a script reads its arguments, and shows its help, at once.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from settings import SettingsError
from tools.output_files import check_folder

if TYPE_CHECKING:
    from engine.distributed import Ranks
    from engine.task import Task
    from inference.trained import Recipe

OTHER_FOLDER = "name a folder of your own with --run-dir, and the recipe and the weights with -c and --checkpoint"


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that select a recipe, a run and its weights."""
    parser.add_argument("-c", "--config", metavar="RECIPE", help="a recipe (default: the recipe of the run)")
    parser.add_argument(
        "--run-dir", type=Path, metavar="DIR", help="a run directory (default: that of the recipe, or the newest run)"
    )
    parser.add_argument(
        "--checkpoint", metavar="FILE", help="best, last or a file, which carries its recipe (default: best, else last)"
    )
    parser.add_argument("--average", action="store_true", help="use the averaged weights if the file has both")


def find_run(args: argparse.Namespace, overrides: Sequence[str], task: str | None = None) -> Recipe:
    """The recipe for the arguments of `add_run_arguments`.

    Raises SettingsError if the recipe is for another task than `task`.
    """
    from inference.trained import find_recipe

    recipe = find_recipe(args.config, args.run_dir, args.checkpoint, overrides)
    if task not in (None, recipe.settings.task):
        raise SettingsError(
            f"{args.config or recipe.run} is for the task {recipe.settings.task}, not {task}; use tools/evaluate.py"
        )
    return recipe


def report(task: Task, run: Path, checkpoint: str | None, ranks: Ranks, average: bool = False) -> None:
    """Evaluates the weights `checkpoint` (see `find_weights`), logs the scores and writes the report below `run`.

    Raises NotFinite after that if the score is NaN.
    """
    from engine.non_finite import check_score
    from engine.precision import autocast
    from engine.run import report_evaluation
    from engine.task import ResumeFolder
    from inference.trained import find_weights, load_model
    from tools.report_folder import claim_folder, describe, write_made_from

    weights = ranks.on_main(lambda: find_weights(run, checkpoint))  # the same file on every rank
    ranks.on_main(lambda: check_folder(run / "evaluations", OTHER_FOLDER))
    model = load_model(task, weights, ranks, average)
    made_from = describe(task, run, weights, average)
    suffixes = [weights.stem] * bool(checkpoint) + ["average"] * average
    folder = ranks.on_main(lambda: claim_folder(task, run, suffixes, made_from))
    unfinished = ResumeFolder(folder / "unfinished", made_from["weights"])
    with autocast(task.settings.train.precision, ranks.device):
        evaluation = task.evaluate_resumably(model, unfinished)
    title = f"{task.settings.task.replace('_', ' ')}, evaluated as {task.protocol}"
    facts = {"weights": str(weights), **task.report_facts()}
    ranks.on_main(lambda: report_evaluation(folder, title, facts, evaluation))
    if ranks.is_main:
        write_made_from(folder, made_from)
        shutil.rmtree(unfinished.path, ignore_errors=True)
    check_score(evaluation, ranks, str(weights))
