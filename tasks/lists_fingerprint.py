"""The fingerprint of a classification task: the contents of its lists, whatever their folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from engine.fingerprint import Contents, Part

if TYPE_CHECKING:
    from tasks.classification import Classification


def fingerprint_lists(task: Classification, part: Part) -> Mapping[str, Contents]:
    """See `engine.task.Task.fingerprint`. The order of the validation files makes no difference."""
    if part == "outputs":
        return {"class names": Contents.of(task.class_names)}
    if part == "training":
        weights = [] if task.train_weights is None else task.train_weights.tolist()
        return {
            f"training {task.item}s": Contents.of(task.train_files.identities()),
            "sampling weights": Contents.of(map(repr, weights)),
        }
    recipe = task.resolved_recipe()
    views = [recipe["data"].get("val_view"), task.protocol]
    return {
        f"validation {task.item}s": Contents.of(sorted(task.val_files.identities())),
        "validation views": Contents.of([json.dumps(views, sort_keys=True)]),
    }
