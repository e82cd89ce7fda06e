"""Batch norm, ReLU, convolution: the step that makes up every block of the image networks.

Paper: He et al., Identity Mappings in Deep Residual Networks, ECCV 2016, https://arxiv.org/abs/1603.05027
Authors' code: https://github.com/facebookresearch/OctConv (utils/symbol/symbol_basic.py, symbol_seblock.py), later
image networks by GloRe's first author, and https://github.com/cypw/DPNs (settings/symbol_basic.py), his earlier ones

Done differently here: kernels may be dilated, and they are initialized as in He et al. (2015); the authors'
initialization is not public.
"""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn

Norm = Callable[[int], nn.BatchNorm2d]  # makes a batch norm for that many channels


def make_norm(num_channels: int, eps: float = 1e-4, momentum: float = 0.08) -> nn.BatchNorm2d:
    """A batch norm with the authors' epsilon and momentum; MXNet's momentum, .92, is one minus torch's."""
    return nn.BatchNorm2d(num_channels, eps=eps, momentum=momentum)


class PreActConv2d(nn.Sequential):
    """Batch norm, ReLU, convolution without bias, padded so that only the stride changes the size.

    Args:
        num_in, num_out: channels.
        kernel_size: side of the kernel, odd.
        stride, dilation, groups: of the convolution.
        norm: makes the batch norm.

    Shapes: [B, num_in, H, W] to [B, num_out, H / stride, W / stride], rounded up.
    """

    def __init__(
        self,
        num_in: int,
        num_out: int,
        kernel_size: int = 1,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        norm: Norm = make_norm,
    ):
        bn = norm(num_in)
        conv = padded_conv(num_in, num_out, kernel_size, stride, dilation, groups)
        super().__init__(OrderedDict(bn=bn, relu=nn.ReLU(inplace=True), conv=conv))


class Stem(nn.Sequential):
    """Convolution of stride 2, batch norm, ReLU, 3 x 3 max pooling of stride 2.

    Args:
        stride: 4 or, for small images (ours), 2: without the pooling, or 1: without any stride.

    Shapes: images [B, 3, H, W] to [B, num_out, H / stride, W / stride], rounded up.
    """

    def __init__(self, num_out: int, kernel_size: int, norm: Norm = make_norm, stride: int = 4):
        max_pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1) if stride == 4 else nn.Identity()
        super().__init__(
            OrderedDict(
                conv=padded_conv(3, num_out, kernel_size, stride=min(stride, 2)),
                bn=norm(num_out),
                relu=nn.ReLU(inplace=True),
                max_pool=max_pool,
            )
        )


def padded_conv(
    num_in: int, num_out: int, kernel_size: int, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Conv2d:
    """Convolution without bias, padded so that only the stride changes the size."""
    padding = dilation * (kernel_size // 2)
    conv = nn.Conv2d(num_in, num_out, kernel_size, stride, padding, dilation, groups, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return conv


class SqueezeExcite(nn.Module):
    r"""Scales each channel by a gate that is computed from the means of all channels.

    .. math:: y_c = x_c\,\sigma(W_2\,\mathrm{ReLU}(W_1 \bar x + b_1) + b_2)_c

    Paper: Hu et al., Squeeze-and-Excitation Networks, CVPR 2018, https://arxiv.org/abs/1709.01507

    Args:
        num_channels: channels C.
        reduction: C over the number of hidden units.

    Shapes: a map [B, C, H, W] to a map of the same shape.
    """

    def __init__(self, num_channels: int, reduction: int = 16):
        super().__init__()
        self.fc1 = nn.Conv2d(num_channels, num_channels // reduction, kernel_size=1)
        self.relu = nn.ReLU(inplace=True)
        self.fc2 = nn.Conv2d(num_channels // reduction, num_channels, kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        means = x.mean((2, 3), keepdim=True)  # [B, C, H, W] -> [B, C, 1, 1]
        return x * self.fc2(self.relu(self.fc1(means))).sigmoid()
