"""Pre-activation ResNets, SE-ResNets and ResNeXts for images, with reasoning units after any of their blocks.

Paper: Chen et al., Graph-Based Global Reasoning Networks, CVPR 2019, https://arxiv.org/abs/1811.12814 (section 4.2)
Authors' code: that of these networks is inside the archives that https://github.com/facebookresearch/GloRe released
(MXNet), which were not at hand. The sources used instead are a copy of the ResNet-50 with five units, which has the
authors' copyright line and is public in someone else's repository, and https://github.com/facebookresearch/OctConv
(utils/symbol): later pre-activation ResNets, SE-ResNets and ResNeXts by the same first author.

From there: the stem is 7 x 7 with 64 channels; the stride is on the 3 x 3 convolution; a shortcut that changes shape
has its own batch norm and ReLU; batch norms add 1e-4 to variances; squeeze-and-excitation scales what a block adds,
with a sixteenth as many hidden units; ResNet-50 has units after blocks 1 and 3 of conv3 and 1, 3 and 5 of conv4, with
as many nodes as a block has inner channels.

Assumed; `tools/read_mxnet.py` reports what a released file contradicts:
- depth 101 has units where the authors' 3-D network has them, and ResNeXt-101 in the same places;
- depth 200 has units after blocks 12 and 18 of conv3 and 16, 24 and 32 of conv4, like MindSpore's model of it;
- in ResNeXt, too, units have a quarter as many nodes as the map has channels, though its blocks are twice as wide.

Done differently here: see `image_network.py`. Names of state-dict entries are those of the authors' 3-D networks, so
`models.load_pretrained` can start one of those from a network with `lite_stem` (5 x 5 with 32 channels) and without
units.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from glore3d.image_network import ImageNetwork
from glore3d.pre_activation import Norm, PreActConv2d, SqueezeExcite, make_norm
from glore3d.preact_unit import PreActGloReUnit
from glore3d.unit_positions import Units


class Bottleneck2d(nn.Module):
    """Residual block: 1 x 1, then 3 x 3 (with stride, dilation and groups), then 1 x 1.

    The shortcut is the input itself or, in the first block of a stage, a 1 x 1 convolution with its own batch norm.

    Shapes: [B, num_in, H, W] to [B, num_out, H / stride, W / stride], rounded up.
    """

    def __init__(
        self,
        num_in: int,
        num_mid: int,
        num_out: int,
        stride: int | None = None,
        dilation: int = 1,
        groups: int = 1,
        squeeze: bool = False,
        norm: Norm = make_norm,
    ):
        super().__init__()
        self.conv_m1 = PreActConv2d(num_in, num_mid, norm=norm)
        self.conv_m2 = PreActConv2d(num_mid, num_mid, 3, stride or 1, dilation, groups, norm)
        self.conv_m3 = PreActConv2d(num_mid, num_out, norm=norm)
        self.squeeze = SqueezeExcite(num_out) if squeeze else nn.Identity()
        self.conv_w1 = nn.Identity() if stride is None else PreActConv2d(num_in, num_out, stride=stride, norm=norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.squeeze(self.conv_m3(self.conv_m2(self.conv_m1(x)))) + self.conv_w1(x)


class ResNetStage(NamedTuple):
    """One row of a ResNet's table."""

    num_blocks: int
    width: int
    """Channels inside a block."""
    num_out: int
    """Channels of the map; a unit has a quarter as many nodes."""
    groups: int = 1
    squeeze: bool = False

    @property
    def num_nodes(self) -> int:
        return self.num_out // 4

    def make_block(self, num_in: int, stride: int | None, dilation: int, norm: Norm) -> tuple[nn.Module, int]:
        """See `image_network.Stage`."""
        options = (stride, dilation, self.groups, self.squeeze, norm)
        return Bottleneck2d(num_in, self.width, self.num_out, *options), self.num_out

    def make_unit(self, num_in: int, normalize: bool, eps: float) -> nn.Module:
        """See `image_network.Stage`."""
        return PreActGloReUnit(num_in, self.num_nodes, normalize, eps)


