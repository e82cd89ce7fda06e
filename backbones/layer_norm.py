"""Layer norm over the channels of a map.

Paper: Ba et al., Layer Normalization, 2016, https://arxiv.org/abs/1607.06450
"""

import torch
import torch.nn.functional as F
from torch import nn


class LayerNorm2d(nn.LayerNorm):
    """Normalizes the channels at every position: [B, C, H, W] to the same, channels-last in memory.

    A map that is already channels-last is read in place; any other is copied.
    """

    def __init__(self, num_channels: int, eps: float = 1e-6):
        super().__init__(num_channels, eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.permute(0, 2, 3, 1)  # [B, C, H, W] -> [B, H, W, C]
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)
