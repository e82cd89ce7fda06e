"""Shared by the scripts: the recipe of a run and the report of an evaluation."""

import argparse
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from engine.distributed import Ranks
from engine.fingerprint import warn_of_other_training
from engine.non_finite import check_score
from engine.precision import autocast
from engine.run import report_evaluation
from engine.task import Evaluation, ResumeFolder, ShowsPredictions, Task
from inference.acceleration import AcceleratedNetwork, accelerate
from inference.trained import Recipe, find_recipe, find_weights, load_model
from report.page import try_to_write_page
from settings import SettingsError
from tools.common.output_files import check_folder
from tools.common.report_folder import claim_folder, describe, write_made_from
from tools.common.run_scores import chosen_by

log = logging.getLogger(__name__)

NUM_PICTURES = 12
"""Validation items on the sheet of predictions."""
OTHER_FOLDER = "name your own folder with --run-dir, and the recipe and the weights with -c and --checkpoint"


def _draw_predictions(task: Task, model: nn.Module, path: Path) -> None:
    """Draws predictions beside the truth, if the task can. A failure is only a warning: the scores are written."""
    if not isinstance(task, ShowsPredictions):
        return
    path.unlink(missing_ok=True)  # from an earlier evaluation
    try:
        from tools.pictures.contact_sheet import draw_sheet  # imports matplotlib, which takes a second

        draw_sheet(task.prediction_pictures(model, NUM_PICTURES), path, "predictions for validation images")
        log.info("pictures of predictions: %s", path)
    except Exception as error:
        log.warning("cannot draw %s: %s", path, error)


def find_run(args: argparse.Namespace, overrides: Sequence[str], task: str | None = None) -> Recipe:
    """The recipe for the arguments of `tools.common.arguments.add_run_arguments`.

    Raises SettingsError if the recipe is for another task than `task`.
    """
    places = (args.config, args.run_dir, args.checkpoint)
    recipe = find_recipe(*places, overrides if task is None else ())
    if task not in (None, recipe.settings.task):
        raise SettingsError(
            f"{args.config or recipe.run} is for the task {recipe.settings.task}, not {task}; use tools/evaluate.py"
        )
    return recipe if task is None else find_recipe(*places, overrides)


def report(task: Task, run: Path, checkpoint: str | None, ranks: Ranks, average: bool = False) -> Evaluation | None:
    """Evaluates the weights `checkpoint` (see `find_weights`), logs the scores and writes the report below `run`.

    Returns the evaluation on the main rank. Raises NotFinite after that if the score is NaN.
    """
    weights = ranks.on_main(lambda: find_weights(run, checkpoint))  # the same file on every rank
    ranks.on_main(lambda: check_folder(run / "evaluations", OTHER_FOLDER))
    if task.holds_out:
        task.warn_of_scored_training_items()  # on all ranks, which may make demo files together
        if ranks.is_main:
            warn_of_other_training(weights, task.fingerprint("training"))
    model = accelerate(task, load_model(task, weights, ranks, average), weights, average)
    made_from = describe(task, run, weights, average)
    suffixes = [weights.stem] * bool(checkpoint) + ["average"] * average
    if isinstance(model, AcceleratedNetwork):
        made_from["weights"]["acceleration"] = model.choice.method
        suffixes.append(model.choice.method)
    folder = ranks.on_main(lambda: claim_folder(task, run, suffixes, made_from))
    unfinished = ResumeFolder(folder / "unfinished", made_from["weights"])
    with autocast(task.precision, ranks.device):
        evaluation = task.evaluate_resumably(model, unfinished)
    title = f"{task.settings.task.replace('_', ' ')}, evaluated as {task.protocol}"
    facts = {"weights": str(weights), **task.report_facts()}
    if "acceleration" in facts:  # replaces the setting by what it resulted in
        facts["acceleration"] = str(model.choice) if isinstance(model, AcceleratedNetwork) else "off"
    if task.precision != "float32" and not isinstance(model, AcceleratedNetwork):
        facts["precision"] = task.precision
        title += f", in {task.precision}"
    if ranks.is_main and (choice := chosen_by(run, weights)) is not None:
        facts["chosen_by"] = choice
    ranks.on_main(lambda: report_evaluation(folder, title, facts, evaluation))
    if ranks.is_main:
        write_made_from(folder, made_from)
        _draw_predictions(task, model, folder / "predictions.png")
        shutil.rmtree(unfinished.path, ignore_errors=True)
        try_to_write_page(run)
    check_score(evaluation, ranks, str(weights))
    return evaluation
