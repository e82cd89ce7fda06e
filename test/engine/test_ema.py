"""The moving average of the weights equals timm's."""

import torch
from timm.utils import ModelEmaV2
from torch import nn

from engine.ema import average_weights


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.register_buffer("table", torch.arange(1000))  # averaging would round some values down


def test_the_average_equals_timms():
    model = Net()
    average, timms = average_weights(model, decay=0.9), ModelEmaV2(model, decay=0.9)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(5):
        model.layers(torch.randn(8, 3)).square().sum().backward()
        optimizer.step()
        average.update_parameters(model)
        timms.update(model)
    ours = average.module.state_dict()
    assert not torch.equal(ours["layers.0.weight"], model.layers[0].weight)
    for name, tensor in timms.module.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(ours[name], tensor, rtol=1e-6, atol=1e-7)
        else:
            assert torch.equal(ours[name], model.state_dict()[name])
