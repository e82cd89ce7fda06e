"""Dual path networks, with reasoning units after any of their blocks.

Paper: Chen et al., Dual Path Networks, NIPS 2017, https://arxiv.org/abs/1707.01629; with units, Chen et al.,
Graph-Based Global Reasoning Networks, CVPR 2019, https://arxiv.org/abs/1811.12814 (section 4.2)
Authors' code: https://github.com/cypw/DPNs (settings/symbol_dpn.py, symbol_dpn-98.py, symbol_dpn-131.py); that of the
networks with units is inside the archives that facebookresearch/GloRe released, which were not at hand.

Without units the networks are the authors', down to the epsilon of MXNet's batch norm. timm's `dpn98` and `dpn131` end
with ELU by default where the authors' code has ReLU, as here. The unit follows a copy that has the authors' copyright
line and is public in someone else's repository: it sees both paths, and projects back to each path separately.

Assumed; `tools/read_mxnet.py` reports what a released file contradicts:
- with units, batch norms add 1e-4 to variances, as in the authors' ResNets with units, not 1e-3;
- units have a quarter as many nodes as the residual path has channels;
- units follow blocks 2 and 4 of conv3 and 5, 10 and 15 of conv4 in DPN-98, 4 and 7 and 7, 14 and 21 in DPN-131.

Done differently here: both paths are one map, the residual path first, so a unit can be placed between any two blocks.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from glore3d.image_network import ImageNetwork
from glore3d.pre_activation import Norm, PreActConv2d, make_norm
from glore3d.preact_unit import PreActGloReUnit
from glore3d.unit_positions import Units


class DualPathBlock(nn.Module):
    """Residual and dense at once: the first channels of a block's result are added, and the others are appended.

    The first block of a stage projects its input to both paths, the residual one with `num_sum` channels and the dense
    one with twice `increment`. In any other block the input already consists of the two paths.

    Args:
        num_in: channels of both paths.
        num_mid: channels inside the block.
        num_sum: channels of the residual path.
        increment: channels that the dense path gains.
        groups: of the 3 x 3 convolution.
        stride: of the first block of a stage; None: not the first block.

    Shapes: [B, num_in, H, W] to [B, num_out, H / stride, W / stride], rounded up.
    """

    def __init__(
        self,
        num_in: int,
        num_mid: int,
        num_sum: int,
        increment: int,
        groups: int,
        stride: int | None = None,
        dilation: int = 1,
        norm: Norm = make_norm,
    ):
        super().__init__()
        self.num_sum = num_sum
        self.conv_m1 = PreActConv2d(num_in, num_mid, norm=norm)
        self.conv_m2 = PreActConv2d(num_mid, num_mid, 3, stride or 1, dilation, groups, norm)
        self.conv_m3 = PreActConv2d(num_mid, num_sum + increment, norm=norm)
        num_paths = num_in if stride is None else num_sum + 2 * increment
        self.conv_w1 = nn.Identity() if stride is None else PreActConv2d(num_in, num_paths, stride=stride, norm=norm)
        self.num_out = num_paths + increment

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch = self.conv_m3(self.conv_m2(self.conv_m1(x)))
        paths = self.conv_w1(x)
        added = paths[:, : self.num_sum] + branch[:, : self.num_sum]
        return torch.cat([added, paths[:, self.num_sum :], branch[:, self.num_sum :]], 1)


class TwoTails(nn.Module):
    """The projection from a unit's states back to two paths, with a batch norm, ReLU and 1 x 1 convolution for each.

    Shapes: [B, num_states, H, W] to [B, num_sum + num_dense, H, W].
    """

    def __init__(self, num_states: int, num_sum: int, num_dense: int, norm: Norm = make_norm):
        super().__init__()
        self.residual = PreActConv2d(num_states, num_sum, norm=norm)
        self.dense = PreActConv2d(num_states, num_dense, norm=norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.residual(x), self.dense(x)], 1)


class DualPathGloReUnit(PreActGloReUnit):
    """The unit of a dual path network, for both paths as one map; see `PreActGloReUnit`.

    Args:
        num_in: channels of both paths.
        num_mid, normalize, eps: as for `PreActGloReUnit`.
        num_sum: channels of the residual path.
    """

    def __init__(self, num_in: int, num_mid: int, num_sum: int, normalize: bool = False, eps: float = 1e-4):
        self.num_sum = num_sum
        super().__init__(num_in, num_mid, normalize, eps)

    def make_extend(self, num_states: int, norm: Norm) -> nn.Module:
        return TwoTails(num_states, self.num_sum, self.num_in - self.num_sum, norm)


class DualPathStage(NamedTuple):
    """One row of a dual path network's table."""

    num_blocks: int
    width: int
    """Channels inside a block."""
    num_sum: int
    """Channels of the residual path; a unit has a quarter as many nodes."""
    increment: int
    """Channels that the dense path gains in each block."""
    groups: int

    @property
    def num_nodes(self) -> int:
        return self.num_sum // 4

    def make_block(self, num_in: int, stride: int | None, dilation: int, norm: Norm) -> tuple[nn.Module, int]:
        """See `image_network.Stage`."""
        options = (self.increment, self.groups, stride, dilation, norm)
        block = DualPathBlock(num_in, self.width, self.num_sum, *options)
        return block, block.num_out

    def make_unit(self, num_in: int, normalize: bool, eps: float) -> nn.Module:
        """See `image_network.Stage`."""
        return DualPathGloReUnit(num_in, self.num_nodes, self.num_sum, normalize, eps)


