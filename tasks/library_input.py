"""Input size and normalization of timm's and torchvision's networks, where a recipe leaves them open.

They become part of the recipe, so that a trained network keeps them even if the library changes.
"""

import copy
from collections.abc import Callable
from typing import Any

import libraries
from backbones.library_network import LibraryInput


def fill_library_input(recipe: Any, settings_for: Callable[[LibraryInput], dict[str, Any]]) -> Any:
    """A recipe, before it is checked, with missing settings of its section `data` filled in; `recipe` stays unchanged.

    Args:
        recipe: as it was read, in any form. It is completed only if it names a library's network.
          settings_for: settings in `data`, by dotted key, for the library's description. A section is set as a whole:
           only if the recipe has none of the settings that are set with it.
    """
    name = _section(recipe, "model").get("name")
    if not isinstance(name, str) or not libraries.is_library_name(name) or not isinstance(recipe.get("data"), dict):
        return recipe
    try:
        known = libraries.describe_input(name)
    except ValueError:  # no such network, of which building it complains
        return recipe
    recipe = copy.deepcopy(recipe)
    for key, value in settings_for(known).items():
        _set_if_open(recipe["data"], key, value)
    return recipe


def _section(recipe: Any, name: str) -> dict[str, Any]:
    section = recipe.get(name) if isinstance(recipe, dict) else None
    return section if isinstance(section, dict) else {}


def _set_if_open(section: dict[str, Any], key: str, value: Any) -> None:
    first, _, rest = key.partition(".")
    if rest or isinstance(value, dict):
        inner = section.setdefault(first, {})
        if not isinstance(inner, dict):
            return
        if rest:
            _set_if_open(inner, rest, value)
        elif not inner.keys() & value.keys():
            inner.update(value)
    else:
        section.setdefault(first, value)
