"""Stochastic depth is timm's: it keeps the mean, drops whole samples, and is gone in evaluation."""

import pytest
import torch
from torch import nn

from backbones.stochastic_depth import stochastic_depth


def test_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    x = torch.ones(4000, 2, 3)
    dropped = stochastic_depth(0.2)(x)
    samples = dropped.flatten(1)
    assert torch.equal(samples.amin(1), samples.amax(1))
    assert set(samples[:, 0].tolist()) == {0.0, 1.25}
    assert samples.mean() == pytest.approx(1, abs=0.03)


def test_draws_are_reproducible():
    """One Bernoulli number per sample, so that runs started with our earlier version continue with the same numbers."""
    x = torch.randn(100, 3, 2)
    torch.manual_seed(0)
    kept = x.new_empty(100, 1, 1).bernoulli_(1 - 0.3)
    torch.manual_seed(0)
    assert torch.equal(stochastic_depth(0.3)(x), x * (kept / (1 - 0.3)))


def test_evaluation_and_rate_zero_change_nothing():
    x = torch.randn(3, 2)
    assert stochastic_depth(0.5).eval()(x) is x
    assert isinstance(stochastic_depth(0.0), nn.Identity)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_rates_out_of_range(rate):
    with pytest.raises(ValueError, match=rf"must be in \[0, 1\), not {rate}"):
        stochastic_depth(rate)
