"""Settings that make a network fit a recipe, such as the image size that it was built for.

Each proposal is tried like the recipe itself, on torch's meta device, before a message names it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from models import AUTHORS_NAMES, model_info
from settings import SettingsError, apply_override, parse_settings

if TYPE_CHECKING:
    from tasks.classification import Classification

VARIANTS = ("_tklb", "_dist")
"""Suffixes of networks that need more than labels in training; without the suffix they are plain networks."""


def advise(task: Classification, check: Callable[[Classification], None]) -> str:
    """A sentence with fitting settings, as overrides for the command line; "" if no proposal passes `check(task)`."""
    name = task.settings.model.name
    for overrides in _proposals(task):
        if _fits(task, overrides, check):
            return f"Settings with which {name} fits this recipe: {' '.join(map(shlex.quote, overrides))}"
    return ""


def _proposals(task: Classification) -> Iterator[list[str]]:
    """Lists of overrides, the smallest changes first."""
    model = task.settings.model
    name = AUTHORS_NAMES.get(model.name, model.name)
    plain = next((name.removesuffix(ending) for ending in VARIANTS if name.endswith(ending)), name)
    for other in dict.fromkeys((name, plain)):
        renamed = [] if other == name else [f"model.name={other}"]
        sizes = _sizes_for(task, other)
        for resized in ([], sizes):
            for bare in ([], ["model.options={}"]):
                if overrides := [*renamed, *resized, *(bare if model.options else [])]:
                    yield overrides


def _sizes_for(task: Classification, name: str) -> list[str]:
    """The overrides for the input that a network was built for; none if there is no such network."""
    try:
        return task.overrides_for_input(model_info(name).input_shape)
    except ValueError:
        return []


def _fits(task: Classification, overrides: list[str], check: Callable[[Classification], None]) -> bool:
    recipe = task.settings.model_dump(mode="json", exclude_unset=True)
    try:
        for override in [*overrides, f"model.num_classes={task.num_classes}"]:
            apply_override(recipe, override)
        check(type(task)(parse_settings(type(task).Settings, recipe), task.ranks))
    except SettingsError:
        return False
    return True


def scaled(lengths: float | tuple[float, float], factor: float) -> str:
    """A length or a range of lengths in pixels times a factor, rounded up, as the value of an override."""
    values = [-int(-value * factor // 1) for value in (lengths if isinstance(lengths, tuple) else (lengths,))]
    return json.dumps(values if isinstance(lengths, tuple) else values[0], separators=(",", ":"))
