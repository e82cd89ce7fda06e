"""The training loop on a toy task: weights, samples and interruptions."""

import json
import math
import signal
import time

import pytest
import safetensors
import torch
from engine_toy import ALONE, NUM_SAMPLES, Toy, run_toy
from run_files import lines, weights
from torch import nn

from engine.checkpoint import CheckpointError
from engine.distributed import Ranks
from engine.non_finite import NotFinite
from engine.run import Run
from engine.seeding import seed_position
from engine.signals import Stopped
from engine.train_settings import TrainSettings
from engine.trainer import TooManyFailures


@pytest.fixture(autouse=True)
def no_plots(request, monkeypatch):
    """Plots curves only in the test that checks them: plotting takes longer than a toy run."""
    if "learns" not in request.node.name:
        monkeypatch.setattr("engine.run.plot_curves", lambda *_: None)


def test_a_nan_score_stops_the_run_with_a_report_and_is_not_the_best(tmp_path):
    class TurnsNaN(Toy):
        def evaluate(self, model):
            score = super().evaluate(model)
            has_scored = '"val"' in (tmp_path / "metrics.jsonl").read_text()
            score.shift = math.nan if has_scored else 0.0  # from the second evaluation on
            return score

    with pytest.raises(NotFinite, match=r"weights of step 10: the score is NaN \(point_top1 .*train\.precision"):
        run_toy(tmp_path, TurnsNaN())
    assert [row["score"] is None for row in lines(tmp_path, "val")] == [False, True]
    assert json.loads((tmp_path / "evaluations/val-step-10/summary.json").read_text())["weights"] == "val of step 10"
    with safetensors.safe_open(tmp_path / "checkpoints/best.safetensors", "pt") as best:
        assert best.metadata()["step"] == "5"
    with pytest.raises(NotFinite, match="weights of step 10"):  # again, instead of going on without a score
        run_toy(tmp_path, TurnsNaN())
    assert run_toy(tmp_path)["point_top1"] > 0.5


def test_a_run_sees_every_sample_in_order_and_learns(tmp_path):
    task = Toy()
    summary = run_toy(tmp_path, task, num_epochs=20)
    num_steps = math.ceil(20 * NUM_SAMPLES / 8)
    assert task.seen == list(range(num_steps * 8))
    assert summary["point_top1"] > 0.85
    assert [row["step"] for row in lines(tmp_path)] == [*range(3, num_steps, 3), num_steps]
    assert len(lines(tmp_path, "val")) == 20
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    assert (tmp_path / "checkpoints/best.safetensors").exists()


