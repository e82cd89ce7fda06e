"""UPerNet: pyramid pooling on the coarsest level, a top-down pathway, and all levels fused at the finest.

Paper: Xiao et al., Unified Perceptual Parsing for Scene Understanding, ECCV 2018, https://arxiv.org/abs/1807.10221
Reference: the UPerHead of OpenMMLab's mmsegmentation 0.25, with which EurNet's and HorNet's segmentors were trained
HorFPN: Rao et al., HorNet, NeurIPS 2022, https://arxiv.org/abs/2207.14284 (section 3.3)

Done differently here: one class for both fusions, which are an argument. Parameter names are mmsegmentation's.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from dense.layers import ConvNormAct, PixelHead, classifier

POOL_SIZES = (1, 2, 3, 6)


def resize(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Resizes bilinearly, aligned at pixel centers, not corners: [B, C, H, W] -> [B, C, *size]."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


class UPerHead(PixelHead):
    r"""Levels of a pyramid to logits at the finest level.

    .. math::
        L_4 &= \mathrm{conv}([x_4, \mathrm{pool}_1(x_4), \mathrm{pool}_2(x_4), \mathrm{pool}_3(x_4),
            \mathrm{pool}_6(x_4)]) \\
        L_i &= \mathrm{lateral}_i(x_i) + \mathrm{up}(L_{i+1}), \qquad P_i = \mathrm{conv}_i(L_i),\ P_4 = L_4 \\
        y &= \mathrm{classify}(\mathrm{fuse}([P_1, \mathrm{up}(P_2), \mathrm{up}(P_3), \mathrm{up}(P_4)]))

    Args:
        in_channels: channels of the levels, fine to coarse.
        num_classes: K.
        channels: channels of every map in the head.
        dropout: fraction of the channels dropped before the classifier in training.
        norm: of every convolution, see `dense.layers.NORMS`.
        fusion: makes the layer that fuses the levels from (channels of all levels together, `channels`). None: a 3 x 3
            convolution with norm and ReLU.

    Shapes: maps [B, C_i, H_i, W_i] to logits [B, K, H_1, W_1].
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        channels: int = 512,
        dropout: float = 0.1,
        norm: str = "batch",
        fusion: Callable[[int, int], nn.Module] | None = None,
    ):
        super().__init__()
        *finer, coarsest = in_channels
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(size), ConvNormAct(coarsest, channels, norm=norm)) for size in POOL_SIZES
        )
        self.bottleneck = ConvNormAct(coarsest + len(POOL_SIZES) * channels, channels, 3, norm)
        self.lateral_convs = nn.ModuleList(ConvNormAct(number, channels, norm=norm) for number in finer)
        self.fpn_convs = nn.ModuleList(ConvNormAct(channels, channels, 3, norm) for _ in finer)
        num_fused = len(in_channels) * channels
        self.fpn_bottleneck = (
            ConvNormAct(num_fused, channels, 3, norm) if fusion is None else fusion(num_fused, channels)
        )
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = classifier(channels, num_classes)

    def forward(self, levels: Sequence[torch.Tensor]) -> torch.Tensor:
        return self.conv_seg(self.dropout(self.fuse(levels)))

    def pool(self, x: torch.Tensor) -> torch.Tensor:
        """The coarsest level, fused with its averages over the whole map, quarters, ninths and 36ths: [B, C, H, W]."""
        pooled = [resize(module(x), x.shape[2:]) for module in self.psp_modules]
        return self.bottleneck(torch.cat([x, *pooled], dim=1))

    def fuse(self, levels: Sequence[torch.Tensor]) -> torch.Tensor:
        """What the classifier sees: [B, channels, H_1, W_1]."""
        *finer, coarsest = levels
        laterals = [lateral(level) for lateral, level in zip(self.lateral_convs, finer, strict=True)]
        laterals.append(self.pool(coarsest))
        for i in reversed(range(len(finer))):
            laterals[i] = laterals[i] + resize(laterals[i + 1], laterals[i].shape[2:])
        maps = [conv(lateral) for conv, lateral in zip(self.fpn_convs, laterals[:-1], strict=True)]
        maps.append(laterals[-1])
        size = maps[0].shape[2:]
        return self.fpn_bottleneck(torch.cat([maps[0], *(resize(level, size) for level in maps[1:])], dim=1))
