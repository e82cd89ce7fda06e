"""A network with fresh weights and its task, as `inference.load_trained` would give them."""

from pathlib import Path

import torch

from engine.distributed import Ranks
from inference.trained import TrainedNetwork, find_recipe


def fresh_network(recipe: Path, *overrides: str) -> TrainedNetwork:
    """The network of a recipe; its weights file is the recipe, for all that anything asks of it."""
    task_class, settings, _ = find_recipe(recipe, None, None, ["run.device=cpu", *overrides])
    torch.manual_seed(0)
    task = task_class(settings, Ranks(0, 1, torch.device("cpu")))
    return TrainedNetwork(task, task.build_model().eval(), recipe)
