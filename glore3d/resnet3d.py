"""Pre-activation 3-D ResNets of the "lite" kind, with reasoning units after any of their blocks.

Paper: Chen et al., Graph-Based Global Reasoning Networks, CVPR 2019, https://arxiv.org/abs/1811.12814 (section 4.3)
Authors' code: https://github.com/facebookresearch/GloRe (network/resnet50_3d_gcn_x5.py, resnet101_3d_gcn_x5.py)

Done differently here: one class covers every depth, with or without units, whereas the authors have a file per depth;
the last pooling adapts to the map, so clips may have any length and size, whereas theirs must be 8 x 224 x 224;
building a network reads no weights (`models.load_pretrained` does). State-dict names and results are theirs.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from math import prod
from operator import lt
from typing import NamedTuple

import torch
from torch import nn

from glore3d.linear_classifier import LinearClassifier
from glore3d.unit import GloReUnit
from glore3d.unit_positions import Units, check_units, unit_names

Triple = tuple[int, int, int]  # over time, height and width

BATCH_NORM_EPS = 1e-4
STEM_STRIDE = (1, 4, 4)


class Stage(NamedTuple):
    """One row of the network's table: what distinguishes conv2, conv3, conv4 and conv5."""

    num_blocks: int
    width: int
    """Channels inside a block. Its output has four times as many; a unit has this many nodes."""
    stride: Triple
    """Stride of the first block over (time, height, width)."""
    temporal_blocks: Collection[int]
    """The blocks, counted from 1, with a first kernel of three frames. The others see one frame at a time."""


