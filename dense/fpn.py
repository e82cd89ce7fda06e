"""Feature Pyramid Network: every level of a pyramid gets the semantics of all coarser ones.

Paper: Lin et al., Feature Pyramid Networks for Object Detection, CVPR 2017, https://arxiv.org/abs/1612.03144
Reference: OpenMMLab's mmdetection, whose parameter names these are. HorFPN (HorNet's section 3.3) is this network with
`dense.gnconv.GNConvModule` in place of its 3 x 3 convolutions.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from dense.layers import ConvNormAct

Conv = Callable[[int, int], nn.Module]
"""(channels in, channels out) -> a layer that keeps the map's size."""
Extra = Literal["pool", "conv"]

conv3x3 = partial(ConvNormAct, kernel_size=3, activation=False)


class FPN(nn.Module):
    r"""Sums of 1 x 1 convolutions of every level, from coarse to fine; then a layer after each sum.

    .. math::
        s_i = \mathrm{lateral}_i(x_i) + \mathrm{enlarge}(s_{i+1}), \qquad y_i = \mathrm{conv}_i(s_i)

    Maps are enlarged by nearest neighbor. Further levels are every second position of the last output ("pool"), or
    3 x 3 convolutions of stride 2, the first on the last input, every other on the previous one ("conv", RetinaNet's).

    >>> neck = FPN((8, 16, 32), (4, 8, 16), num_channels=8, num_levels=4)
    >>> maps = [torch.randn(2, 8 << i, 24 >> i, 32 >> i) for i in range(3)]
    >>> [list(x.shape) for x in neck(maps)]
    [[2, 8, 24, 32], [2, 8, 12, 16], [2, 8, 6, 8], [2, 8, 3, 4]]

    Args:
        in_channels, in_strides: of the pyramid, fine to coarse.
        num_channels: channels of every output.
        num_levels: outputs; at least as many as used inputs.
        start_level: inputs before this one are left out.
        conv: makes the layer after each sum.
        norm: of the 1 x 1 and further convolutions, see `dense.layers.NORMS`; None: none, and they have biases.
        extra: how outputs beyond the inputs are made.

    Shapes: maps [B, in_channels[i], H_i, W_i] to `num_levels` maps [B, num_channels, H_i, W_i], with strides in
    `strides`; the first `num_inputs` are those of inputs. Each further map has half the sides, rounded up.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        num_channels: int = 256,
        num_levels: int = 5,
        start_level: int = 0,
        conv: Conv = conv3x3,
        extra: Extra = "pool",
        norm: str | None = None,
    ):
        super().__init__()
        in_channels, in_strides = in_channels[start_level:], in_strides[start_level:]
        num_further = num_levels - len(in_channels)
        if num_further < 0:
            raise ValueError(f"the neck makes {num_levels} levels, fewer than its {len(in_channels)} inputs")
        if extra not in ("pool", "conv"):
            raise ValueError(f"extra is {extra!r}; expected 'pool' or 'conv'")
        self.extra, self.start_level = extra, start_level
        self.num_channels, self.num_inputs = num_channels, len(in_channels)
        self.strides = (*in_strides, *(in_strides[-1] << i for i in range(1, num_further + 1)))
        self.lateral_convs = nn.ModuleList(
            ConvNormAct(channels, num_channels, norm=norm, activation=False) for channels in in_channels
        )
        convs = [conv(num_channels, num_channels) for _ in in_channels]
        if extra == "conv":
            inputs = [in_channels[-1], *[num_channels] * (num_further - 1)][:num_further]
            convs += [_strided_conv(channels, num_channels, norm) for channels in inputs]
        self.fpn_convs = nn.ModuleList(convs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.groups == 1:
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        maps, num_inputs = maps[self.start_level :], self.num_inputs
        sums = [lateral(x) for lateral, x in zip(self.lateral_convs, maps, strict=True)]
        for i in reversed(range(num_inputs - 1)):
            sums[i] = sums[i] + F.interpolate(sums[i + 1], sums[i].shape[2:], mode="nearest")
        outputs = [conv(x) for conv, x in zip(self.fpn_convs[:num_inputs], sums, strict=True)]
        further = maps[-1]
        for i in range(num_inputs, len(self.strides)):
            if self.extra == "conv":
                further = self.fpn_convs[i](further)
                outputs.append(further)
            else:
                outputs.append(outputs[-1][:, :, ::2, ::2])
        return outputs


def _strided_conv(num_in: int, num_out: int, norm: str | None) -> ConvNormAct:
    layer = ConvNormAct(num_in, num_out, kernel_size=3, norm=norm, activation=False)
    layer.conv.stride = (2, 2)
    return layer
