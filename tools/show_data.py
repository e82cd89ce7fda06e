"""Shows what a network really sees: samples before and after they are changed, with labels and ids.

    python tools/show_data.py configs/demo/glore_motion.yaml
    python tools/show_data.py configs/demo/eurnet_shapes.yaml --count 12 data.train_view.color_jitter=0

It takes the first samples of the run that the recipe would be, as the first step of one process would have them, and
writes into the output folder
  train.png    the files' own frames, and what the network takes of them: cropped, colored, mixed
  train.gif    the same, moving
  val.png      every view of the first validation files
  classes.png  how many files each class has; in training, how often they are seen in an epoch, too
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that wait leave the cores to the decoders

from engine.distributed import join_ranks
from engine.run import start_logging
from engine.task import Shows
from settings import SettingsError, parse_settings, read_recipe
from tasks import find_task
from tools.contact_sheet import draw_animation, draw_classes, draw_sheet
from tools.errors import clear_errors

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", metavar="RECIPE", help="a recipe below configs/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change: data.repeats=2")
    parser.add_argument("--count", type=int, default=8, metavar="N", help="samples to show (8)")
    parser.add_argument("--fps", type=float, default=4, metavar="N", help="frames per second of the GIF (4)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where to (pictures/ and the recipe's name)")
    args = parser.parse_intermixed_args(argv)
    if args.count < 1 or args.fps <= 0:
        parser.error(
            f"--count is {args.count} and --fps {args.fps:g}; expected at least one sample, and a rate above 0"
        )
    recipe = read_recipe(args.config, args.overrides)
    task_class = find_task(recipe, args.config)
    settings = parse_settings(task_class.Settings, recipe, args.config)
    folder = args.output or Path("pictures", Path(args.config).stem)

    if not issubclass(task_class, Shows):
        raise SettingsError(
            f"the task {settings.task} cannot show its samples: it does not implement `training_pictures`"
        )
    with join_ranks(**settings.run.process_options()) as ranks:
        start_logging(ranks)
        task = task_class(settings, ranks)
        folder.mkdir(parents=True, exist_ok=True)
        pictures = task.training_pictures(args.count)
        draw_sheet(pictures, folder / "train.png")
        draw_animation(pictures, folder / "train.gif", args.fps)
        draw_sheet(task.validation_pictures(args.count), folder / "val.png")
        kinds, counts = task.sample_counts()
        draw_classes(counts, kinds, folder / "classes.png")
    log.info("%s: train.png, train.gif, val.png, classes.png", folder)


if __name__ == "__main__":
    clear_errors(main)