@pytest.mark.parametrize(("stop_at", "precision"), [(48, "float32"), (56, "bf16"), (88, "fp16")])
def test_an_interrupted_run_ends_in_the_same_weights(tmp_path, stop_at, precision):
    """Even if the checkpoint falls in the middle of an epoch and of a logging window. Includes the averaged weights."""
    options = {"precise_bn_batches": 2, "precision": precision, "ema_decay": 0.9}
    run_toy(tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        run_toy(tmp_path / "cut", Toy(stop_at=stop_at), **options)
    resumed = Toy()
    run_toy(tmp_path / "cut", resumed, **options)
    assert resumed.seen[0] == stop_at // 40 * 40  # resumes from the last checkpoint: every 5 steps of 8
    assert lines(tmp_path / "whole") == lines(tmp_path / "cut")
    for split in ("val", "val_ema"):
        assert lines(tmp_path / "whole", split)[-1]["loss"] == lines(tmp_path / "cut", split)[-1]["loss"]
    for which in ("model", "model_ema"):
        ends = [weights(tmp_path / name, which) for name in ("whole", "cut")]
        for name, tensor in ends[0].items():
            assert torch.equal(tensor, ends[1][name]), name


def test_the_best_of_weights_and_average_is_kept(tmp_path):
    """With a decay near 1 the average stays at its start and the weights win; with 0 both are equal."""
    for decay, best in ((0.9999, "model"), (0.0, "model_ema")):
        folder = tmp_path / best
        summary = run_toy(folder, num_epochs=10, ema_decay=decay)
        plain, average = (lines(folder, split) for split in ("val", "val_ema"))
        assert len(plain) == len(average) == 10
        assert (plain[-1]["loss"] == average[-1]["loss"]) == (decay == 0)
        assert summary["point_top1"] == max(plain[-1]["point_top1"], average[-1]["point_top1"])
        with safetensors.safe_open(folder / "checkpoints/best.safetensors", "pt") as file:
            assert file.metadata()["weights"] == best


def test_the_best_of_negative_scores_is_kept(tmp_path):
    class Shifted(Toy):
        def evaluate(self, model):
            evaluation = super().evaluate(model)
            evaluation.shift = -100.0
            return evaluation

    run_toy(tmp_path, Shifted(), num_epochs=4)
    scores = [row["score"] for row in lines(tmp_path, "val")]
    assert max(scores) <= -99
    with safetensors.safe_open(tmp_path / "checkpoints/best.safetensors", "pt") as file:
        assert float(file.metadata()["score"]) == max(scores)


def test_a_checkpoint_of_another_network_is_rejected(tmp_path):
    run_toy(tmp_path, num_epochs=1)

    class Wider(Toy):
        def build_model(self):
            return nn.Linear(5, 2)

    with pytest.raises(CheckpointError, match=r"last\.pt does not fit the network of this run .*another run\.dir"):
        run_toy(tmp_path, Wider())


def test_a_finished_run_started_again_changes_nothing(tmp_path):
    run_toy(tmp_path)
    before = weights(tmp_path)
    task = Toy()
    run_toy(tmp_path, task)
    assert task.seen == [] and all(torch.equal(before[name], tensor) for name, tensor in weights(tmp_path).items())


def test_accumulation_gives_the_same_step(tmp_path):
    """Without batch norm and dropout, one batch of 8 and four batches of 2 give the same gradient."""

    class Plain(Toy):
        def build_model(self):
            return nn.Linear(4, 2)

    run_toy(tmp_path / "at-once", Plain())
    run_toy(tmp_path / "in-parts", Plain(), accumulation_steps=4)
    for name, tensor in weights(tmp_path / "at-once").items():
        torch.testing.assert_close(tensor, weights(tmp_path / "in-parts")[name], rtol=1e-5, atol=1e-6)


def test_runs_are_reproducible_by_seed(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run_toy(tmp_path / name, seed=seed)
    a, b, c = (weights(tmp_path / name)["0.weight"] for name in "abc")
    assert torch.equal(a, b) and not torch.equal(a, c)
    draws = set()
    for position in (-1, 0, 1):
        seed_position(5, position)
        draws.add(torch.rand(1).item())
    assert len(draws) == 3


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_learns(tmp_path, precision):
    assert run_toy(tmp_path, num_epochs=20, precision=precision)["point_top1"] > 0.85


def test_too_many_unreadable_samples_stop_the_run(tmp_path):
    """The limit is 5 % of the samples of the epochs begun: 1.85 of 37."""
    with pytest.raises(
        TooManyFailures, match=r"2 of 24 samples could not be read.*max_unreadable=0\.05 (.|\n)*failures"
    ):
        run_toy(tmp_path, Toy(fail=(3, 5, 60)))
    failures = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
    assert [failure["index"] for failure in failures] == [3, 5]
    run_toy(tmp_path / "patient", Toy(fail=(3, 5, 60)), max_unreadable=0.1)
    shares = [(row["step"], row["unreadable"]) for row in lines(tmp_path / "patient") if row["unreadable"]]
    assert shares == [(3, 2 / 24), (9, 1 / 24)]
    # One bad file in 37, last in the first epoch and first in the second: 2 of 40 are no more than 4 % of two epochs.
    run_toy(tmp_path / "late", Toy(fail=(36, 37)), max_unreadable=0.04, log_every_steps=1)


@pytest.mark.parametrize(("poison", "saved"), [(30, None), (70, 5), (40, 5)])
def test_a_nan_loss_stops_the_run(tmp_path, poison, saved):
    """Checkpoints are written every 5 steps of 8 samples, but never with weights that saw the bad step."""
    step = poison // 8 + 1
    rows = ", ".join(map(str, range(8 * step - 8, 8 * step)))
    message = rf"the loss of step {step} is not finite \(learning rate 0\.\d+; 8 samples, .*: {rows}\).*Lower optimizer"
    with pytest.raises(FloatingPointError, match=message):
        run_toy(tmp_path, Toy(poison=poison))
    newest = Run(tmp_path, ALONE).checkpoints.read_newest()
    assert (newest and newest["progress"]["step"]) == saved
    run_toy(tmp_path)  # resumes once the data is repaired
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path).values())