def _conv(num_in: int, num_out: int, kernel_size: Triple, stride: Triple = (1, 1, 1)) -> nn.Conv3d:
    """Convolution without bias, padded so that only the stride changes the size."""
    padding = tuple(k // 2 for k in kernel_size)
    conv = nn.Conv3d(num_in, num_out, kernel_size, stride, padding, bias=False)
    nn.init.xavier_uniform_(conv.weight)
    return conv


def _batch_norm(num_channels: int) -> nn.BatchNorm3d:
    return nn.BatchNorm3d(num_channels, eps=BATCH_NORM_EPS)


class MaxPoolFrames(nn.MaxPool2d):
    """Max pooling of each frame: [B, C, T, H, W] -> [B, C, T, H', W'], in the memory layout of the input.

    The gradient of nn.MaxPool3d differs from run to run on a GPU; that of nn.MaxPool2d does not.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        num_clips, num_channels, num_frames = x.shape[:3]
        if x.stride(1) == 1:  # channels last: frames are separate maps, [B, C, T, H, W] -> [B * T, C, H, W]
            pooled = super().forward(x.transpose(1, 2).flatten(0, 1))
            return pooled.unflatten(0, (num_clips, num_frames)).transpose(1, 2)
        pooled = super().forward(x.flatten(1, 2))  # [B, C, T, H, W] -> [B, C * T, H, W]
        return pooled.unflatten(1, (num_channels, num_frames))


class PreActConv(nn.Sequential):
    """Batch norm, ReLU, convolution: [B, num_in, T, H, W] -> [B, num_out, T', H', W']."""

    def __init__(self, num_in: int, num_out: int, kernel_size: Triple = (1, 1, 1), stride: Triple = (1, 1, 1)):
        conv = _conv(num_in, num_out, kernel_size, stride)
        super().__init__(OrderedDict(bn=_batch_norm(num_in), relu=nn.ReLU(inplace=True), conv=conv))


class Bottleneck(nn.Module):
    """Residual block: `num_frames` x 1 x 1, then 1 x 3 x 3 (with the stride), then 1 x 1 x 1.

    The shortcut is the input itself or, if the shape or width changes, a 1 x 1 x 1 convolution with its own batch norm.
    """

    def __init__(self, num_in: int, num_mid: int, num_out: int, stride: Triple = (1, 1, 1), num_frames: int = 1):
        super().__init__()
        self.conv_m1 = PreActConv(num_in, num_mid, (num_frames, 1, 1))
        self.conv_m2 = PreActConv(num_mid, num_mid, (1, 3, 3), stride)
        self.conv_m3 = PreActConv(num_mid, num_out)
        keeps_shape = num_in == num_out and prod(stride) == 1
        self.conv_w1 = nn.Identity() if keeps_shape else PreActConv(num_in, num_out, stride=stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv_m3(self.conv_m2(self.conv_m1(x))) + self.conv_w1(x)


class ResNet3d(LinearClassifier):
    """Clip classifier: stem (conv1), four stages of bottleneck blocks (conv2 to conv5), mean over the clip, classifier.

    >>> model = ResNet3d(resnet_stages(3, 4, 6, 3), units={"conv4": (1, 3, 5)}, num_classes=10)
    >>> model(torch.randn(2, 3, 4, 64, 64)).shape
    torch.Size([2, 10])

    Args:
        stages: the four rows of the network's table.
        num_classes: number of classes. 0: no classifier; the output is the pooled features.
        units: for each stage that has units, the blocks (counted from 1) that one follows. None: a plain ResNet.
        unit: makes a unit from (channels of the map, width of the stage); any module that keeps the map's shape.
        stem_width: channels of the stem.
        dropout: fraction of the pooled features dropped before the classifier in training.

    Shapes: clips [B, 3, T, H, W], normalized, to logits [B, num_classes]. T, H and W are at least the product of the
    strides (`min_size`). Sides of the pyramid's maps are T, H or W divided by the stride, rounded up.

    Raises:
        ValueError: units are placed after blocks that do not exist, or clips have the wrong rank or are too small.
    """

    def __init__(
        self,
        stages: Collection[Stage],
        num_classes: int = 400,
        units: Units | None = None,
        unit: Callable[[int, int], nn.Module] = GloReUnit,
        stem_width: int = 32,
        dropout: float = 0.0,
    ):
        super().__init__()
        table = dict(zip(("conv2", "conv3", "conv4", "conv5"), stages, strict=True))
        units = units or {}
        check_units(units, {name: stage.num_blocks for name, stage in table.items()})
        self.unit_names = unit_names(units)
        strides = [STEM_STRIDE, *(stage.stride for stage in stages)]
        self.pyramid_strides = tuple(_product(strides[: i + 2]) for i in range(len(stages)))
        self.pyramid_channels = tuple(4 * stage.width for stage in stages)
        self.min_size = self.pyramid_strides[-1]

        self.conv1 = nn.Sequential(
            OrderedDict(
                conv=_conv(3, stem_width, (3, 5, 5), stride=(1, 2, 2)),
                bn=_batch_norm(stem_width),
                relu=nn.ReLU(inplace=True),
                max_pool=MaxPoolFrames(kernel_size=3, stride=2, padding=1),
            )
        )
        num_features = stem_width
        for name, stage in table.items():
            setattr(self, name, _make_stage(num_features, stage, units.get(name, ()), unit))
            num_features = 4 * stage.width
        self.tail = nn.Sequential(OrderedDict(bn=_batch_norm(num_features), relu=nn.ReLU(inplace=True)))
        self.globalpool = nn.Sequential(OrderedDict(avg=nn.AdaptiveAvgPool3d(1), dropout=nn.Dropout(dropout)))
        self.num_features = num_features
        self.reset_classifier(num_classes)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Clips [B, 3, T, H, W] to the last feature map [B, num_features, T', H', W'] (8 x 224 x 224: 4 x 7 x 7)."""
        self._check_clips(x)
        x = self.conv1(x)  # [B, 3, T, H, W] -> [B, 32, T, H/4, W/4]
        x = self.conv2(x)  # -> [B, 256, T, H/4, W/4]
        x = self.conv3(x)  # -> [B, 512, T/2, H/8, W/8]
        x = self.conv4(x)  # -> [B, 1024, T/2, H/16, W/16]
        x = self.conv5(x)  # -> [B, 2048, T/2, H/32, W/32]
        return self.tail(x)

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Clips [B, 3, T, H, W] to the maps after conv2, conv3, conv4 and, normalized by `tail`, conv5."""
        self._check_clips(x)
        conv2 = self.conv2(self.conv1(x))
        conv3 = self.conv3(conv2)
        conv4 = self.conv4(conv3)
        return [conv2, conv3, conv4, self.tail(self.conv5(conv4))]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.globalpool(self.forward_features(x))
        return self.classifier(x.flatten(1))

    def adapt_weights(self, weights: Mapping[str, torch.Tensor], resize: bool = False) -> dict[str, torch.Tensor]:
        """Converts a file's state dict to this network's. No entry depends on the size of the clips."""
        return dict(weights)

    def _check_clips(self, x: torch.Tensor) -> None:
        if x.dim() != 5 or x.shape[1] != 3 or any(map(lt, x.shape[2:], self.min_size)):
            least = " x ".join(map(str, self.min_size))
            raise ValueError(
                f"the network takes RGB clips [B, 3, T, H, W] of at least T x H x W = {least}, not {list(x.shape)}"
            )


def _product(strides: Collection[Triple]) -> Triple:
    """The stride of all of them in sequence."""
    time, height, width = map(prod, zip(*strides, strict=True))
    return time, height, width


def _make_stage(
    num_in: int, stage: Stage, unit_blocks: Collection[int], unit: Callable[[int, int], nn.Module]
) -> nn.Sequential:
    """Blocks B01, B02, ...; a unit that follows block B01 is called B01_extra."""
    num_out = 4 * stage.width
    parts = OrderedDict()
    for block in range(1, stage.num_blocks + 1):
        parts[f"B{block:02d}"] = Bottleneck(
            num_in=num_in if block == 1 else num_out,
            num_mid=stage.width,
            num_out=num_out,
            stride=stage.stride if block == 1 else (1, 1, 1),
            num_frames=3 if block in stage.temporal_blocks else 1,
        )
        if block in unit_blocks:
            parts[f"B{block:02d}_extra"] = unit(num_out, stage.width)
    return nn.Sequential(parts)


def resnet_stages(conv2: int, conv3: int, conv4: int, conv5: int) -> tuple[Stage, ...]:
    """The paper's table for its Kinetics networks, from the number of blocks in each stage."""
    return (
        Stage(conv2, width=64, stride=(1, 1, 1), temporal_blocks=range(1, conv2 + 1)),
        Stage(conv3, width=128, stride=(2, 2, 2), temporal_blocks=range(1, conv3 + 1, 2)),
        Stage(conv4, width=256, stride=(1, 2, 2), temporal_blocks=range(1, conv4 + 1, 2)),
        Stage(conv5, width=512, stride=(1, 2, 2), temporal_blocks=(2,)),
    )


R50 = resnet_stages(3, 4, 6, 3)
R101 = resnet_stages(3, 4, 23, 3)
# For small frames and small motions: narrow, and time is not strided before conv4.
DEBUG = (
    Stage(1, width=8, stride=(1, 1, 1), temporal_blocks=(1,)),
    Stage(2, width=16, stride=(1, 2, 2), temporal_blocks=(1, 2)),
    Stage(2, width=32, stride=(2, 2, 2), temporal_blocks=(1, 2)),
    Stage(1, width=64, stride=(1, 2, 2), temporal_blocks=(1,)),
)
R50_UNITS = {"conv3": (1, 3), "conv4": (1, 3, 5)}
R101_UNITS = {"conv3": (1, 3), "conv4": (6, 12, 18)}
DEBUG_UNITS = {"conv3": (1,), "conv4": (1,)}


def glore_resnet50_3d(
    num_classes: int = 400,
    units: Units = R50_UNITS,
    unit: Callable[[int, int], nn.Module] = GloReUnit,
    dropout: float = 0.0,
) -> ResNet3d:
    """The paper's ResNet-50 (3-D) with five units, 2 in conv3 and 3 in conv4."""
    return ResNet3d(R50, num_classes, units, unit, dropout=dropout)


def glore_resnet101_3d(
    num_classes: int = 400,
    units: Units = R101_UNITS,
    unit: Callable[[int, int], nn.Module] = GloReUnit,
    dropout: float = 0.0,
) -> ResNet3d:
    """The paper's ResNet-101 (3-D) with five units, 2 in conv3 and 3 in conv4."""
    return ResNet3d(R101, num_classes, units, unit, dropout=dropout)


def resnet50_3d(num_classes: int = 400, dropout: float = 0.0) -> ResNet3d:
    """The same ResNet-50 (3-D) without units: the baseline."""
    return ResNet3d(R50, num_classes, dropout=dropout)


def resnet101_3d(num_classes: int = 400, dropout: float = 0.0) -> ResNet3d:
    """The same ResNet-101 (3-D) without units: the baseline."""
    return ResNet3d(R101, num_classes, dropout=dropout)


def glore_resnet_debug_3d(
    num_classes: int = 400,
    units: Units = DEBUG_UNITS,
    unit: Callable[[int, int], nn.Module] = GloReUnit,
    dropout: float = 0.0,
) -> ResNet3d:
    """A tiny network with a unit in conv3 and one in conv4: for tests, and for 8 x 64 x 64 clips on a laptop."""
    return ResNet3d(DEBUG, num_classes, units, unit, stem_width=16, dropout=dropout)


def resnet_debug_3d(num_classes: int = 400, dropout: float = 0.0) -> ResNet3d:
    """The same tiny network without units."""
    return ResNet3d(DEBUG, num_classes, stem_width=16, dropout=dropout)
