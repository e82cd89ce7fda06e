"""The moving average of the weights, which often scores better than the weights themselves.

After each step, average = decay * average + (1 - decay) * weights, from the first weights on: over parameters and the
statistics of batch norm, as timm's ModelEma, with which the recipes of HorNet and EAT were made. Whole numbers
(counters, tables of indices) are copied.
"""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from engine.parallel import local


def average_weights(model: nn.Module, decay: float) -> AveragedModel:
    """The average, which starts as a copy of `model`: call `update_parameters(model)` after a step, use `module`."""

    @torch.no_grad()
    def update(averages: list[torch.Tensor], values: list[torch.Tensor], _: torch.Tensor) -> None:
        averages, values = [local(average) for average in averages], [local(value) for value in values]
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, values, 1 - decay)
        else:
            torch._foreach_copy_(averages, values)

    average = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    average.update_parameters(model)  # the first time it copies
    return average.requires_grad_(False)
