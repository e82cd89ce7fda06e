"""Stochastic depth keeps the mean, drops whole samples, and is gone in evaluation."""

import pytest
import torch

from backbones.drop_path import DropPath


def test_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    x = torch.ones(4000, 2, 3)
    dropped = DropPath(0.2)(x)
    samples = dropped.flatten(1)
    assert torch.equal(samples.amin(1), samples.amax(1))
    assert set(samples[:, 0].tolist()) == {0.0, 1.25}
    assert samples.mean() == pytest.approx(1, abs=0.03)


def test_evaluation_and_rate_zero_change_nothing():
    x = torch.randn(3, 2)
    assert DropPath(0.5).eval()(x) is x
    assert DropPath(0.0)(x) is x


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_rates_that_are_no_share(rate):
    with pytest.raises(ValueError, match=rf"a share in \[0, 1\), not {rate}"):
        DropPath(rate)
