"""The gated layer against its equation, and its parameter names."""

import pytest
import torch
from torch import nn

from backbones.hornet import DepthwiseConv, GnConv
from dense.gnconv import GNConvModule


def depthwise(dim: int) -> nn.Module:
    return nn.Conv2d(dim, dim, 7, padding=3, groups=dim)


def test_the_layer_is_its_equation():
    torch.manual_seed(0)
    layer = GNConvModule(6, 8, depthwise, order=3).double()
    x = torch.randn(2, 6, 9, 11, dtype=torch.float64)
    hidden = layer.proj_in(x)
    p, q = hidden[:, :2], layer.dwconv(hidden[:, 2:])
    p = p * q[:, :2]
    p = layer.pws[0](p) * q[:, 2:6]
    p = layer.pws[1](p) * q[:, 6:]
    torch.testing.assert_close(layer(x), layer.proj_out(p))


def test_it_is_hornets_without_the_third():
    torch.manual_seed(1)
    layer, other = GNConvModule(16, 16, depthwise), GnConv(16, 2, lambda dim: DepthwiseConv(dim, scale=1))
    other.load_state_dict(layer.state_dict())
    x = torch.randn(1, 16, 8, 8)
    torch.testing.assert_close(layer(x), other(x))


def test_norm_and_activation_come_last():
    torch.manual_seed(2)
    layer = GNConvModule(6, 8, depthwise, norm="batch", activation=True).eval()
    assert "bn.weight" in layer.state_dict()
    layer.bn.running_mean.fill_(0.1)
    plain = GNConvModule(6, 8, depthwise)
    plain.load_state_dict(layer.state_dict(), strict=False)
    x = torch.randn(1, 6, 5, 5)
    torch.testing.assert_close(layer(x), layer.bn(plain(x)).relu())


def test_channels_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="order 3 halves its channels 2 times; not 6"):
        GNConvModule(8, 6, depthwise, order=3)
