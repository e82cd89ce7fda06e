"""Image networks with reasoning units: stem, four stages of blocks of any kind, mean over the map, classifier.

Paper: Chen et al., Graph-Based Global Reasoning Networks, CVPR 2019, https://arxiv.org/abs/1811.12814 (section 4.2)
Authors' code: facebookresearch/GloRe keeps that of the image networks inside its weight archives, which were not at
hand. `resnet2d.py` and `dual_path.py` say what is known about each network from other sources, and what is assumed.

Done differently here: one class covers every network and takes its stages as arguments; images may have any size; the
last stages may be dilated instead of strided.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import nn

from glore3d.linear_classifier import LinearClassifier
from glore3d.pre_activation import Norm, Stem, make_norm
from glore3d.unit_positions import Units, check_units, unit_names

STAGES = ("conv2", "conv3", "conv4", "conv5")
STRIDES_AND_DILATIONS = {
    32: ((1, 1, 1), (2, 1, 1), (2, 1, 1), (2, 1, 1)),
    16: ((1, 1, 1), (2, 1, 1), (2, 1, 1), (1, 1, 2)),
    8: ((1, 1, 1), (2, 1, 1), (1, 1, 2), (1, 2, 4)),
}
"""Output stride -> for each stage, the stride of its first block, the dilation there and that of its other blocks.

In a stage without its stride, every other row and column is the map of the strided network. Its first 3 x 3 kernel
still reads the map before the stage, and only what follows has to reach twice as far.
"""


class Stage(Protocol):
    """One row of a network's table: it makes the stage's blocks."""

    num_blocks: int
    num_nodes: int
    """Nodes of a unit in this stage."""

    def make_block(self, num_in: int, stride: int | None, dilation: int, norm: Norm) -> tuple[nn.Module, int]:
        """A block for maps of `num_in` channels, and the channels that it returns; stride None: not the first one."""

    def make_unit(self, num_in: int, normalize: bool, eps: float) -> nn.Module:
        """A unit for maps of `num_in` channels; see `PreActGloReUnit`."""


class BlockLayers:
    """Assigns the parameters of a network of stages to layers, for layer-wise learning rates (`models.LayerDecay`)."""

    num_blocks: tuple[int, ...]
    """Blocks of each stage."""

    @property
    def num_layers(self) -> int:
        """Index of the last layer, the classifier's; see `layer_of`."""
        return sum(self.num_blocks) + 1

    def layer_of(self, name: str) -> int:
        """The layer of a parameter, for learning rates that decay from layer to layer.

        Ours: the stem is layer 0, each block with the unit that follows it is a layer, and the rest is the last layer.
        """
        stage, _, rest = name.partition(".")
        if stage == "conv1":
            return 0
        if stage not in STAGES:
            return self.num_layers
        return sum(self.num_blocks[: STAGES.index(stage)]) + int(rest[1:3])


