"""Scores the features of a network with a linear classifier (logistic regression), on folds or on another list.

    python tools/probe_features.py features --folds 5 --groups groups.txt         the mean over folds
    python tools/probe_features.py features_train --test features_test            trains on one list, scores another

FEATURES is a folder that tools/extract_features.py wrote for a list with one label for each file. Folds are those of
data.folds, data.fold_seed and data.fold_groups. The strength of the penalty, l2, is chosen by cross-validation over
folds of the training files, never by files that are scored.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.common.arguments import parse_arguments
from tools.common.errors import clear_errors
from tools.common.output_files import check_replaces_text, write_table

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    args = read_arguments(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    if args.csv is not None:
        check_replaces_text(args.csv, "choose another one with --csv")

    from inference.linear_probe import read_labeled, score_fold, score_list  # imports torch: too slow for --help
    from tools.sweeps.trials import spread

    data = read_labeled(args.features)
    folds = data.divide(args.folds, args.fold_seed, args.groups)
    if args.test is None:
        rounds = ((str(fold), score_fold(data, folds, fold)) for fold in range(args.folds))
    else:
        rounds = iter([("test", score_list(data, folds, read_labeled(args.test)))])
    scores = {}
    log.info("%-5s %6s %10s %6s", "fold", "files", "accuracy", "l2")
    for name, score in rounds:
        log.info("%-5s %6d %8.1f %% %6g", name, len(score.files), 100 * score.accuracy, score.l2)
        scores[name] = score
    if len(scores) > 1:
        mean, deviation = spread([100 * score.accuracy for score in scores.values()])
        log.info("%.1f ± %.1f %% (mean ± standard deviation of %d folds)", mean, deviation, len(scores))
    if args.csv is not None:
        classes = data.about["class_names"]
        rows = [
            (file.path, name, classes[file.label], classes[guess], f"{probabilities[guess]:.6f}")
            for name, score in scores.items()
            for file, guess, probabilities in zip(score.files, score.predictions, score.probabilities, strict=True)
        ]
        write_table(args.csv, ("path", "fold", "class", "guess", "probability"), rows)
        log.info("%s: the prediction for each file", args.csv)


def read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", type=Path, metavar="FEATURES", help="folder of features of a list with labels")
    parser.add_argument("--test", type=Path, metavar="FEATURES", help="score these, after training on all of FEATURES")
    parser.add_argument("--folds", type=int, default=5, metavar="N", help="number of folds, at least 3 (default: 5)")
    parser.add_argument("--fold-seed", type=int, default=0, metavar="N", help="seed of the folds (default: 0)")
    parser.add_argument("--groups", type=Path, metavar="TABLE", help="lines `id group`; a group's files share a fold")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the prediction for each file")
    args = parse_arguments(parser, argv)
    if args.folds < 3:
        parser.error(f"got --folds {args.folds}; expected at least 3: one is scored, the others choose the penalty")
    return args


if __name__ == "__main__":
    clear_errors(main)