def resnet_stages(
    *num_blocks: int, width: int = 64, expansion: int = 4, groups: int = 1, squeeze: bool = False
) -> tuple[ResNetStage, ...]:
    """A ResNet's table from the number of blocks in each stage: from stage to stage, channels double."""
    widths = (width << i for i in range(len(num_blocks)))
    rows = zip(num_blocks, widths, strict=True)
    return tuple(ResNetStage(number, channels, expansion * channels, groups, squeeze) for number, channels in rows)


def resnet(
    stages: Sequence[ResNetStage],
    num_classes: int = 1000,
    units: Units | None = None,
    unit: Callable[[int, int], nn.Module] | None = None,
    normalize: bool = False,
    output_stride: int = 32,
    dropout: float = 0.0,
    eps: float = 1e-4,
    lite_stem: bool = False,
    stem_width: int | None = None,
    stem_stride: int = 4,
) -> ImageNetwork:
    """A network of these stages.

    >>> model = resnet(resnet_stages(1, 1, 2, 1, width=8), num_classes=10, units={"conv4": (1,)})
    >>> model(torch.randn(2, 3, 64, 70)).shape
    torch.Size([2, 10])

    Args:
        stages: the four rows of the network's table.
        num_classes, units, unit, normalize, output_stride, dropout: as for `ImageNetwork`.
        eps: of the batch norms.
        lite_stem: a first kernel of 5 x 5 with 32 channels, not 7 x 7 with 64.
        stem_width: channels of the first convolution, if they differ from that.
        stem_stride: as for `ImageNetwork`.
    """
    width, kernel = (32, 5) if lite_stem else (64, 7)
    options = (num_classes, units, unit, normalize, output_stride, dropout)
    return ImageNetwork(stem_width or width, kernel, stages, *options, partial(make_norm, eps=eps), stem_stride)


R50 = resnet_stages(3, 4, 6, 3)
R101 = resnet_stages(3, 4, 23, 3)
R200 = resnet_stages(3, 24, 36, 3)
SE_R50 = resnet_stages(3, 4, 6, 3, squeeze=True)
RESNEXT101 = resnet_stages(3, 4, 23, 3, width=128, expansion=2, groups=32)
SMALL = resnet_stages(1, 2, 2, 1, width=16)
DEBUG = resnet_stages(1, 2, 2, 1, width=8)

R50_UNITS = {"conv3": (1, 3), "conv4": (1, 3, 5)}
R101_UNITS = {"conv3": (1, 3), "conv4": (6, 12, 18)}
R200_UNITS = {"conv3": (12, 18), "conv4": (16, 24, 32)}
SE_R50_UNITS = {"conv4": (1, 3, 5)}  # the only ones published for this network
SMALL_UNITS = DEBUG_UNITS = {"conv3": (1,), "conv4": (1,)}

# Builders: they take the arguments of `resnet` from num_classes on.
glore_resnet50 = partial(resnet, R50, units=R50_UNITS)
glore_resnet101 = partial(resnet, R101, units=R101_UNITS)
glore_resnet200 = partial(resnet, R200, units=R200_UNITS)
glore_se_resnet50 = partial(resnet, SE_R50, units=SE_R50_UNITS)
glore_resnext101_32x4d = partial(resnet, RESNEXT101, units=R101_UNITS)
preact_resnet50 = partial(resnet, R50)
preact_resnet101 = partial(resnet, R101)
preact_resnet200 = partial(resnet, R200)
preact_se_resnet50 = partial(resnet, SE_R50)
preact_resnext101_32x4d = partial(resnet, RESNEXT101)
# Ours, for images of 32 x 32 pixels on a laptop.
glore_resnet_small = partial(resnet, SMALL, units=SMALL_UNITS, lite_stem=True, stem_stride=2)
# For tests, and for small images on a laptop.
glore_resnet_debug = partial(resnet, DEBUG, units=DEBUG_UNITS, lite_stem=True, stem_width=16)
preact_resnet_debug = partial(resnet, DEBUG, lite_stem=True, stem_width=16)
