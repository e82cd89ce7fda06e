"""What a task's own code returns: mistakes are named, and scalars of NumPy and PyTorch are numbers."""

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from engine_toy import Toy, run_toy

from engine.own_code import RESERVED, check_same_names, check_step, next_batch, score_of, summary_of
from engine.run import report_evaluation
from settings import SettingsError


def evaluation(score=0.5, **summary):
    return SimpleNamespace(score=score, summary=lambda: summary, lines=list, write=lambda folder: None)


def test_scalars_of_numpy_and_torch_are_numbers(tmp_path):
    own = evaluation(np.float32(0.5), a=np.float32(0.25), b=torch.tensor(3), c=np.int64(2), d=torch.ones(()))
    assert summary_of(own) == {"a": 0.25, "b": 3, "c": 2, "d": 1} and score_of(own) == 0.5
    report_evaluation(tmp_path, "own", {}, own)
    assert json.loads((tmp_path / "summary.json").read_text()) == {"a": 0.25, "b": 3, "c": 2, "d": 1}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (np.ones(3), r"ndarray of shape \(3,\)"),
        (torch.ones(2), r"Tensor of shape \(2,\)"),
        ("x", "str"),
        (None, "NoneType"),
    ],
)
def test_other_values_are_named(value, shown):
    with pytest.raises(SettingsError, match=rf"summary\(\) of SimpleNamespace: 'error' is {shown}; expected a number"):
        summary_of(evaluation(error=value))
    with pytest.raises(SettingsError, match=rf"score of SimpleNamespace is {shown}; expected a number"):
        score_of(evaluation(value))


@pytest.mark.parametrize("name", RESERVED)
def test_the_engines_own_names_are_refused(name):
    own = SimpleNamespace(summary=lambda: {name: 1.0})
    with pytest.raises(SettingsError, match=f"the engine writes '{name}' itself; choose another name"):
        summary_of(own)


LOSS = torch.ones((), requires_grad=True)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (LOSS, r"returned Tensor; expected \(loss, sums\)"),
        ((0.5, {"loss": 0.5}), "the loss is float; expected a tensor without axes"),
        ((LOSS.expand(4), {"loss": LOSS}), r"the loss is Tensor of shape \(4,\)"),
        ((LOSS.detach(), {"loss": LOSS}), "no trained parameter has an effect on the loss"),
        ((LOSS, None), "the sums are NoneType; expected a dict with at least 'loss'"),
        ((LOSS, {"error": LOSS}), r"the sums are a dict of \['error'\]; expected a dict with at least 'loss'"),
        ((LOSS, {"loss": LOSS, "loss_a": 0.5}), "'loss_a' is float; expected a tensor without axes"),
        ((LOSS, {"loss": LOSS, "errors": torch.ones(3)}), r"'errors' is Tensor of shape \(3,\); expected a tensor"),
    ],
)
def test_what_a_step_returns(returned, message):
    with pytest.raises(SettingsError, match=f"training_step of int.*{message}"):
        check_step(1, returned)
    check_step(1, (LOSS, {"loss": LOSS, "hits": 3}))


def test_ranks_that_log_other_names_are_told():
    check_same_names([["count", "loss"], ["count", "loss"]])
    with pytest.raises(SettingsError, match="training_step logs 'ok' on some ranks only"):
        check_same_names([["count", "loss", "ok"], ["count", "loss"]])


def test_batches_that_end_early():
    with pytest.raises(SettingsError, match="train_batches of the task ended before training did"):
        next_batch(iter(()))


class OneNumber(Toy):
    def training_step(self, model, batch):
        return super().training_step(model, batch)[0]


def test_a_run_names_the_method(tmp_path):
    with pytest.raises(SettingsError, match=r"training_step of OneNumber returned Tensor; expected \(loss, sums\)"):
        run_toy(tmp_path, OneNumber())


def test_a_report_that_fails_leaves_the_scores(tmp_path, caplog):
    own = evaluation(a=1.0)
    own.write = lambda folder: {}["missing"]
    with caplog.at_level(logging.WARNING):
        report_evaluation(tmp_path, "own", {}, own)
    assert "write() of SimpleNamespace failed" in caplog.text and "KeyError" in caplog.text
    assert (tmp_path / "summary.json").exists()
