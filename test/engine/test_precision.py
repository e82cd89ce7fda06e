"""Memory layout and autocast change how fast a network runs, not what it computes."""

import pytest
import torch
from torch import nn

from engine.precision import autocast, place_model

CPU = torch.device("cpu")


@pytest.mark.parametrize("dim", [2, 3])
def test_channels_last_gives_the_same_results(dim):
    torch.manual_seed(0)
    conv, norm = ((nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d))[dim - 2]
    model = nn.Sequential(
        conv(3, 8, 3, stride=2, padding=1), norm(8), conv(8, 16, 1), conv(16, 4, 1, stride=2)
    ).double()
    x = torch.randn(2, 3, *(8, 12, 10)[:dim], dtype=torch.float64, requires_grad=True)

    def results():
        y = model(x)
        return y, *torch.autograd.grad(y.square().sum(), [x, *model.parameters()])

    before = results()
    place_model(model, CPU, channels_last=True)
    layout = torch.channels_last if dim == 2 else torch.channels_last_3d
    assert model[0].weight.is_contiguous(memory_format=layout)
    for ours, theirs in zip(results(), before, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_autocast_uses_the_requested_dtype():
    x, layer = torch.randn(2, 4), nn.Linear(4, 4)
    dtypes = {}
    for precision in ("float32", "bf16", "fp16"):
        with autocast(precision, CPU):
            dtypes[precision] = layer(x).dtype
    assert dtypes == {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
