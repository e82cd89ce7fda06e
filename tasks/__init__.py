"""Tasks: each joins a model, a data set, a loss and an evaluator, and holds the typed settings that are its own."""

from typing import Any

from settings import SettingsError
from tasks.classification import Classification as Task
from tasks.clip_classification import ClipClassification
from tasks.image_classification import ImageClassification

TASKS = {"clip_classification": ClipClassification, "image_classification": ImageClassification}

__all__ = ["TASKS", "Task", "find_task"]


def find_task(recipe: dict[str, Any], source: str) -> type[Task]:
    """The task class that the recipe's `task:` names."""
    name = recipe.get("task")
    if name not in TASKS:
        raise SettingsError(f"{source}:\n  task: must be one of {', '.join(TASKS)}, got {name!r}")
    return TASKS[name]
