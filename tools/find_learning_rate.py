"""Finds a learning rate with a range test: trains for a few steps while the rate grows, and plots the loss.

    python tools/find_learning_rate.py -c configs/own_videos_small.yaml data.train=my_videos/train data.val=...

Works for every task. Creates no run directory; the plot and a table go to the output folder. The suggestion is a peak
rate (`optimizer.lr`) for a schedule with a warm-up; the plot shows how far to trust it.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: spinning threads slow the decoders

from settings import parse_settings, read_recipe
from tools.common.arguments import parse_arguments
from tools.common.errors import clear_errors
from tools.common.output_files import check_folder


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--config", required=True, metavar="RECIPE", help="a recipe below configs/")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings to change: model.name=resnet_debug_3d"
    )
    parser.add_argument("--lowest", type=float, default=1e-5, metavar="LR", help="first rate (1e-5)")
    parser.add_argument("--highest", type=float, default=1.0, metavar="LR", help="last rate (1)")
    parser.add_argument("--steps", type=int, default=100, metavar="N", help="optimizer steps (100)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="output folder (pictures/ plus the recipe's name)")
    args = parse_arguments(parser, argv)

    from engine.distributed import join_ranks  # imports torch: too slow for --help
    from engine.range_test import check_range, range_test
    from engine.run import start_logging
    from tasks import find_task
    from tools.pictures.range_test_plot import write_range_test

    check_range(args.lowest, args.highest, args.steps)
    recipe = read_recipe(args.config, args.overrides)
    task_class = find_task(recipe, args.config)
    settings = parse_settings(task_class.Settings, recipe, args.config)
    folder = args.output or Path("pictures", Path(args.config).stem)
    with join_ranks(**settings.run.process_options()) as ranks:
        start_logging(ranks)
        ranks.on_main(lambda: check_folder(folder, "choose another --output"))
        task = task_class(settings, ranks)
        task.check()
        found = range_test(task, ranks, args.lowest, args.highest, args.steps)
        if ranks.is_main:
            title = f"{Path(args.config).stem}: learning-rate range test"
            write_range_test(found, folder, title, settings.optimizer.lr)


if __name__ == "__main__":
    clear_errors(main)
