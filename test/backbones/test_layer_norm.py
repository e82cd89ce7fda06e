"""Layer norm of a map: the paper's formula, and the memory layout of the result."""

import pytest
import torch

from backbones.layer_norm import LayerNorm2d


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_normalizes_the_channels_of_every_position(layout):
    norm = LayerNorm2d(6)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(2, 6, 5, 7).contiguous(memory_format=layout)
    variance, mean = torch.var_mean(x, dim=1, keepdim=True, correction=0)
    expected = (x - mean) / (variance + 1e-6).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]
    y = norm(x)
    torch.testing.assert_close(y, expected)
    assert y.is_contiguous(memory_format=torch.channels_last)
