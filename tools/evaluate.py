"""Evaluates a trained network on the recipe's validation list, every video exactly once.

    python tools/evaluate.py                                        the newest run, as its recipe says
    python tools/evaluate.py --run-dir runs/demo/glore_motion --checkpoint last
    python tools/evaluate.py -c configs/kinetics/glore_resnet50_8x8.yaml --checkpoint FILE evaluation.num_clips=10

FILE is one of our checkpoints or a file that the authors released. The report goes to `evaluations/` in the run
directory.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that wait leave the cores to the decoders

from engine.precision import autocast, place_model
from engine.ranks import Ranks, join_ranks
from engine.report import summary_lines, write_report
from engine.run import newest_run, run_folder, start_logging
from engine.settings import SettingsError, parse_settings, read_recipe
from models import load_weights
from tasks import find_task
from tasks.clip_classification import ClipClassification
from tools.messages import clear_errors

log = logging.getLogger(__name__)


def find_weights(run: Path, checkpoint: str | None) -> Path:
    """The file that `checkpoint` names: "best" or "last" of the run directory, or a path; None: best, else last."""
    named = {"best": run / "checkpoints/best.safetensors", "last": run / "checkpoints/last.pt"}
    if checkpoint is None:
        found = next((path for path in named.values() if path.exists()), None)
        if found is None:
            raise SettingsError(f"{run} holds no checkpoint; train first, or name a file with --checkpoint")
        return found
    return named.get(checkpoint, Path(checkpoint))


def load_model(task: ClipClassification, weights: Path, ranks: Ranks):
    """The recipe's network with the weights of the file, ready to predict."""
    model = task.build_model()
    log.info("%s", load_weights(model, weights))
    return place_model(model, ranks.device, task.settings.train.channels_last).eval()


def report(task: ClipClassification, run: Path, checkpoint: str | None, ranks: Ranks) -> None:
    """Evaluates the weights, prints the scores and writes the report below `run`."""
    weights = find_weights(run, checkpoint)
    model = load_model(task, weights, ranks)
    with autocast(task.settings.train.precision, ranks.device):
        evaluation = task.evaluate(model)
    if evaluation is None:
        return
    views = task.settings.evaluation
    folder = run / "evaluations" / f"{views.num_clips}x{views.num_crops}"
    facts = {"weights": str(weights), "list": task.settings.data.val, **views.model_dump()}
    write_report(folder, evaluation, task.class_names, task.describe, facts)
    for line in (f"{weights}, {views.num_clips} x {views.num_crops} views per video", *summary_lines(evaluation)):
        log.info("%s", line)
    log.info("report: %s", folder)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", metavar="RECIPE", help="a recipe; without one: that of the run")
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help="a run directory; else the recipe's, or the newest")
    parser.add_argument("--checkpoint", metavar="FILE", help="best, last, or a file; without it: best, else last")


def find_run(config: str | None, run: Path | None, overrides: Sequence[str]):
    """The task class, the settings and the run directory that the arguments of `add_run_arguments` mean."""
    if config is None:
        run = run or newest_run()
        if (run / "class_names.txt").exists():  # the training videos need not be there
            overrides = [f"data.class_names={run / 'class_names.txt'}", *overrides]
    source = config or str(run / "recipe.yaml")
    recipe = read_recipe(source, overrides)
    task_class = find_task(recipe, source)
    settings = parse_settings(task_class.Settings, recipe, source)
    return task_class, settings, run or run_folder(source, settings.run)


def main(argv: Sequence[str] | None = None, presets: Sequence[str] = (), description: str | None = __doc__) -> None:
    """`presets` are overrides that the arguments may override again."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_run_arguments(parser)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, such as data.val=LIST")
    args = parser.parse_args(argv)
    task_class, settings, run = find_run(args.config, args.run_dir, [*presets, *args.overrides])
    with join_ranks(**settings.run.process_options()) as ranks:
        start_logging(ranks)
        report(task_class(settings, ranks), run, args.checkpoint, ranks)


if __name__ == "__main__":
    clear_errors(main)
