"""The steps that image networks are made of."""

import pytest
import torch
from timm.layers import SqueezeExcite as TimmSqueezeExcite
from torch import nn

from glore3d.pre_activation import PreActConv2d, SqueezeExcite, Stem


@pytest.mark.parametrize("kernel_size, stride, dilation", [(1, 1, 1), (3, 1, 1), (3, 2, 1), (3, 1, 4), (1, 2, 1)])
def test_only_the_stride_changes_the_size(kernel_size, stride, dilation):
    step = PreActConv2d(4, 6, kernel_size, stride, dilation, groups=2)
    for size in (7, 12):
        assert step(torch.randn(2, 4, size, size + 1)).shape == (2, 6, -(-size // stride), -(-(size + 1) // stride))


def test_norm_and_relu_come_before_the_convolution_which_has_no_bias():
    step = PreActConv2d(4, 6).double().eval()
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    with torch.no_grad():
        step.bn.running_mean += 0.5
        step.bn.running_var *= 2
        normalized = ((x - 0.5) / (2 + 1e-4) ** 0.5).relu()
        torch.testing.assert_close(step(x), nn.functional.conv2d(normalized, step.conv.weight), rtol=0, atol=1e-12)


def test_squeeze_and_excitation_equals_timms():
    ours, theirs = SqueezeExcite(32).double(), TimmSqueezeExcite(32, rd_channels=2).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 32, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-12)


def test_the_stem_quarters_the_size():
    assert Stem(8, 7)(torch.randn(1, 3, 97, 64)).shape == (1, 8, 25, 16)
    assert Stem(8, 5)(torch.randn(1, 3, 97, 64)).shape == (1, 8, 25, 16)