def test_the_part_of_the_loss_that_is_nan_is_named(tmp_path):
    class TwoHeads(Toy):
        def training_step(self, model, batch):
            loss, sums = super().training_step(model, batch)
            left = loss.detach() * 0 if self.poison in batch["index"] else loss.detach()
            return loss, sums | {"loss_left": left.nan_to_num(), "loss_right": loss}

    with pytest.raises(FloatingPointError, match=r"the loss \(loss_right\) of step 4 is not finite"):
        run_toy(tmp_path, TwoHeads(poison=30))


def test_a_nan_step_is_skipped_if_the_recipe_asks_for_it(tmp_path, caplog):
    """It leaves no trace, not even in batch norm statistics or logged averages."""

    class WithoutStep9(Toy):
        def training_step(self, model, batch):
            loss, sums = super().training_step(model, batch)
            return (loss * float("nan") if 64 in batch["index"] else loss), sums

    class InfiniteStep9(Toy):  # an infinite loss with a finite gradient
        def training_step(self, model, batch):
            loss, sums = super().training_step(model, batch)
            return (loss + float("inf") if 64 in batch["index"] else loss), sums

    run_toy(tmp_path / "poisoned", Toy(poison=70), non_finite="skip", ema_decay=0.9)
    assert "the loss of step 9 is not finite" in caplog.text and "step skipped (1 so far)" in caplog.text
    run_toy(tmp_path / "without", WithoutStep9(), non_finite="skip", ema_decay=0.9)
    for which in ("model", "model_ema"):
        ours, theirs = (weights(tmp_path / name, which) for name in ("poisoned", "without"))
        assert all(tensor.isfinite().all() and torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    assert lines(tmp_path / "poisoned") == lines(tmp_path / "without")
    run_toy(tmp_path / "half", Toy(poison=70), non_finite="skip", precision="fp16")
    run_toy(tmp_path / "infinite", InfiniteStep9(), non_finite="skip", precision="fp16")
    ours, theirs = (weights(tmp_path / name) for name in ("half", "infinite"))
    assert all(tensor.isfinite().all() and torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    run_toy(tmp_path / "plain", ema_decay=0.9)
    run_toy(tmp_path / "patient", non_finite="skip", ema_decay=0.9)  # no effect if there is nothing to skip
    ours, theirs = (weights(tmp_path / name) for name in ("plain", "patient"))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


class NaNGradient(torch.autograd.Function):
    """The identity, but its gradient is NaN, as that of a square root at 0 may be."""

    @staticmethod
    def forward(_, x):
        return x.clone()

    @staticmethod
    def backward(_, gradient):
        return gradient * math.nan


@pytest.mark.parametrize("num_epochs", [20, 1], ids=["long", "shorter than 30 steps"])
def test_float16_without_any_finite_gradient_is_no_training(tmp_path, num_epochs):
    class NeverFinite(Toy):
        def training_step(self, model, batch):
            loss, sums = super().training_step(model, batch)
            return NaNGradient.apply(loss), sums

    with pytest.raises(
        NotFinite, match=r"NaN or infinite at every loss scale, .* up to \d+ did not change the weights"
    ):
        run_toy(tmp_path, NeverFinite(), precision="fp16", num_epochs=num_epochs)


def test_a_run_stops_after_too_many_skipped_steps(tmp_path):
    class Hopeless(Toy):
        def training_step(self, model, batch):
            loss, sums = super().training_step(model, batch)
            return loss / 0, sums

    with pytest.raises(FloatingPointError, match="20 steps in a row were skipped"):
        run_toy(tmp_path, Hopeless(), non_finite="skip")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_makes_a_run_save_and_it_resumes_exactly(tmp_path, name):
    class Interrupted(Toy):
        def train_batches(self, *arguments):
            for batch in super().train_batches(*arguments):
                if batch["index"][0] == 8 * 12:
                    signal.raise_signal(getattr(signal, name))  # while step 13 reads its data
                yield batch

    run_toy(tmp_path / "whole", ema_decay=0.9)
    with pytest.raises(Stopped, match=f"{name} after step 1[345]"):
        run_toy(tmp_path / "cut", Interrupted(), ema_decay=0.9)
    saved = torch.load(tmp_path / "cut/checkpoints/last.pt", weights_only=True)["progress"]["step"]
    assert saved in (13, 14, 15)
    resumed = Toy()
    run_toy(tmp_path / "cut", resumed, ema_decay=0.9)
    assert resumed.seen[0] == 8 * saved
    assert lines(tmp_path / "whole") == lines(tmp_path / "cut")
    for which in ("model", "model_ema"):
        ours, theirs = (weights(tmp_path / folder, which) for folder in ("whole", "cut"))
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_an_interrupted_evaluation_is_repeated(tmp_path):
    """Precise batch norm gives the same statistics again, although its forward passes use dropout."""

    class Interrupted(Toy):
        num_evaluations = 0

        def evaluate(self, model):
            self.num_evaluations += 1
            if self.num_evaluations == 4:  # of the average, at the second evaluation
                signal.raise_signal(signal.SIGTERM)
            return super().evaluate(model)

    options = {"precise_bn_batches": 2, "ema_decay": 0.9, "checkpoint_every_steps": 100}
    run_toy(tmp_path / "whole", **options)
    with pytest.raises(Stopped):
        run_toy(tmp_path / "cut", Interrupted(), **options)
    saved = torch.load(tmp_path / "cut/checkpoints/last.pt", weights_only=True)["progress"]
    assert (saved["step"], saved["evaluated_step"]) == (10, 5)
    resumed = Toy()
    run_toy(tmp_path / "cut", resumed, **options)
    assert resumed.seen[0] == 80
    for split in ("val", "val_ema"):
        ours, theirs = (lines(tmp_path / name, split) for name in ("whole", "cut"))
        assert ours == theirs and len(ours) == 6
    ours, theirs = (weights(tmp_path / name) for name in ("whole", "cut"))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_settings_without_effect_are_reported(tmp_path, caplog):
    run_toy(tmp_path, num_epochs=1, sharding="fsdp", activation_checkpointing=True)
    for name in ("sharding", "activation_checkpointing"):
        assert f"train.{name} is ignored" in caplog.text
    with pytest.raises(ValueError, match="keep_every_steps 7 must be a multiple of checkpoint_every_steps 5"):
        TrainSettings(num_epochs=1, batch_size=1, checkpoint_every_steps=5, keep_every_steps=7)


def test_a_run_that_waits_for_data_warns(tmp_path, caplog):
    class Slow(Toy):
        def train_batches(self, *arguments):
            for batch in super().train_batches(*arguments):
                time.sleep(0.02)
                yield batch

    run_toy(tmp_path, Slow(), num_epochs=1)
    assert "of the time: more data.num_workers" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"compile": True, "activation_checkpointing": True},
            "activation_checkpointing does not work with compile=true",
        ),
        ({"sharding": "fsdp", "gradient_compression": "bf16"}, "gradient_compression does not work with sharding"),
    ],
)
def test_settings_that_exclude_each_other_are_rejected(options, message):
    with pytest.raises(ValueError, match=message):
        TrainSettings(num_epochs=1, batch_size=8, **options)


def test_an_uneven_batch_is_rejected():
    settings = TrainSettings(num_epochs=1, batch_size=10)
    with pytest.raises(
        ValueError, match=r"batch_size=10 cannot be divided evenly among 4 processes.*a multiple of 4, for example 12"
    ):
        settings.samples_per_forward(Ranks(0, 4, torch.device("cpu")))
    with pytest.raises(ValueError, match="must be a multiple of accumulation_steps 3"):
        TrainSettings(num_epochs=1, batch_size=10, accumulation_steps=3)
    with pytest.raises(ValueError, match=r"train\.num_epochs or train\.num_samples"):
        TrainSettings(batch_size=10)


@pytest.mark.slow
@pytest.mark.needs("compiler")
def test_a_compiled_network_trains_like_a_plain_one(tmp_path):
    """Up to rounding. Without dropout, because compiled code draws other random numbers."""

    class Sure(Toy):
        def build_model(self):
            return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))

    run_toy(tmp_path / "compiled", Sure(), compile=True)
    run_toy(tmp_path / "plain", Sure())
    for ours, theirs in zip(lines(tmp_path / "compiled"), lines(tmp_path / "plain"), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
    assert weights(tmp_path / "compiled").keys() == weights(tmp_path / "plain").keys()
