"""1 x 1 convolution that uses the faster library for matrix products, in inference on a CPU.

torch (2.15) runs linear layers with MKL and convolutions with oneDNN, which reorders the weights at every call. On
Intel's processors, networks of many such layers are a few per cent faster with MKL (docs/speed.md), but not on large
maps, where MKL adds the bias in another pass; on AMD's, MKL is slow.
"""

import functools
import platform
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

MOST_POSITIONS = 4096
"""The largest maps [B, C, H, W], by B * H * W, that go to MKL."""
CPU_INFO = Path("/proc/cpuinfo")


def pointwise_conv2d(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, dilation: tuple[int, int] = (1, 1)
) -> torch.Tensor:
    """`F.conv2d`; engine/precision.py explains why `dilation` may matter.

    Shapes: x [B, C, H, W]; weight [D, C, 1, 1]; bias [D] -> [B, D, H, W].
    """
    is_inference = not (torch.is_grad_enabled() or torch.compiler.is_compiling())
    if is_inference and x.device.type == "cpu" and x[:, 0].numel() <= MOST_POSITIONS and is_intel():
        return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
    return F.conv2d(x, weight, bias, dilation=dilation)


class PointwiseConv(nn.Conv2d):
    """1 x 1 convolution: [B, num_in, H, W] -> [B, num_out, H, W]."""

    def __init__(self, num_in: int, num_out: int):
        super().__init__(num_in, num_out, kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return pointwise_conv2d(x, self.weight, self.bias, self.dilation)


@functools.cache
def is_intel() -> bool:
    """Whether this machine has an Intel processor; False if unknown."""
    try:
        return "GenuineIntel" in CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return "GenuineIntel" in platform.processor()
