"""Says what a trained network sees in your own videos.

    python tools/predict.py VIDEO [VIDEO ...]                       by the newest run
    python tools/predict.py --run runs/demo/glore_motion --top 3 --csv guesses.csv VIDEO ...
    python tools/predict.py -c RECIPE --checkpoint FILE --class-names TABLE VIDEO ...

A folder stands for all the videos in it. The views of each video are those of the recipe; for example, ten clips:
evaluation.num_clips=10 as a further argument.
"""
import argparse
import csv
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from datasets.video import find_videos
from engine.precision import autocast
from engine.ranks import join_ranks
from engine.run import newest_run, run_folder, start_logging
from engine.settings import parse_settings, read_recipe
from tasks import find_task
from tools.evaluate import find_weights, load_model
from tools.messages import clear_errors

log = logging.getLogger(__name__)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--config", metavar="RECIPE", help="a recipe; without one: that of the run")
    parser.add_argument("--run", type=Path, metavar="DIR", help="a run directory; without one: the recipe's, or the newest")
    parser.add_argument("--checkpoint", metavar="FILE", help="best, last, or a file; without it: best, else last")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="guesses to show for each video (5)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the guesses as a table")
    parser.add_argument("arguments", nargs="+", metavar="VIDEO | key=value", help="videos, folders, settings to change")
    args = parser.parse_args()
    overrides = [argument for argument in args.arguments if "=" in argument and not Path(argument).exists()]
    videos = find_videos([argument for argument in args.arguments if argument not in overrides])

    run = args.run if args.run or args.config else newest_run()
    source = args.config or run / "recipe.yaml"
    recipe = read_recipe(source, overrides)
    task_class = find_task(recipe, str(source))
    settings = parse_settings(task_class.Settings, recipe, str(source))
    run = run or run_folder(source, settings.run)
    with join_ranks(settings.run.device) as ranks:
        start_logging(ranks)
        task = task_class(settings, ranks)
        model = load_model(task, find_weights(run, args.checkpoint), ranks)
        with autocast(settings.train.precision, ranks.device):
            predictions = task.predict(model, videos)
    if predictions is None:
        return
    names = task.class_names
    rows = []
    for index, probabilities in zip(predictions.index, predictions.probabilities, strict=True):
        path = videos[int(index)].path
        log.info("%s", path)
        for guess in np.argsort(-probabilities, kind="stable")[: args.top]:
            log.info("  %6.2f %%  %s", 100 * probabilities[guess], names[guess])
            rows.append((path, names[guess], f"{probabilities[guess]:.6f}"))
    for failure in predictions.failures:
        log.warning("cannot read %s: %s", failure["path"], failure["reason"])
    if args.csv:
        with open(args.csv, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("path", "class", "probability"), *rows])


if __name__ == "__main__":
    clear_errors(main)
