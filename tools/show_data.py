"""Shows what a network really sees: samples before and after their transforms, with labels and ids.

    python tools/show_data.py configs/demo/glore_motion.yaml
    python tools/show_data.py configs/demo/eurnet_shapes.yaml --count 12 data.train_view.color_jitter=0

It takes the first samples of a run of the recipe, exactly as the first step on one process gets them, and writes these
files to the output folder:
  train.png    frames of the files, and the network's input: cropped, color-augmented, mixed; with boxes and masks
  train.gif    the same as an animation
  val.png      all views of validation files, of as many classes as there is room for
  classes.png  files, objects or pixels per class; of files for training also how often they are seen per epoch
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: spinning threads slow the decoders

from engine.distributed import join_ranks
from engine.run import start_logging
from engine.task import Shows
from settings import SettingsError, parse_settings, read_recipe
from tasks import find_task
from tools.common.arguments import parse_arguments
from tools.common.errors import clear_errors
from tools.common.output_files import check_folder
from tools.pictures.contact_sheet import draw_animation, draw_classes, draw_sheet

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", metavar="RECIPE", help="a recipe below configs/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change: data.repeats=2")
    parser.add_argument("--count", type=int, default=8, metavar="N", help="samples to show (8)")
    parser.add_argument("--fps", type=float, default=4, metavar="N", help="frames per second of the GIF (4)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="output folder (pictures/ plus the recipe's name)")
    args = parse_arguments(parser, argv)
    if args.count < 1 or args.fps <= 0:
        parser.error(f"got --count {args.count} and --fps {args.fps:g}; --count must be at least 1, --fps above 0")
    recipe = read_recipe(args.config, args.overrides)
    task_class = find_task(recipe, args.config)
    settings = parse_settings(task_class.Settings, recipe, args.config)
    folder = args.output or Path("pictures", Path(args.config).stem)
    check_folder(folder, "choose another one with --output")

    if not issubclass(task_class, Shows):
        raise SettingsError(
            f"the task {settings.task} cannot show its samples: it does not implement `training_pictures`"
        )
    with join_ranks(**settings.run.process_options()) as ranks:
        start_logging(ranks)
        task = task_class(settings, ranks)
        pictures, shown = task.training_pictures(args.count), task.validation_pictures(args.count)
        kinds, counts = task.sample_counts()
        name = Path(args.config).stem
        trained, scored = f"{name}: the first training samples", f"{name}: validation, as it is scored"
        drawings = {
            "train.png": partial(draw_sheet, pictures, title=trained),
            "train.gif": partial(draw_animation, pictures, title=trained, frames_per_second=args.fps),
            "val.png": partial(draw_sheet, shown, title=scored),
            "classes.png": partial(draw_classes, counts, kinds, counted=getattr(task, "counted", "files")),
        }
        failed = [name for name, draw in drawings.items() if not _draw(draw, folder / name)]
    log.info("%s: %s", folder, ", ".join(name for name in drawings if name not in failed))
    if failed:
        raise SettingsError(f"could not draw {', '.join(failed)} in {folder}; the warnings above say why")


def _draw(draw: Callable[..., None], path: Path) -> bool:
    """Calls `draw(path=path)` -> whether it worked. A failure is a warning, so that the other pictures are drawn."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(path=path)
    except Exception as error:
        log.warning("cannot draw %s: %s", path, error)
        return False
    return True


if __name__ == "__main__":
    clear_errors(main)
