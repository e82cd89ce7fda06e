"""Stochastic depth, the regularizer of all backbones here.

Paper: Huang et al., Deep Networks with Stochastic Depth, ECCV 2016, https://arxiv.org/abs/1603.09382
"""

import torch
from torch import nn


class DropPath(nn.Module):
    """In training, drops a branch for a share `rate` of the samples and scales the others by 1 / (1 - rate).

    Shapes: [B, ...] to the same.

    Raises:
        ValueError: the rate is not in [0, 1).
    """

    def __init__(self, rate: float = 0.0):
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"the rate of DropPath is a share in [0, 1), not {rate}")
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = x.new_empty(len(x), *[1] * (x.dim() - 1)).bernoulli_(1 - self.rate)  # [B, 1, ...]
        return x * kept.div_(1 - self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"
