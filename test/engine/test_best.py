"""Which weights of a run are the best, and when a run without gain ends."""

import math

import pytest
import safetensors
import torch
from engine_toy import Toy, run_toy
from run_files import lines, weights


@pytest.fixture(autouse=True)
def no_plots(monkeypatch):
    monkeypatch.setattr("engine.run.plot_curves", lambda *_: None)


class Scripted(Toy):
    """Scores that follow a list of (score, tie_break), one per evaluation."""

    def __init__(self, ranks, **options):
        super().__init__(**options)
        self.ranking = list(ranks)

    def evaluate(self, model):
        number = len(lines(self.folder, "val")) if (self.folder / "metrics.jsonl").exists() else 0
        score = super().evaluate(model)
        rank = self.ranking[min(number, len(self.ranking) - 1)]
        score.shift, score.tie_break = rank[0] - score.top1, rank[1]
        return score


def run_scripted(folder, ranks, stop_at=None, **settings):
    task = Scripted(ranks, stop_at=stop_at)
    task.folder = folder
    run_toy(folder, task, **settings)


def best_step(folder):
    with safetensors.safe_open(folder / "checkpoints/best.safetensors", "pt") as file:
        return int(file.metadata()["step"])


def test_ties_go_to_the_better_tie_break_then_to_the_later_step(tmp_path):
    """Evaluations are after steps 5, 10, 14, 19, 24, 28."""
    for name, tie_breaks, step in (
        ("smaller loss", [-2, -1, -3, -1.5, -2, -3], 10),
        ("equal", [-1, -1, -1, -1, -1, -1], 28),
        ("nan", [-1, math.nan, math.nan, -2, math.nan, -4], 5),
    ):
        run_scripted(tmp_path / name, [(0.5, tie_break) for tie_break in tie_breaks])
        assert best_step(tmp_path / name) == step


def test_a_run_ends_after_evaluations_without_gain(tmp_path, caplog):
    """Equal scores gain by a better tie-break only. The best weights are the latest of equal ones."""
    caplog.set_level("INFO")
    ranks = [(0.5, -2), (0.5, -1), (0.5, -1), (-math.inf, 0), (0.9, 0)]
    patience = {"stop_after_evaluations_without_gain": 2}
    run_scripted(tmp_path / "whole", ranks, **patience)
    assert "ending after step 19 of 28: 2 evaluations without gain" in caplog.text
    assert "the best weights are from step 14" in caplog.text and best_step(tmp_path / "whole") == 14
    assert [row["step"] for row in lines(tmp_path / "whole", "val")] == [5, 10, 14, 19]
    assert lines(tmp_path / "whole")[-1]["step"] == 18  # the last whole line of three steps

    with pytest.raises(KeyboardInterrupt):  # killed in the middle, resumed: the same end
        run_scripted(tmp_path / "cut", ranks, stop_at=8 * 16, **patience)
    run_scripted(tmp_path / "cut", ranks, **patience)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    assert lines(tmp_path / "cut", "val") == lines(tmp_path / "whole", "val")
    for name, tensor in weights(tmp_path / "cut").items():
        assert torch.equal(tensor, weights(tmp_path / "whole")[name])

    run_scripted(tmp_path / "whole", ranks, **patience)  # has ended, and stays so
    assert len(lines(tmp_path / "whole", "val")) == 4
    run_scripted(tmp_path / "whole", ranks, stop_after_evaluations_without_gain=4)  # more patience: it goes on
    run_scripted(tmp_path / "patient", ranks, stop_after_evaluations_without_gain=4)
    assert [row["step"] for row in lines(tmp_path / "whole", "val")] == [5, 10, 14, 19, 24, 28]
    assert lines(tmp_path / "whole") == lines(tmp_path / "patient")
    for name, tensor in weights(tmp_path / "patient").items():  # the schedule was that of the whole run
        assert torch.equal(tensor, weights(tmp_path / "whole")[name])
