"""When a run evaluates and logs follows from counts alone."""

import pytest

from engine.cadence import Cadence
from engine.train_settings import TrainSettings


def evaluations(cadence):
    return [step for step in range(1, cadence.num_steps + 1) if cadence.evaluates(step)]


def cadence(samples, eval_samples, **settings):
    settings = {"num_epochs": 30, "batch_size": 16, "evaluate_every_epochs": "auto"} | settings
    return Cadence(TrainSettings(**settings), samples, eval_samples)


def test_a_small_set_is_evaluated_a_handful_of_times():
    """An evaluation costs (40 views + 48 samples of batch norm) / 3; 1440 training samples pay for five or six."""
    few = cadence(48, 40, precise_bn_batches=10)
    assert few.precise_bn_batches == 3  # one pass over the list, not 160 samples
    assert evaluations(few) == [18, 36, 54, 72, 90]
    assert evaluations(cadence(48, 10_000)) == [18, 36, 54, 72, 90]  # at least five, whatever they cost


def test_a_large_set_is_evaluated_once_per_epoch():
    large = cadence(240_000, 20_000, num_epochs=3, batch_size=64, precise_bn_batches=100)
    assert large.precise_bn_batches == 100 and evaluations(large) == [3750, 7500, 11250]
    assert len(evaluations(cadence(4800, None, num_epochs=7))) == 7  # of a task that does not know its cost


def test_evaluations_take_a_tenth_of_the_time():
    for eval_samples in (200, 400, 800):
        many = cadence(500, eval_samples, num_epochs=100)
        share = len(evaluations(many)) * eval_samples / 3 / (500 * 100)
        assert 0.08 < share / (1 + share) <= 0.1
    with_average = cadence(500, 200, num_epochs=100, ema_decay=0.9)
    assert len(evaluations(with_average)) == len(evaluations(cadence(500, 400, num_epochs=100)))


@pytest.mark.parametrize(("epochs", "at"), [(1.0, [3, 6, 9]), (0.5, [2, 3, 5, 6, 8, 9]), (2.0, [6, 9]), (100.0, [9])])
def test_a_given_period(epochs, at):
    assert evaluations(cadence(48, 10, num_epochs=3, evaluate_every_epochs=epochs)) == at


def test_a_short_run_has_fifty_lines_of_log():
    for samples, every in ((48, 1), (160, 6), (240, 9), (4800, 10)):
        run = cadence(samples, 10)
        assert run.log_every_steps == every
        assert sum(map(run.logs, range(1, run.num_steps + 1))) >= 50
    assert cadence(48, 10, log_every_steps=10).log_every_steps == 10


def test_what_differs_from_the_recipe_is_said(caplog):
    caplog.set_level("INFO")
    cadence(48, 40, precise_bn_batches=10).describe()
    assert "uses 3 batches, one pass over the training list, instead of 10" in caplog.text
    assert "evaluations: 5, one every 6 epochs" in caplog.text
    caplog.clear()
    cadence(48, 40, evaluate_every_epochs=1.0).describe()
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("epochs", "batch_size", "num_steps"), [(1.1, 5, 11), (2.2, 10, 11), (1.12, 5, 12), (1, 50, 1)]
)
def test_a_fraction_of_an_epoch_has_no_step_too_many(epochs, batch_size, num_steps):
    assert TrainSettings(num_epochs=epochs, batch_size=batch_size).num_steps(50) == num_steps
