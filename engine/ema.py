"""Exponential moving average (EMA) of the weights, which often scores better than the weights themselves.

After each step, average = decay * average + (1 - decay) * weights, starting from the initial weights. The average
covers parameters and batch norm statistics, like timm's ModelEma, which the HorNet and EAT recipes used. Integer
buffers (counters, index tables) are copied.
"""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from engine.parallel import local_shard


def average_weights(model: nn.Module, decay: float) -> AveragedModel:
    """An average that starts as a copy of `model`. Call its `update_parameters(model)` after each step."""

    @torch.no_grad()
    def update(averages: list[torch.Tensor], values: list[torch.Tensor], _: torch.Tensor) -> None:
        averages, values = [local_shard(average) for average in averages], [local_shard(value) for value in values]
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, values, 1 - decay)
        else:
            torch._foreach_copy_(averages, values)

    average = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    average.update_parameters(model)  # the first call copies the weights
    return average.requires_grad_(False)
