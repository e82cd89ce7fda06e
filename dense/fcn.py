"""Fully convolutional heads on one level: the auxiliary head of segmentors, and GloRe's head with a reasoning unit.

Papers: Long et al., Fully Convolutional Networks for Semantic Segmentation, CVPR 2015,
https://arxiv.org/abs/1411.4038; Chen et al., Graph-Based Global Reasoning Networks, CVPR 2019,
https://arxiv.org/abs/1811.12814 (section 4.4)
Reference: the FCNHead of OpenMMLab's mmsegmentation 0.25, whose parameter names `FCNHead` has
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from dense.layers import ConvNormAct, PixelHead, build_norm, classifier


class FCNHead(PixelHead):
    """3 x 3 convolutions with norm and ReLU on one level, then the classifier.

    Args:
        in_channels: channels of the levels, fine to coarse.
        num_classes: K.
        level: the level that it takes; negative: counted from the coarsest.
        channels: channels of its maps.
        num_convs: 3 x 3 convolutions before the classifier.
        dropout: fraction of the channels dropped before the classifier in training.
        norm: of every convolution, see `dense.layers.NORMS`.

    Shapes: maps [B, C_i, H_i, W_i] to logits [B, K, H_level, W_level].
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        level: int = -2,
        channels: int = 256,
        num_convs: int = 1,
        dropout: float = 0.1,
        norm: str = "batch",
    ):
        super().__init__()
        self.level = level
        widths = [in_channels[level]] + [channels] * (num_convs - 1)
        self.convs = nn.Sequential(*(ConvNormAct(width, channels, 3, norm) for width in widths))
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = classifier(channels, num_classes)

    def forward(self, levels: Sequence[torch.Tensor]) -> torch.Tensor:
        return self.conv_seg(self.dropout(self.convs(levels[self.level])))


class GloReHead(PixelHead):
    """GloRe's segmentation head: 3 x 3 convolution, reasoning unit, 3 x 3 convolution, classifier, on one level.

    Assumed, because the authors published only their scores and no public file of theirs shows it: the layers and their
    order (from a copy of what looks like their development code), 64 nodes, states divided by the number of positions,
    batch norm after the unit as in their clip networks.

    Args:
        in_channels: channels of the levels, fine to coarse; the coarsest is taken.
        num_classes: K.
        unit: makes the reasoning unit for a number of channels; it keeps the map's shape.
        channels: channels of its maps.
        dropout: fraction of the channels dropped before the classifier in training.
        norm: of the convolutions, see `dense.layers.NORMS`.

    Shapes: maps [B, C_i, H_i, W_i] to logits [B, K, H_last, W_last].
    """

    classifier_names = ("conv6.1.",)

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        unit: Callable[[int], nn.Module],
        channels: int = 512,
        dropout: float = 0.1,
        norm: str = "batch",
    ):
        super().__init__()
        self.conv51 = _conv_norm_relu(in_channels[-1], channels, norm)
        self.gcn = nn.ModuleDict({"GCN00": unit(channels)})
        self.conv52 = _conv_norm_relu(channels, channels, norm)
        self.conv6 = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(channels, num_classes, kernel_size=1))

    def forward(self, levels: Sequence[torch.Tensor]) -> torch.Tensor:
        return self.conv6(self.conv52(self.gcn["GCN00"](self.conv51(levels[-1]))))


def _conv_norm_relu(num_in: int, num_out: int, norm: str) -> nn.Sequential:
    conv = nn.Conv2d(num_in, num_out, kernel_size=3, padding=1, bias=False)
    return nn.Sequential(conv, build_norm(norm, num_out)[1], nn.ReLU(inplace=True))
