"""Trains a table of recipes, each with several seeds, and compares scores, time and cost.

    python tools/compare.py configs/demo/hornet_shapes.yaml configs/demo/eat_shapes.yaml --seeds 3
    python tools/compare.py configs/real/cifar10.yaml model.name=hornet_debug_gf,eat_debug train.num_epochs=2
    python tools/compare.py configs/real/cifar10.yaml configs/real/cifar10.yaml+model.name=eat_debug+optimizer.lr=0.001

Settings after a + apply to that recipe, the others to all. Each value of a setting gets a line of the table, but values
of data.fold and run.seed are repetitions, and their scores are averaged. If a recipe has data.test, lines are ranked by
the score on it of the checkpoint that data.val chose; otherwise by the last checkpoint's score on data.val.

Each run is an ordinary run below runs/comparisons/NAME/, trained in its own process. The same command continues where
it stopped: finished runs are not repeated, and an interrupted one resumes from its last checkpoint. Results: table.md,
table.csv, runs.csv and plot.png in that folder. Exits with status 0 if every run trained, 1 if some failed, 75 if it
was asked to stop.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engine.launch import check_one_process
from tools.common.arguments import parse_arguments, positive
from tools.common.errors import clear_errors


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="+", metavar="RECIPE or key=values", help="recipes, and settings for all")
    parser.add_argument("--seeds", type=positive, default=3, metavar="N", help="seeds 0 to N - 1 for every run (3)")
    parser.add_argument("--name", help="folder below runs/comparisons/, or a full path (the first recipe's name)")
    parser.add_argument("--retry", action="store_true", help="repeat failed runs")
    args = parse_arguments(parser, argv)

    check_one_process("tools/compare.py")
    from tools.comparisons.comparison import run_comparison  # imports torch: too slow for --help
    from tools.comparisons.entries import OWN_SETTING, is_recipe

    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    first = next((OWN_SETTING.split(word)[0] for word in args.words if is_recipe(word)), "none")
    folder = Path("runs/comparisons", args.name or Path(first).stem)
    if not run_comparison(args.words, args.seeds, folder, args.retry):
        sys.exit(1)


if __name__ == "__main__":
    clear_errors(main)