def dual_path_stages(
    num_blocks: tuple[int, ...], increments: tuple[int, ...], width: int, num_sum: int, groups: int
) -> tuple[DualPathStage, ...]:
    """A dual path network's table: from stage to stage, widths double; `width` and `num_sum` are those of conv2."""
    rows = enumerate(zip(num_blocks, increments, strict=True))
    return tuple(DualPathStage(number, width << i, num_sum << i, inc, groups) for i, (number, inc) in rows)


def dual_path_network(
    stem_width: int,
    stages: Sequence[DualPathStage],
    num_classes: int = 1000,
    units: Units | None = None,
    unit: Callable[[int, int], nn.Module] | None = None,
    normalize: bool = False,
    output_stride: int = 32,
    dropout: float = 0.0,
    eps: float = 1e-3,
    stem_stride: int = 4,
) -> ImageNetwork:
    """A network of these stages, with a 7 x 7 stem.

    >>> model = dual_path_network(8, dual_path_stages((1, 1, 2, 1), (4, 4, 4, 8), 8, 16, groups=2), num_classes=10)
    >>> model(torch.randn(2, 3, 64, 70)).shape, model.pyramid_channels
    (torch.Size([2, 10]), (28, 44, 80, 152))

    Args:
        stem_width: channels of the first convolution.
        stages: the four rows of the network's table.
        num_classes, units, unit, normalize, output_stride, dropout, stem_stride: as for `ImageNetwork`.
        eps: of the batch norms.
    """
    options = (num_classes, units, unit, normalize, output_stride, dropout)
    return ImageNetwork(stem_width, 7, stages, *options, partial(make_norm, eps=eps, momentum=0.1), stem_stride)


DPN98 = dual_path_stages((3, 6, 20, 3), (16, 32, 32, 128), width=160, num_sum=256, groups=40)
DPN131 = dual_path_stages((4, 8, 28, 3), (16, 32, 32, 128), width=160, num_sum=256, groups=40)
DEBUG = dual_path_stages((1, 2, 2, 1), (4, 4, 8, 16), width=8, num_sum=16, groups=4)

DPN98_UNITS = {"conv3": (2, 4), "conv4": (5, 10, 15)}
DPN131_UNITS = {"conv3": (4, 7), "conv4": (7, 14, 21)}
DEBUG_UNITS = {"conv3": (1,), "conv4": (1,)}

# Builders: they take the arguments of `dual_path_network` from num_classes on.
glore_dpn98 = partial(dual_path_network, 96, DPN98, units=DPN98_UNITS, eps=1e-4)
glore_dpn131 = partial(dual_path_network, 128, DPN131, units=DPN131_UNITS, eps=1e-4)
dpn98 = partial(dual_path_network, 96, DPN98)
dpn131 = partial(dual_path_network, 128, DPN131)
# For tests, and for small images on a laptop.
glore_dpn_debug = partial(dual_path_network, 16, DEBUG, units=DEBUG_UNITS, eps=1e-4)
