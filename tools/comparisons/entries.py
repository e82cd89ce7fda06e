"""The lines of a table of recipes, from a command: recipes with their own settings, and settings for all.

configs/real/cifar10.yaml                                  a recipe
configs/real/cifar10.yaml+model.name=eat_debug+data.val=0.1   with its own settings, each after a +
model.name=eat_debug,hornet_debug_gf                       a setting for all; each value is a line
data.fold=0,1,2,3,4                                        but not folds (or seeds): scores are averaged over them
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from settings import SettingsError
from tools.sweeps.space import REPEATS, Axis, Trial, folder_name, grid, read_space

OWN_SETTING = re.compile(r"\+(?=[A-Za-z_][\w.]*=)")
SEED = "run.seed"


@dataclass(frozen=True)
class Entry:
    """A line: a recipe with settings, trained once per fold and seed."""

    label: str
    recipe: str
    fixed: list[str]
    """The settings of all its runs."""
    folder: Path
    trials: list[Trial]


def read_entries(words: Sequence[str], num_seeds: int, folder: Path) -> list[Entry]:
    """The lines for the `words` of a command, each with a folder below `folder`.

    Every run is repeated with seeds 0 to `num_seeds` - 1, unless the words name others. Raises SettingsError if there
    is no recipe or two lines are the same.
    """
    recipes = [OWN_SETTING.split(word) for word in words if is_recipe(word)]
    common = [word for word in words if not is_recipe(word)]
    if not recipes:
        raise SettingsError("nothing to compare: name recipes, such as configs/demo/hornet_shapes.yaml")
    stems = [Path(recipe).stem for recipe, *_ in {tuple(recipe[:1]) for recipe in recipes}]
    entries: dict[str, Entry] = {}
    for recipe, *own in recipes:
        stem = Path(recipe).stem
        short = stem if stems.count(stem) == 1 else str(Path(recipe).with_suffix(""))
        for entry in _lines_of(recipe, short, own, common, num_seeds, folder):
            if entry.label in entries:
                raise SettingsError(f"{entry.label} is given twice; each line of the table needs different settings")
            entries[entry.label] = entry
    return list(entries.values())


def is_recipe(word: str) -> bool:
    """Whether a word of the command is a recipe, not a setting for all."""
    return "=" not in OWN_SETTING.split(word)[0]


def _lines_of(
    recipe: str, short: str, own: Sequence[str], common: Sequence[str], num_seeds: int, folder: Path
) -> list[Entry]:
    """The lines of one recipe: one for each combination of its values, other than folds and seeds."""
    keys = {override.partition("=")[0] for override in own}
    common = [override for override in common if override.partition("=")[0] not in keys]
    fixed, axes = read_space([*common, *own])
    repeats = [axis for axis in axes if axis.key in REPEATS]
    if not any(override.startswith(f"{SEED}=") for override in [*common, *own]):
        repeats.append(Axis(SEED, tuple(map(str, range(num_seeds)))))
    lines = []
    for line in grid([axis for axis in axes if axis.key not in REPEATS]):
        shown = [override for override in own if override in fixed] + line.overrides
        name = folder_name(",".join([short, *shown]))
        lines.append(Entry(" ".join([short, *shown]), recipe, [*fixed, *line.overrides], folder / name, grid(repeats)))
    return lines
