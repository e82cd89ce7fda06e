"""Stochastic depth, the regularizer of all backbones here: timm's `DropPath`, imported only if it drops anything.

Paper: Huang et al., Deep Networks with Stochastic Depth, ECCV 2016, https://arxiv.org/abs/1603.09382
"""

from torch import nn


def stochastic_depth(rate: float) -> nn.Module:
    """A module that in training drops a branch for a fraction `rate` of samples and scales the rest by 1 / (1 - rate).

    Raises:
        ValueError: the rate is not in [0, 1).
    """
    if not 0 <= rate < 1:
        raise ValueError(f"the rate of stochastic depth must be in [0, 1), not {rate}")
    if rate == 0:
        return nn.Identity()
    from timm.layers import DropPath  # imports all of timm, which takes as long as torch

    return DropPath(rate)
