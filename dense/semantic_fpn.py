"""Semantic FPN: every level of an FPN is convolved and enlarged step by step to the finest, and these maps are added.

Paper: Kirillov et al., Panoptic Feature Pyramid Networks, CVPR 2019, https://arxiv.org/abs/1901.02446 (section 3.1)
Reference: the FPNHead of OpenMMLab's mmsegmentation 0.25, whose parameter names these are
"""

from collections.abc import Sequence

import torch
from torch import nn

from dense.layers import ConvNormAct, PixelHead, classifier
from dense.upernet import resize


class SemanticFPNHead(PixelHead):
    r"""Levels of an FPN to logits at the finest: :math:`y = \mathrm{classify}(\sum_i \mathrm{up}_i(P_i))`.

    The level of twice the finest stride goes through one 3 x 3 convolution (norm, ReLU) and a twofold enlargement, the
    next one through two of each, and so on; the finest goes through one convolution.

    Args:
        in_channels: channels of the levels, fine to coarse; each level has half the sides of the previous one.
        num_classes: K.
        channels: channels of its maps.
        dropout: fraction of the channels dropped before the classifier in training.
        norm: of every convolution, see `dense.layers.NORMS`.

    Shapes: maps [B, C_i, H_i, W_i] to logits [B, K, H_1, W_1].
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        channels: int = 128,
        dropout: float = 0.1,
        norm: str = "batch",
    ):
        super().__init__()
        self.scale_heads = nn.ModuleList(
            _scale_head(number, channels, num_steps, norm) for num_steps, number in enumerate(in_channels)
        )
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = classifier(channels, num_classes)

    def forward(self, levels: Sequence[torch.Tensor]) -> torch.Tensor:
        size = levels[0].shape[2:]
        total = self.scale_heads[0](levels[0])
        for head, level in zip(self.scale_heads[1:], levels[1:], strict=True):
            total = total + resize(head(level), size)
        return self.conv_seg(self.dropout(total))


def _scale_head(num_in: int, channels: int, num_steps: int, norm: str) -> nn.Sequential:
    """`num_steps` convolutions, each followed by a twofold enlargement; for 0 steps, one convolution."""
    layers: list[nn.Module] = []
    for step in range(max(1, num_steps)):
        layers.append(ConvNormAct(num_in if step == 0 else channels, channels, 3, norm))
        if num_steps:
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    return nn.Sequential(*layers)