class ImageNetwork(BlockLayers, LinearClassifier):
    """Image classifier: stem (conv1), stages conv2 to conv5, last norm (tail), mean over the map, classifier.

    Args:
        stem_width, stem_kernel: channels of the first convolution, and the side of its kernel.
        stages: the four rows of the network's table.
        num_classes: number of classes. 0: no classifier; the output is the pooled features.
        units: for each stage that has units, the blocks (counted from 1) that one follows. None: no units.
        unit: makes a unit from (channels of the map, number of nodes): any module that keeps the map's shape, such as
            `partial(GloReUnit, dim=2)`. None: the image networks' own, `PreActGloReUnit`.
        normalize: the image networks' own units divide their nodes' states by the size of the map, and so fit maps of
            any size. The ImageNet networks are for one size and do not need it.
        output_stride: pixels between neighbors of the last map: 32, or 16 or 8, with the last stage or two dilated.
        dropout: fraction of the pooled features dropped before the classifier in training.
        norm: makes the batch norms.
        stem_stride: 4, or 2 or 1 for small images (ours): every map then has two or four times as many rows and
            columns, which `output_stride` does not take into account. No weight changes its shape.

    Shapes: images [B, 3, H, W], normalized, to logits [B, num_classes]. H and W are at least 8 stem_stride. Sides of
    the pyramid's maps are H or W divided by the stride, rounded up.

    Raises:
        ValueError: units are placed after blocks that do not exist, a stride is not supported, or images have the wrong
            rank or are too small.
    """

    def __init__(
        self,
        stem_width: int,
        stem_kernel: int,
        stages: Sequence[Stage],
        num_classes: int = 1000,
        units: Units | None = None,
        unit: Callable[[int, int], nn.Module] | None = None,
        normalize: bool = False,
        output_stride: int = 32,
        dropout: float = 0.0,
        norm: Norm = make_norm,
        stem_stride: int = 4,
    ):
        super().__init__()
        table = dict(zip(STAGES, stages, strict=True))
        units = units or {}
        check_units(units, {name: stage.num_blocks for name, stage in table.items()})
        if output_stride not in STRIDES_AND_DILATIONS:
            raise ValueError(f"output_stride must be 32, 16 or 8, not {output_stride}")
        if stem_stride not in (4, 2, 1):
            raise ValueError(f"stem_stride must be 4, 2 or 1, not {stem_stride}")
        self.unit_names = unit_names(units)
        self.num_blocks = tuple(stage.num_blocks for stage in stages)
        self.pyramid_strides = tuple(min(stride, output_stride) * stem_stride // 4 for stride in (4, 8, 16, 32))
        self.min_size = 8 * stem_stride

        self.conv1 = Stem(stem_width, stem_kernel, norm, stem_stride)
        num_channels, channels = stem_width, []
        for (name, stage), steps in zip(table.items(), STRIDES_AND_DILATIONS[output_stride], strict=True):
            unit_of = partial(_make_unit, stage, unit, normalize, norm)
            parts, num_channels = _make_stage(num_channels, stage, steps, units.get(name, ()), unit_of, norm)
            self.add_module(name, parts)
            channels.append(num_channels)
        self.pyramid_channels = tuple(channels)
        self.num_features = num_channels
        self.tail = nn.Sequential(OrderedDict(bn=norm(num_channels), relu=nn.ReLU(inplace=True)))
        self.globalpool = nn.Sequential(OrderedDict(avg=nn.AdaptiveAvgPool2d(1), dropout=nn.Dropout(dropout)))
        self.reset_classifier(num_classes)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Images [B, 3, H, W] to the last map [B, num_features, H', W'], normalized (224 x 224: 7 x 7)."""
        check_images(x, self.min_size)
        x = self.conv2(self.conv1(x))  # [B, 3, H, W] -> [B, C, H/4, W/4]
        x = self.conv4(self.conv3(x))  # -> H/16, or H / output_stride if that is more
        return self.tail(self.conv5(x))

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Images [B, 3, H, W] to the maps after conv2, conv3, conv4 and, normalized by `tail`, conv5.

        The first three are the sums of their blocks' outputs, without a norm or ReLU, as the next stage gets them and
        as in `ResNet3d`: there is only one norm after the stages, and it belongs to the last map. Heads that expect
        maps of one scale should normalize them.
        """
        check_images(x, self.min_size)
        conv2 = self.conv2(self.conv1(x))  # [B, 3, H, W] -> [B, C, H/4, W/4]
        conv3 = self.conv3(conv2)  # -> H/8
        conv4 = self.conv4(conv3)  # -> H/16, or H / output_stride if that is more
        return [conv2, conv3, conv4, self.tail(self.conv5(conv4))]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.globalpool(self.forward_features(x))
        return self.classifier(x.flatten(1))

    def adapt_weights(self, weights: Mapping[str, torch.Tensor], resize: bool = False) -> dict[str, torch.Tensor]:
        """Converts a file's state dict to this network's. No entry depends on the size of the images."""
        return dict(weights)


def check_images(x: torch.Tensor, min_size: int) -> None:
    if x.dim() != 4 or x.shape[1] != 3 or min(x.shape[2:]) < min_size:
        least = f"{min_size} x {min_size}"
        raise ValueError(f"the network takes RGB images [B, 3, H, W] of at least H x W = {least}, not {list(x.shape)}")


def _make_stage(
    num_in: int,
    stage: Stage,
    steps: tuple[int, int, int],
    unit_blocks: Sequence[int],
    unit: Callable[[int], nn.Module],
    norm: Norm,
) -> tuple[nn.Sequential, int]:
    """Blocks B01, B02, ..., and their channels; a unit that follows block B01 is called B01_extra."""
    stride, dilation, next_dilation = steps
    parts = OrderedDict()
    for number in range(1, stage.num_blocks + 1):
        options = (stride, dilation) if number == 1 else (None, next_dilation)
        parts[f"B{number:02d}"], num_in = stage.make_block(num_in, *options, norm)
        if number in unit_blocks:
            parts[f"B{number:02d}_extra"] = unit(num_in)
    return nn.Sequential(parts), num_in


def _make_unit(
    stage: Stage, unit: Callable[[int, int], nn.Module] | None, normalize: bool, norm: Norm, num_in: int
) -> nn.Module:
    return stage.make_unit(num_in, normalize, norm(1).eps) if unit is None else unit(num_in, stage.num_nodes)
