"""What scores depend on besides the weights, in full for classification. Reports with other keys are kept apart."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from engine.fingerprint import Contents
from tasks.loader_settings import LoaderSettings

if TYPE_CHECKING:
    from tasks.classification import Classification

IN_TRAINING_ONLY = (
    *("train", "train_split", "train_view", "more", "class_balance", "weights", "repeats"),
    *("mix", "erase", "token_labels", "multigrid"),
)
IN_THE_FILES = (
    *("val", "val_root", "val_split", "root", "class_names", "make", "index"),
    *("test", "test_root", "test_split", "folds", "fold", "fold_seed", "fold_groups", "source_pattern"),
)
IGNORED = {
    "model": ("pretrained", "pretrained_classes", "pretrained_average"),
    "data": (*IN_TRAINING_ONLY, *IN_THE_FILES, *LoaderSettings.CHANGEABLE),
    "evaluation": ("on", "max_non_finite", "acceleration", "clips_per_forward", "images_per_forward"),
}
"""Settings by section that change scores only by rounding, or only through the choice of validation files."""


def settings_without(sections: Mapping[str, Any], ignored: Mapping[str, Collection[str]]) -> dict[str, Any]:
    """The sections of a recipe that `ignored` names, without the ignored settings."""
    return {
        section: {name: value for name, value in sections[section].items() if name not in names}
        for section, names in ignored.items()
    }


def settings_key(task: Classification) -> dict[str, Any]:
    """What the outputs for a file depend on besides the weights: settings and a digest of the class names."""
    recipe = task.resolved_recipe()
    return {
        "task": recipe["task"],
        **settings_without(recipe, IGNORED),
        "multi_label": task.multi_label,
        "precision": task.precision,
        "class names": list(Contents.of(task.class_names)),
    }


def evaluation_key(task: Classification) -> dict[str, Any]:
    """See `engine.task.Task.evaluation_key`: `settings_key`, and a digest of the validation files and their labels."""
    labels_of = task.val_files.labels_of
    files = (f"{labels_of(item.index)} {os.path.abspath(item.path)}" for item in task.val_files)
    return {**settings_key(task), f"validation {task.item}s": list(Contents.of(files))}


def validation_source(task: Classification) -> dict[str, str]:
    """See `engine.task.Task.validation_source`."""
    data, on = task.settings.data, task.settings.evaluation.on
    files, split = task.lists.place(on)
    root = data.val_root or data.root
    places = {"list": files, "root": data.test_root or root if on == "test" else root}
    source = {name: os.path.abspath(place) for name, place in places.items() if place is not None}
    return source if split is None else {**source, "split": split}
