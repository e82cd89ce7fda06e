"""Precise batch norm computes the statistics of all batches together."""

import torch
from torch import nn

from engine.distributed import Ranks
from engine.precise_bn import update_batch_norm

ALONE = Ranks(0, 1, torch.device("cpu"))


def test_statistics_cover_all_batches():
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    data = torch.randn(40, 50, 3) * torch.tensor([1.0, 2.0, 5.0]) + torch.arange(40.0)[:, None, None]
    weights = model[1].weight.clone()
    assert update_batch_norm(model, model, iter(data), ALONE) == 40
    everything = data.flatten(0, 1)
    torch.testing.assert_close(model[0].running_mean, everything.mean(0))
    torch.testing.assert_close(model[0].running_var, everything.var(0, correction=0))
    assert model[0].momentum == 0.1 and model.training and torch.equal(weights, model[1].weight)


def test_a_network_without_batch_norm_is_unchanged():
    model = nn.Linear(3, 2).eval()
    assert update_batch_norm(model, model, iter([]), ALONE) == 0 and not model.training
