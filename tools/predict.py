"""Predicts on your own videos or images with a trained network.

    python tools/predict.py VIDEO [VIDEO ...]                       with the newest run
    python tools/predict.py --run-dir runs/demo/glore_motion --top 3 --csv guesses.csv VIDEO ...
    python tools/predict.py -c RECIPE --checkpoint FILE data.class_names=TABLE VIDEO ...
    python tools/predict.py --above 0.5 --top 157 VIDEO ...         multi-label: all likely classes

A folder means all videos in it. The recipe sets the views of each video; for ten clips per video, for example, add
evaluation.num_clips=10.
"""

import argparse
import csv
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: spinning threads slow the decoders

from engine.distributed import join_ranks
from engine.non_finite import NotFinite
from engine.precision import autocast
from engine.run import start_logging
from engine.task import Predicts
from inference.trained import find_weights, load_model
from settings import SettingsError
from tools.errors import clear_errors
from tools.loading_runs import add_run_arguments, find_run

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_run_arguments(parser)
    parser.add_argument("--top", type=int, default=5, metavar="N", help="guesses to show per file (5)")
    parser.add_argument(
        "--above", type=float, default=0.0, metavar="P", help="show only guesses with at least this probability (0)"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the guesses to a CSV file")
    parser.add_argument(
        "arguments", nargs="+", metavar="FILE | key=value", help="videos, images or folders, and settings to change"
    )
    args = parser.parse_args(argv)
    if args.top < 1:
        parser.error(f"got --top {args.top}; it must be at least 1")
    overrides = [argument for argument in args.arguments if "=" in argument and not Path(argument).exists()]
    task_class, settings, run = find_run(args, overrides)
    if not issubclass(task_class, Predicts):
        raise SettingsError(
            f"the task {settings.task} cannot predict on your own files: it does not implement `answer`"
        )
    try:
        inputs = task_class.find_inputs([argument for argument in args.arguments if argument not in overrides])
    except (OSError, ValueError) as error:
        raise SettingsError(str(error)) from error

    with join_ranks(**settings.run.process_options()) as ranks:
        start_logging(ranks)
        task = task_class(settings, ranks)
        model = load_model(task, find_weights(run, args.checkpoint), ranks, args.average)
        with autocast(settings.train.precision, ranks.device):
            answers = task.answer(model, inputs, args.top)
    if answers is None:
        return
    rows = []
    for path, guesses in answers.rows:
        log.info("%s", path)
        if not guesses:
            log.warning("  no guess: the network's outputs are NaN or infinite")
        for name, probability in guesses:
            if probability >= args.above:
                log.info("  %6.2f %%  %s", 100 * probability, name)
                rows.append((path, name, f"{probability:.6f}"))
    for failure in answers.failures:
        log.warning("cannot read %s: %s", failure["path"], failure["reason"])
    if args.csv:
        _write_table(args.csv, rows)
    if answers.problem:
        raise NotFinite(answers.problem)


def _write_table(path: Path, rows: list[tuple[str, str, str]]) -> None:
    try:
        # A path that is not valid UTF-8 is written with escapes, so that the table is.
        with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            csv.writer(file).writerows([("path", "class", "probability"), *rows])
    except OSError as error:
        raise SettingsError(f"--csv: cannot write {path}: {error.strerror}") from error


if __name__ == "__main__":
    clear_errors(main)
