"""What the network of a recipe costs: parameters, and multiply-adds for one input."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from settings import parse_settings, read_recipe

NUM_SAMPLES = 2
"""Number of training samples over which multiply-adds are averaged if inputs differ in size."""


class Cost(NamedTuple):
    """Parameters of a network, and multiply-adds of a forward pass, excluding FFTs and sums over edges."""

    num_parameters: int
    num_macs: float


def network_cost(recipe: str, overrides: Sequence[str]) -> Cost:
    """The cost of the network of a recipe.

    For classification: of one view, as in evaluation. For other tasks, whose inputs differ in size: the mean over the
    first training samples, with the loss. Raises SettingsError as `tasks.find_task` and the task do.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from engine.distributed import Ranks
    from tasks import find_task
    from tools.benchmarks.model import count_flops

    values = read_recipe(recipe, [*overrides, "run.device=cpu"])
    task_class = find_task(values, recipe)
    task = task_class(parse_settings(task_class.Settings, values, recipe), Ranks(0, 1, torch.device("cpu")))
    if hasattr(task, "validation_shape"):
        with torch.device("meta"):
            model = task.build_model()
        num_macs = count_flops(model, task.validation_shape()[1]) / 2
    else:
        model = task.build_model()
        (batch,) = task.train_batches(0, 1, NUM_SAMPLES, "train")
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            task.training_step(model.train(), batch)
        num_macs = counter.get_total_flops() / 2 / NUM_SAMPLES
    return Cost(sum(parameter.numel() for parameter in model.parameters()), num_macs)


def stored_cost(folder: Path, recipe: str, overrides: Sequence[str]) -> Cost:
    """The same, counted once and kept in cost.json in `folder`."""
    from engine.checkpoint import write_atomically

    path = folder / "cost.json"
    if not path.exists():
        text = json.dumps(network_cost(recipe, overrides)._asdict()) + "\n"
        write_atomically(path, lambda partial: partial.write_text(text))
    return Cost(**json.loads(path.read_text()))
