"""Runs as tests need them: broken off in a step, and evaluated on two ranks in one process."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import pytest
import torch

from engine.distributed import Ranks
from settings import write_yaml
from tools import train

PLOTS = (
    "engine.run.plot_curves",
    "evaluators.classification_report.plot_confusion",
    "evaluators.detection_report.plot_precision",
    "evaluators.segmentation_report.plot_confusion",
    "tools.common.loading_runs._draw_predictions",
    "tools.common.loading_runs.try_to_write_page",
)
"""What takes most of a short run's time, and has tests of its own."""


@contextlib.contextmanager
def without_plots() -> Iterator[None]:
    """Inside, runs draw no plots, sheets and pages."""
    with contextlib.ExitStack() as stack:
        for name in PLOTS:
            stack.enter_context(mock.patch(name))
        yield


class TwoRanks(Ranks):
    """Simulates two ranks: rank 1 runs first and leaves its value for rank 0, which gathers."""

    values: ClassVar[list] = []

    def gather(self, value):
        self.values.append(value)
        return [self.values.pop(), self.values.pop()] if self.is_main else None

    def on_main(self, function):
        return function()

    def barrier(self):
        pass


@contextlib.contextmanager
def broken_off(task_class: type, step: int, checkpoint: Path) -> Iterator[None]:
    """Inside, training is interrupted in this step, counted from 1, when the checkpoint before it is written."""
    real, calls = task_class.training_step, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == step:
            deadline = time.monotonic() + 60
            while not checkpoint.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            raise KeyboardInterrupt
        return real(*arguments)

    with mock.patch.object(task_class, "training_step", interrupted):
        yield


def train_whole_and_broken(task_class: type, recipe: dict[str, Any], folder: Path) -> tuple[Path, Path]:
    """Two runs of a recipe, the second broken off in step 4 and resumed -> their folders. Both end with equal weights.

    The recipe must write a checkpoint at step 2.
    """
    path, whole, broken = folder / "recipe.yaml", folder / "whole", folder / "broken"
    path.write_text(write_yaml(recipe))
    train.main(["-c", str(path), f"run.dir={whole}"])
    last = broken / "checkpoints/last.pt"
    with broken_off(task_class, 4, last), pytest.raises(KeyboardInterrupt):
        train.main(["-c", str(path), f"run.dir={broken}"])
    assert torch.load(last, weights_only=True)["samples_seen"] == 2 * recipe["train"]["batch_size"]
    train.main(["-c", str(path), f"run.dir={broken}"])
    ours, theirs = (weights_of(run) for run in (broken, whole))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in theirs)
    return whole, broken


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    """The weights in a run's last checkpoint."""
    return torch.load(run / "checkpoints/last.pt", weights_only=True)["model"]
