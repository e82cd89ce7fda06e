"""Tasks. Each combines a model, a data set, a loss and an evaluator, and defines its own typed settings."""

from importlib import import_module
from typing import Any

from engine.task import Task
from settings import SettingsError, did_you_mean

TASKS: dict[str, str | type[Task]] = {
    "clip_classification": "tasks.clip_classification:ClipClassification",
    "image_classification": "tasks.image_classification:ImageClassification",
    "detection": "tasks.detection:Detection",
    "segmentation": "tasks.segmentation:Segmentation",
    "link_prediction": "tasks.link_prediction:LinkPrediction",
    "protein_function": "tasks.protein_function:ProteinFunction",
    "skeleton_action": "tasks.skeleton_action:SkeletonAction",
}
"""Name in a recipe (`task:`) -> the class, or "module:class", which is imported on first use."""


def find_task(recipe: dict[str, Any], source: str) -> type[Task]:
    """The task class of a recipe."""
    name = recipe.get("task")
    if name not in TASKS:
        hint = did_you_mean(str(name), TASKS)
        raise SettingsError(f"{source}:\n  task: must be one of {', '.join(TASKS)}, got {name!r}{hint}")
    entry = TASKS[name]
    if isinstance(entry, str):
        module, _, attribute = entry.partition(":")
        return getattr(import_module(module), attribute)
    return entry
