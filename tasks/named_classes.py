"""A task with named classes: how its recipes and runs carry the names."""

import json
import logging
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from datasets.class_table import class_table
from engine.task import Task
from settings import some_of
from tasks.scored_list import is_held_out

log = logging.getLogger(__name__)
CLASS_NAMES = "class_names.txt"
SPLITS = {"train": "training", "val": "validation", "test": "test"}
"""What messages call the lists of the settings."""


class NamedClasses(Task):
    """The part of classification, detection and segmentation that handles class names."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name for each class of the network."""
        raise NotImplementedError

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def holds_out(self) -> bool:
        return is_held_out(self.settings)

    def warn_of_missing_classes(self, counts: Sequence[int], what: str) -> None:
        """Warns of classes that training cannot learn; `counts`: the number of `what` for each class."""
        if missing := [name for name, count in zip(self.class_names, counts, strict=True) if not count]:
            log.warning("no %s of %s", what, some_of(missing, self.num_classes))

    def warn_of_one_class(self) -> None:
        """Warns if there is a single class, of which a task that answers with one class can learn nothing."""
        if self.num_classes == 1:
            log.warning("there is one class, so every answer is right; add another, such as one for everything else")

    def warn_of_shared_files(
        self, lists: Mapping[str, Sequence[Any]], hashes: Mapping[str, np.ndarray], item: str
    ) -> None:
        """Warns of files that are in two of the lists.

        Args:
            lists: by the list's name, as in "training list".
            hashes: the `path_hashes` of each.
            item: the word for a file.
        """
        for name, other in combinations(lists, 2):
            if len(rows := np.flatnonzero(np.isin(hashes[other], hashes[name]))):
                log.warning(
                    "%d of the %d %ss in the %s list are also in the %s list, such as %s; scores on these say little "
                    "about new %ss",
                    *(len(rows), len(lists[other]), item, other, name, lists[other][int(rows[0])].path, item),
                )

    def resolved_recipe(self) -> dict[str, Any]:
        """The full recipe with all defaults and the number of classes filled in, as plain types."""
        recipe = super().resolved_recipe()
        recipe["model"]["num_classes"] = self.num_classes
        return recipe

    def portable_recipe(self) -> dict[str, Any]:
        recipe = super().portable_recipe()
        recipe["data"]["class_names"] = list(self.class_names)
        return recipe

    def run_files(self) -> dict[str, str]:
        """The class names: one line `index<TAB>name` per class."""
        return {CLASS_NAMES: class_table(self.class_names)}

    @classmethod
    def overrides_of_run(cls, run: Path) -> list[str]:
        """Takes the class names from the run directory, so the training files are not needed."""
        names = run / CLASS_NAMES
        return [f"data.class_names={json.dumps(str(names))}"] if names.exists() else []
