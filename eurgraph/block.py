"""The residual block of EurNet: message passing over a graph, then an MLP at every patch.

Paper: Xu et al., EurNet: Efficient Multi-Range Relational Modeling of Spatial Multi-Relational Data, 2022,
https://arxiv.org/abs/2211.12941 (section 4.1)
Authors' code: https://github.com/hirl-team/EurNet-Image (branch pyg-cls, eurnet/backbones/eurnet.py)

Done differently here: inference on a CPU takes patches in parts, so that the wide maps of the MLP stay in the cache,
unless forward hooks watch parts of the block.
"""

from collections.abc import Sequence

import torch
from torch import nn

from eurgraph.grid import GridGraph
from eurgraph.grid_conv import GridGRMP, activate, infers_on_cpu, split_patches
from eurgraph.hooks import parts_have_hooks

FFN_RATIO = 4


class FeedForward(nn.Module):
    """Two linear layers with a GELU between, [..., C] to [..., C]."""

    def __init__(self, num_channels: int, ratio: int = FFN_RATIO):
        super().__init__()
        self.fc1 = nn.Linear(num_channels, ratio * num_channels)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(ratio * num_channels, num_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(activate(self, self.act, self.fc1(x)))


def stochastic_depth(rate: float) -> nn.Module:
    """timm's `DropPath`, imported only if it drops anything, because timm takes as long to import as torch."""
    if rate == 0:
        return nn.Identity()
    from timm.layers import DropPath

    return DropPath(rate)


class Block(nn.Module):
    """Residual block: message passing over the stage's graph, then a feed-forward layer. [B, *shape, C] to the same."""

    def __init__(
        self,
        num_channels: int,
        num_relations: int,
        num_axes: int,
        context_sizes: Sequence[int],
        drop_path: float,
        all_contexts: bool = False,
        ffn_ratio: int = FFN_RATIO,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(num_channels)
        self.graph_conv = GridGRMP(num_channels, num_relations, num_axes, context_sizes, all_contexts)
        self.proj = nn.Linear(num_channels, num_channels)
        self.norm2 = nn.LayerNorm(num_channels)
        self.ffn = FeedForward(num_channels, ffn_ratio)
        self.drop_path = stochastic_depth(drop_path)

    def forward(self, x: torch.Tensor, graph: GridGraph) -> torch.Tensor:
        y = self.graph_conv(self.norm1(x), graph)
        if infers_on_cpu(x) and not self.training and not parts_have_hooks(self):
            return self._add_in_parts(x, y)
        x = x + self.drop_path(self.proj(y))
        return x + self.drop_path(self.ffn(self.norm2(x)))

    def _add_in_parts(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        result = torch.empty_like(x, memory_format=torch.contiguous_format)
        for before, update, part in split_patches(self.ffn.fc1.out_features, x, y, result):
            torch.add(before, self.proj(update), out=part)
            part += self.ffn(self.norm2(part))
        return result
