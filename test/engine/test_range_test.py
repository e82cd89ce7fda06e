"""The learning-rate range test: its rates, its end, and its suggestion."""

import numpy as np
import pytest
import torch
from regression import Regression

from engine.distributed import Ranks
from engine.range_test import RangeTest, check_range, has_diverged, range_test, smooth
from engine.task import TaskSettings
from settings import SettingsError, parse_settings

ALONE = Ranks(0, 1, torch.device("cpu"))


def run(**train):
    recipe = {
        "task": "regression",
        "optimizer": {"lr": 0.05, "momentum": 0.0},
        "train": {"num_epochs": 1, "batch_size": 6} | train,
        "run": {"device": "cpu"},
    }
    return range_test(Regression(parse_settings(TaskSettings, recipe), ALONE), ALONE, 1e-4, 100, 80)


def test_the_loss_falls_then_diverges_and_the_suggestion_lies_between(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = run()
    assert len(found.rates) < 80 and found.rates[0] == 1e-4
    assert np.allclose(np.diff(np.log(found.rates)), np.log(1e6) / 79)
    assert 1e-2 < found.suggestion <= found.rates[found.lowest] / 2 < found.rates[-1]
    assert np.array_equal(run().losses, found.losses)
    in_parts = run(accumulation_steps=3)
    assert in_parts.losses[0] == pytest.approx(found.losses[0], rel=0.5)  # dropout differs
    assert not list(tmp_path.iterdir())


def test_a_flat_or_rising_loss_gives_no_suggestion():
    rates = np.geomspace(1e-5, 1, 50)
    assert RangeTest(rates, np.full(50, 2.0)).suggestion is None
    assert RangeTest(rates, np.linspace(1, 3, 50)).suggestion is None
    curve = 2 - 1 / (1 + np.exp(-2 * (np.log10(rates) + 3))) + 5 * (rates > 0.3)
    assert 10**-3.5 < RangeTest(rates, curve).suggestion < 10**-2.5  # where the sigmoid is steepest


def test_when_a_test_ends():
    assert has_diverged([1.0, float("nan")]) and has_diverged([1.0, float("inf")])
    assert not has_diverged([1.0, 0.9, 0.8, 2.9])
    assert has_diverged([1.0, 0.9, 0.8, 5.0, 5.0])
    assert smooth(np.arange(9.0), 1.0)[4] == pytest.approx(4)


@pytest.mark.parametrize(
    ("lowest", "highest", "steps"), [(1, 0.1, 100), (0, 1, 100), (0.1, float("inf"), 100), (0.1, 1, 5)]
)
def test_numbers_that_make_no_range(lowest, highest, steps):
    with pytest.raises(SettingsError, match=r"both must be positive|steps are too few"):
        check_range(lowest, highest, steps)
