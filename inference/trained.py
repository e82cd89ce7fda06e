"""Loading a trained network with the recipe that says how to use it: classes, frames, crops, normalization.

A run's weight files carry their recipe, so a file is enough. The authors' files carry none and need one.
"""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from engine.checkpoint import read_fact
from engine.distributed import Ranks, open_device
from engine.fingerprint import warn_of_other_outputs
from engine.precision import place_model
from engine.run import existing_run, newest_run, run_folder
from engine.task import Task, TaskSettings
from models import load_pretrained, load_weights
from settings import SettingsError, apply_overrides, parse_settings, read_recipe
from tasks import find_task
from weight_reader import IN_FOLDER

log = logging.getLogger(__name__)

WEIGHTS_OF_RUN = {"best": "checkpoints/best.safetensors", "last": "checkpoints/last.pt"}


class TrainedNetwork(NamedTuple):
    """A network with its task, which has the classes and the preprocessing."""

    task: Task
    model: nn.Module
    """In eval mode, on the task's device."""
    weights: Path
    """The file that the weights come from."""


class Recipe(NamedTuple):
    """The recipe of a trained network, parsed."""

    task_class: type[Task]
    settings: TaskSettings
    run: Path
    """The run directory of the recipe. It need not exist."""


def load_trained(
    source: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    config: str | Path | None = None,
    run_dir: str | Path | None = None,
    device: str | None = None,
    average: bool = False,
) -> TrainedNetwork:
    """A trained network, in this process alone.

    Args:
        source: a weight file, a run directory, or a folder with model.safetensors; "best" or "last": of the run in
           `run_dir`, or of the newest run; None: its best, else its last.
        overrides: settings to change, such as "evaluation.num_clips=10".
        config: a recipe, for weights that carry none, such as the authors' files.
        run_dir: a run directory; None: the recipe's, or the newest run.
        device: "auto", "cpu", "cuda" or "cuda:N"; None: as the recipe says.
        average: load the averaged weights, if the file has both.

    Raises:
        SettingsError: there is no such run or file, or the recipe or an override is invalid.
        WeightsError: the file is damaged, or does not fit the network of the recipe.
    """
    overrides = check_overrides(overrides)
    checkpoint = None if source is None else str(source)
    if checkpoint is not None and _is_run(Path(checkpoint)):
        run_dir, checkpoint = Path(checkpoint), None
    if device is not None:
        overrides = [*overrides, f"run.device={device}"]
    task_class, settings, run = find_recipe(config, run_dir, checkpoint, overrides)
    weights = find_weights(run, checkpoint)
    options = settings.run.process_options()
    options.pop("timeout_minutes")
    ranks = Ranks(0, 1, open_device(**options))
    task = task_class(settings, ranks)
    return TrainedNetwork(task, load_model(task, weights, ranks, average), weights)


def check_overrides(overrides: Sequence[str]) -> Sequence[str]:
    """`overrides`. Raises SettingsError if they are one string, which is a sequence of its letters, too."""
    if isinstance(overrides, str):
        raise SettingsError(f"overrides is the string {overrides!r}; put it in a list: [{overrides!r}]")
    return overrides


def find_recipe(
    config: str | Path | None, run_dir: str | Path | None, checkpoint: str | None, overrides: Sequence[str]
) -> Recipe:
    """The recipe in `config`; without it, the recipe of the run directory, the file `checkpoint` or the newest run.

    Raises SettingsError if there is none.
    """
    run = None if run_dir is None else Path(run_dir)
    if config is not None:
        recipe, source = read_recipe(config, overrides), str(config)
        task_class = find_task(recipe, source)
    elif run is None and checkpoint is not None and checkpoint not in WEIGHTS_OF_RUN:
        recipe, source, run = _recipe_of_file(Path(checkpoint))
        task_class = find_task(apply_overrides(recipe, overrides), source)
    else:
        run = run or newest_run()
        source = str(run / "recipe.yaml")
        if not (existing_run(run) / "recipe.yaml").is_file():
            raise SettingsError(f"{run} is not a run directory: it has no recipe.yaml")
        task_class = find_task(read_recipe(source, overrides), source)
        recipe = read_recipe(source, [*task_class.overrides_of_run(run), *overrides])
    settings = parse_settings(task_class.Settings, recipe, source)
    return Recipe(task_class, settings, run or run_folder(source, settings.run))


def _recipe_of_file(path: Path) -> tuple[dict[str, Any], str, Path]:
    """The recipe that a weight file carries, its source for messages, and the run directory of the file."""
    weights = _file_in(path)
    if not weights.exists():
        raise SettingsError(f"no weights: there is no file {weights}; give a file, a run directory, best or last")
    run = weights.parent.parent if weights.parent.name == "checkpoints" else Path("runs", weights.parent.resolve().name)
    recipe = read_fact(weights, "recipe")
    if not isinstance(recipe, dict):
        if (run / "recipe.yaml").exists():
            return read_recipe(run / "recipe.yaml"), str(run / "recipe.yaml"), run
        raise SettingsError(
            f"{weights} carries no recipe, as the authors' files and old checkpoints do not; name one with -c, such as "
            f"-c configs/kinetics/glore_resnet50_8x8.yaml, or the run directory"
        )
    return recipe, f"the recipe in {weights}", run


def _is_run(path: Path) -> bool:
    return (path / "recipe.yaml").is_file() and not (path / IN_FOLDER).exists()


def _file_in(path: Path) -> Path:
    return path / IN_FOLDER if path.is_dir() else path


def find_weights(run: Path, checkpoint: str | None) -> Path:
    """The file for `checkpoint`: "best" or "last" of the run, or a path; None: best, else last."""
    named = {name: run / path for name, path in WEIGHTS_OF_RUN.items()}
    if checkpoint is None:
        found = next((path for path in named.values() if path.exists()), None)
        if found is None:
            raise SettingsError(f"{run} has no checkpoint; train first, or give a file with --checkpoint")
        return found
    return named.get(checkpoint) or _file_in(Path(checkpoint))


def weights_digest(weights: Path) -> str:
    """The SHA-256 of a weight file, which results record."""
    with open(weights, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_model(task: Task, weights: Path, ranks: Ranks, average: bool = False) -> nn.Module:
    """The network of the recipe in eval mode, with the weights of a file or their moving average."""
    model = task.build_model()
    log.info("%s: %s", weights, load_weights(model, weights, average=average))
    warn_of_other_outputs(weights, task.fingerprint("outputs"))
    return place_model(model, ranks.device, task.settings.train.channels_last).eval()


def load_backbone(task: Task, weights: Path, ranks: Ranks) -> nn.Module:
    """The network of the recipe, without classifier and in eval mode, with weights trained on other classes.

    Raises WeightsError if something other than the classifier does not fit.
    """
    model = task.build_model()
    log.info("%s: %s", weights, load_pretrained(model, weights))
    model.reset_classifier(0)
    return place_model(model, ranks.device, task.settings.train.channels_last).eval()
