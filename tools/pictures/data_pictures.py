"""Images of what a network sees: training samples, validation views, and the number of items per class."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from engine.distributed import join_ranks
from engine.run import start_logging
from engine.task import Shows
from settings import SettingsError, parse_settings, read_recipe
from tasks import find_task
from tools.common.output_files import check_folder
from tools.pictures.contact_sheet import draw_animation, draw_classes, draw_sheet

log = logging.getLogger(__name__)


def show_data(config: str, overrides: Sequence[str], output: Path | None, count: int, frames_per_second: float) -> None:
    """Draws `count` samples of a recipe into the folder `output` (pictures/ plus the recipe's name).

    Raises SettingsError if the task cannot show its samples, or an image could not be drawn.
    """
    recipe = read_recipe(config, overrides)
    task_class = find_task(recipe, config)
    settings = parse_settings(task_class.Settings, recipe, config)
    folder = output or Path("pictures", Path(config).stem)
    check_folder(folder, "choose another one with --output")

    if not issubclass(task_class, Shows):
        raise SettingsError(
            f"the task {settings.task} cannot show its samples: it does not implement `training_pictures`"
        )
    with join_ranks(**settings.run.process_options()) as ranks:
        start_logging(ranks)
        task = task_class(settings, ranks)
        pictures, shown = task.training_pictures(count), task.validation_pictures(count)
        kinds, counts = task.sample_counts()
        name = Path(config).stem
        trained, scored = f"{name}: the first training samples", f"{name}: validation, as it is scored"
        drawings = {
            "train.png": partial(draw_sheet, pictures, title=trained),
            "train.gif": partial(draw_animation, pictures, title=trained, frames_per_second=frames_per_second),
            "val.png": partial(draw_sheet, shown, title=scored),
            "classes.png": partial(draw_classes, counts, kinds, counted=getattr(task, "counted", "files")),
        }
        failed = [name for name, draw in drawings.items() if not _draw(draw, folder / name)]
    log.info("%s: %s", folder, ", ".join(name for name in drawings if name not in failed))
    if failed:
        raise SettingsError(f"could not draw {', '.join(failed)} in {folder}; the warnings above say why")


def _draw(draw: Callable[..., None], path: Path) -> bool:
    """Calls `draw(path=path)` -> whether it worked. A failure is only a warning, so that the other images are drawn."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(path=path)
    except Exception as error:
        log.warning("cannot draw %s: %s", path, error)
        return False
    return True
