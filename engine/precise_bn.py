"""Precise batch norm: training-set statistics under the current weights, instead of a running average.

Wu & Johnson, "Rethinking 'Batch' in BatchNorm" (arXiv 2105.07576), section 3. The authors of GloRe run 100 forward
passes in training mode before validation (momentum 0.1). Here all batches of all ranks have equal weight, and the
variance is E[x^2] - E[x]^2 over all of them.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from engine.distributed import Ranks


@torch.no_grad()
def update_batch_norm(model: nn.Module, forward: Any, batches: Iterable[Any], ranks: Ranks) -> int:
    """Sets the running statistics of every batch norm of `model` from `batches`; returns the number of batches.

    `forward(batch)` runs the model on one batch, in training mode. Weights do not change.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not norms:
        return 0
    was_training, momenta = model.training, [norm.momentum for norm in norms]
    sums = [torch.zeros(2, norm.num_features, device=norm.running_mean.device, dtype=torch.float64) for norm in norms]
    num_batches = torch.zeros(1, dtype=torch.float64)
    model.train()
    counts: dict[nn.Module, float] = {}  # values of a channel in the last batch

    def count_values(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        of_all_ranks = ranks.num_ranks if isinstance(norm, nn.SyncBatchNorm) else 1
        counts[norm] = inputs[0].numel() / inputs[0].shape[1] * of_all_ranks

    hooks = [norm.register_forward_pre_hook(count_values) for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # running statistics = statistics of the last batch
    try:
        for batch in batches:
            forward(batch)
            for total, norm in zip(sums, norms, strict=True):
                mean, unbiased = norm.running_mean.double(), norm.running_var.double()
                variance = unbiased * (1 - 1 / counts.get(norm, math.inf))  # a compiled network calls no hooks
                total += torch.stack([mean, variance + mean.square()])
            num_batches += 1
    finally:
        for hook in hooks:
            hook.remove()
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.train(was_training)
    count = ranks.sum(num_batches).item()
    for total, norm in zip(sums, norms, strict=True):
        mean, mean_square = ranks.sum(total) / count
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(mean_square - mean.square())
    return int(count)
