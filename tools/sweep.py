"""Trains with several settings, and compares the runs: every combination of values, random draws, folds, seeds.

    python tools/sweep.py -c RECIPE optimizer.lr=0.01,0.1 model.name=resnet_debug_3d,glore_resnet_debug_3d
    python tools/sweep.py -c RECIPE optimizer.lr=1e-3..1e-1:log loss.label_smoothing=0..0.2 --random 8 --seed 0
    python tools/sweep.py -c RECIPE data.val=null data.folds=5 data.fold=0,1,2,3,4    cross-validation

Each trial is an ordinary run in runs/sweeps/NAME/, trained in its own process, so that a crash costs one trial. The
same command continues where it stopped; a larger --random adds trials. Results: a table here, results.csv, index.html.
Exits with status 0 if every trial trained, 1 if some failed, 75 if it was asked to stop.
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
    parser.add_argument("-c", "--config", required=True, metavar="RECIPE", help="a recipe below configs/")
    parser.add_argument("overrides", nargs="*", metavar="key=values", help="settings: a value, several, or a range")
    parser.add_argument("--random", type=positive, metavar="N", help="N random trials instead of every combination")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the random trials (0)")
    parser.add_argument("--name", help="folder below runs/sweeps/, or a full path (the recipe's name)")
    parser.add_argument("--retry", action="store_true", help="repeat failed trials")
    args = parse_arguments(parser, argv)
    if args.seed < 0:
        parser.error(f"got --seed {args.seed}; expected at least 0")

    check_one_process("tools/sweep.py")
    from tools.sweeps.sweep import run_sweep  # imports torch: too slow for --help

    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    folder = Path("runs/sweeps", args.name or Path(args.config).stem)
    if not run_sweep(args.config, args.overrides, folder, args.random, args.seed, args.retry):
        sys.exit(1)


if __name__ == "__main__":
    clear_errors(main)
