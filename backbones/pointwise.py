"""1 x 1 convolution, by the library that multiplies matrices faster where no gradient is asked for.

On a CPU torch (2.15) gives linear layers to MKL and convolutions to oneDNN, which lays the weights out anew for every
call. On processors of Intel, networks of many such layers are some per cent faster with MKL (docs/speed.md); on AMD's,
MKL's products are slow.
"""

import functools
import platform
from pathlib import Path

import torch
import torch.nn.functional as F

CPU_INFO = Path("/proc/cpuinfo")


def pointwise_conv2d(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, dilation: tuple[int, int] = (1, 1)
) -> torch.Tensor:
    """`F.conv2d`, to which `dilation` may matter as engine/precision.py says.

    Shapes: x [B, C, H, W]; weight [D, C, 1, 1]; bias [D] -> [B, D, H, W].
    """
    is_inference = not (torch.is_grad_enabled() or torch.compiler.is_compiling())
    if is_inference and x.device.type == "cpu" and is_intel():
        return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
    return F.conv2d(x, weight, bias, dilation=dilation)


@functools.cache
def is_intel() -> bool:
    """Whether Intel made this machine's processor; False where that is not known."""
    try:
        return "GenuineIntel" in CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return "GenuineIntel" in platform.processor()
